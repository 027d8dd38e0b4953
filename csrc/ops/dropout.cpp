// Dropout. The key tells the mask: forward and backward are the same call with the same key.
#include "ops/tensor.h"

namespace ranvier::ops {
namespace {

// The key of this call, from a layer's random state, which moves on.
py::object draw(py::handle state_) {
  const Tensor state = write(state_, DType::u64, {2}, "dropout", "state");
  const Tensor key = scratch(DType::u64, {2});
  run(engine::kernels().draw,
      DrawArgs{reinterpret_cast<RandomState*>(key.data), reinterpret_cast<RandomState*>(state.data)}, 1, 1,
      {writes(key), writes(state)});
  return key.object;
}

py::object dropout(const char* op, py::handle x_, double rate, py::handle key_, py::handle out) {
  if (!(rate >= 0 && rate < 1)) {
    value_error(op, "rate must be at least 0 and below 1; received " + std::to_string(rate));
  }
  const Tensor x = read_float(x_, op, "x");
  const Tensor key = read(key_, op, "key");
  if (key.dtype != DType::u64 || key.shape != Shape{2}) type_error(op, "the key must be two uint64");
  Tensor y = result(out, x, x.shape, op);
  if (y.data != x.data) refuse_overlap(y, x, op, "x");
  run(engine::kernels().dropout, x.dtype,
      DropoutArgs{y.data, x.data, reinterpret_cast<const RandomState*>(key.data), x.size(), rate},
      chunks_of(x.size(), kElements), static_cast<double>(x.size()) * 0.2, {writes(y), reads(x), reads(key)});
  if (y.buffer) y.buffer->constant = x.constant();
  return y.object;
}

}  // namespace

void register_dropout(py::module_& m) {
  m.def("draw", draw);
  m.def("dropout", [](py::handle x, double rate, py::handle key, py::handle out) {
    return dropout("dropout", x, rate, key, out);
  });
  m.def("dropout_backward", [](py::handle dy, double rate, py::handle key, py::handle out) {
    return dropout("dropout_backward", dy, rate, key, out);
  });
}

}  // namespace ranvier::ops
