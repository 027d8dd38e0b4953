// Metrics, added up in a buffer of sums.
#include "ops/tensor.h"

namespace ranvier::ops {
namespace {

void accuracy(const TypedKernel& kernel, const char* op, bool sparse, py::handle sums_, py::handle y_true_,
              py::handle y_pred_, double threshold) {
  const Tensor sums = write(sums_, DType::f64, {4}, op, "sums");
  const Tensor y_pred = read_float(y_pred_, op, "y_pred");
  const Tensor y_true = read(y_true_, op, "y_true");
  const Shape rows(y_pred.shape.begin(), y_pred.shape.end() - 1);
  require_shape(y_true, sparse ? rows : y_pred.shape, op, "y_true", "y_pred needs");
  if (y_true.dtype != (sparse ? DType::i32 : y_pred.dtype)) type_error(op, "y_true has the wrong dtype");
  run(kernel, y_pred.dtype,
      AccuracyArgs{reinterpret_cast<Sums*>(sums.data), y_true.data, y_pred.data, y_pred.rows(), y_pred.columns(),
                   threshold},
      1, static_cast<double>(y_pred.rows()) * 10 + static_cast<double>(y_pred.size()) * 0.2,
      {writes(sums), reads(y_true), reads(y_pred)});
}

}  // namespace

void register_metrics(py::module_& m) {
  m.def("binary_accuracy", [](py::handle sums, py::handle y_true, py::handle y_pred, double threshold) {
    accuracy(engine::kernels().binary_accuracy, "binary_accuracy", false, sums, y_true, y_pred, threshold);
  });
  m.def("categorical_accuracy", [](py::handle sums, py::handle y_true, py::handle y_pred) {
    accuracy(engine::kernels().categorical_accuracy, "categorical_accuracy", false, sums, y_true, y_pred, 0);
  });
  m.def("sparse_categorical_accuracy", [](py::handle sums, py::handle y_true, py::handle y_pred) {
    accuracy(engine::kernels().sparse_accuracy, "sparse_categorical_accuracy", true, sums, y_true, y_pred, 0);
  });
}

}  // namespace ranvier::ops
