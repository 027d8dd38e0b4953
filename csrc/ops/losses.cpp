// Losses: value and gradient in one visit; regularisation; the sums of an epoch.
#include "ops/tensor.h"

namespace ranvier::ops {
namespace {

struct Loss {
  const char* name;
  TypedKernel KernelTable::* plain;
  TypedKernel KernelTable::* logits;  // null: there is no such form
  bool sparse;                        // y_true holds labels
};
constexpr Loss kLosses[] = {
    {"mean_squared_error", &KernelTable::mean_squared_error, nullptr, false},
    {"mean_absolute_error", &KernelTable::mean_absolute_error, nullptr, false},
    {"binary_crossentropy", &KernelTable::binary_crossentropy, &KernelTable::binary_crossentropy_logits, false},
    {"categorical_crossentropy", &KernelTable::categorical_crossentropy, &KernelTable::categorical_crossentropy_logits,
     false},
    {"sparse_categorical_crossentropy", &KernelTable::sparse_crossentropy, &KernelTable::sparse_crossentropy_logits,
     true},
};

// Labels as int32, each checked against the number of classes.
Tensor read_labels(py::handle y_true_, const Tensor& y_pred, const char* op) {
  Tensor labels = read(y_true_, op, "y_true");
  const Shape wanted(y_pred.shape.begin(), y_pred.shape.end() - 1);
  require_shape(labels, wanted, op, "y_true", "y_pred needs one label a row:");
  if (labels.buffer) {  // a batch: its labels were checked when they came in
    if (labels.dtype != DType::i32) type_error(op, "labels must be int32");
    return labels;
  }
  if (labels.dtype == DType::f32 || labels.dtype == DType::f64) type_error(op, "labels must be integers");
  const auto wide = py::array_t<int64_t, py::array::c_style | py::array::forcecast>::ensure(labels.object);
  py::array_t<int32_t> narrow(wide.size());
  for (py::ssize_t i = 0; i < wide.size(); ++i) {
    const int64_t label = wide.data()[i];
    if (label < 0 || label >= y_pred.columns()) {
      value_error(op, "label " + integer_text(py::cast<py::array>(labels.object), i) + " at row " + std::to_string(i) +
                          " is out of range: y_pred has " + pluralised(y_pred.columns(), "class") +
                          ", so labels go from 0 to " + std::to_string(y_pred.columns() - 1));
    }
    narrow.mutable_data()[i] = static_cast<int32_t>(label);
  }
  Tensor t = labels;
  t.object = narrow;
  t.data = reinterpret_cast<char*>(narrow.mutable_data());
  t.dtype = DType::i32;
  return t;
}

py::object loss(const Loss& l, py::handle y_true_, py::handle y_pred_, bool from_logits, bool gradient) {
  Tensor y_pred = read_float(y_pred_, l.name, "y_pred");
  if (y_pred.shape.empty()) value_error(l.name, "y_pred must have at least one dimension");
  Tensor y_true;
  if (l.sparse) {
    y_true = read_labels(y_true_, y_pred, l.name);
  } else {
    y_true = read_like(y_true_, y_pred, l.name, "y_true");
    require_shape(y_true, y_pred.shape, l.name, "y_true", "y_pred has");
  }
  if (y_pred.size() == 0) value_error(l.name, "the batch is empty: y_pred is " + text_of(y_pred.shape));

  // Softmax and cross-entropy as one: from what went into the softmax.
  const bool crossentropy = l.logits && l.plain != &KernelTable::binary_crossentropy;
  const bool fused = !from_logits && crossentropy && y_pred.buffer && y_pred.buffer->activation == Activation::softmax;
  const Tensor source = fused ? of(y_pred.buffer->preactivation) : y_pred;

  const KernelTable& k = engine::kernels();
  const TypedKernel& kernel = k.*(from_logits || fused ? l.logits : l.plain);
  const int64_t rows = y_pred.rows();
  const Tensor by_row = scratch(y_pred.dtype, {rows}), value = scratch(y_pred.dtype, {1});
  Tensor dy;
  if (gradient) {
    dy = result(py::none(), y_pred, y_pred.shape, l.name);
    if (dy.buffer) dy.buffer->at_preactivation = fused;
  }
  run(kernel, y_pred.dtype,
      LossArgs{by_row.data, dy ? dy.data : nullptr, y_true.data, source.data, rows, y_pred.columns()}, rows,
      static_cast<double>(rows) * 20 +
          static_cast<double>(y_pred.size()) * (l.logits && !from_logits && !fused ? 1.0 : 0.3),
      {writes(by_row), writes(dy), reads(y_true), reads(source)});
  run(k.mean, y_pred.dtype, MeanArgs{value.data, by_row.data, rows}, 1, static_cast<double>(rows) * 0.1,
      {writes(value), reads(by_row)});

  if (y_pred.buffer) return py::make_tuple(value.object, dy ? dy.object : py::object(py::none()));
  const double number = value.dtype == DType::f32 ? static_cast<double>(*reinterpret_cast<float*>(value.data))
                                                  : *reinterpret_cast<double*>(value.data);
  if (!gradient) return py::float_(number);
  return py::make_tuple(number, dy.object);
}

// scale * (l1 sum|x| + l2 sum x^2); its derivative is written to dx, or added, unless dx is nothing.
Tensor penalty(const Tensor& x, const Tensor& dx, bool add, double l1, double l2, double scale) {
  const KernelTable& k = engine::kernels();
  const int64_t n = x.size(), chunks = chunks_of(n, kElements);
  const Tensor value = scratch(x.dtype, {1}), parts = scratch(DType::f64, {chunks});
  double* sums = reinterpret_cast<double*>(parts.data);
  run(k.penalty, x.dtype, PenaltyArgs{sums, dx ? dx.data : nullptr, x.data, n, l1, l2, scale, add}, chunks,
      static_cast<double>(n) * 0.2, {writes(parts), writes(dx), reads(x)});
  run(k.total, x.dtype, TotalArgs{value.data, sums, chunks, scale}, 1, static_cast<double>(chunks),
      {writes(value), reads(parts)});
  return value;
}

// Of a weight: the derivative joins the variable's gradient.
py::object weight_penalty(py::handle variable_, double l1, double l2) {
  const Tensor variable = read_float(variable_, "regularizer", "the weight");
  const GradientSlot slot = gradient_slot(variable);
  return penalty(variable, slot.tensor, slot.add, l1, l2, 1).object;
}

// Of a layer's output y, divided by the batch size; with its derivative.
py::object activity_penalty(py::handle y_, double l1, double l2) {
  const Tensor y = read_float(y_, "activity_regularizer", "y");
  const Tensor dy = scratch(y.dtype, y.shape);
  const double batch = static_cast<double>(y.shape.empty() ? 1 : y.shape[0]);
  return py::make_tuple(penalty(y, dy, false, l1, l2, 1 / batch).object, dy.object);
}

// sums += (value * weight, weight)
void accumulate(py::handle sums_, py::handle value_, double weight) {
  const Tensor sums = write(sums_, DType::f64, {4}, "accumulate", "sums");
  const Tensor value = read_float(value_, "accumulate", "value");
  run(engine::kernels().accumulate, value.dtype, AccumulateArgs{reinterpret_cast<Sums*>(sums.data), value.data, weight},
      1, 1, {writes(sums), reads(value)});
}

}  // namespace

void register_losses(py::module_& m) {
  for (const Loss& l : kLosses) {
    m.def(l.name, [&l](py::handle y_true, py::handle y_pred, bool from_logits, bool gradient) {
      return loss(l, y_true, y_pred, from_logits, gradient);
    });
  }
  m.def("weight_penalty", weight_penalty);
  m.def("activity_penalty", activity_penalty);
  m.def("accumulate", accumulate);
}

}  // namespace ranvier::ops
