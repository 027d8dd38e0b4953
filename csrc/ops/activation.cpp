// activation and softmax, forward and backward.
#include <algorithm>
#include <cstring>
#include <iterator>

#include "ops/tensor.h"

namespace ranvier::ops {
namespace {

constexpr const char* kNames[kActivations] = {"linear", "relu", "leaky_relu", "sigmoid",     "tanh",
                                              "elu",    "selu", "softplus",   "exponential", "hard_sigmoid",
                                              "cap",    "gelu", "gelu_tanh",  "silu",        "softmax"};

double cost_of(const Tensor& t, Activation f) {
  const bool cheap =
      f == Activation::linear || f == Activation::relu || f == Activation::leaky_relu || f == Activation::cap;
  const double rows = f == Activation::softmax ? static_cast<double>(t.rows()) * 15 : 0;
  return (rows + static_cast<double>(t.size()) * (cheap ? 0.1 : 0.2)) * (t.dtype == DType::f64 ? 3 : 1);
}

constexpr const char* kFunctions[] = {"expm1", "log", "log1p", "erf", "sin", "cos"};

py::object function(py::handle x_, const std::string& name, py::handle out) {
  const auto* found = std::find(std::begin(kFunctions), std::end(kFunctions), name);
  if (found == std::end(kFunctions)) value_error("function", "unknown function '" + name + "'");
  const Tensor x = read_float(x_, *found, "x");
  Tensor y = result(out, x, x.shape, *found);
  if (y.data != x.data) refuse_overlap(y, x, *found, "x");
  const auto which = static_cast<Function>(found - kFunctions);
  run(engine::kernels().function, x.dtype, FunctionArgs{y.data, x.data, x.size(), which},
      chunks_of(x.size(), kElements), cost_of(x, Activation::gelu));
  if (y.buffer) y.buffer->constant = x.constant();
  return y.object;
}

py::object activation(const char* op, py::handle x_, Activation f, py::handle alpha, py::handle out) {
  const Tensor x = read_float(x_, op, "x");
  if (f == Activation::softmax && x.shape.empty()) value_error(op, "softmax needs at least one dimension");
  Tensor y = result(out, x, x.shape, op);
  if (y.data != x.data) refuse_overlap(y, x, op, "x");
  run_activation(y, x, f, alpha_from(alpha, f));
  if (y.buffer && x.buffer) {
    y.buffer->constant = x.buffer->constant;
    if (f == Activation::softmax) {
      y.buffer->preactivation = x.object.cast<std::shared_ptr<Buffer>>();
      y.buffer->activation = f;
    }
    if (y.data != x.data) mark_activation(y, f, alpha_from(alpha, f));
  }
  return y.object;
}

py::object activation_backward(const char* op, py::handle dy_, py::handle x_, py::handle y_, Activation f,
                               py::handle alpha, py::handle out) {
  const Tensor dy = read_float(dy_, op, "dy");
  Tensor x, y;
  if (needs_input(f)) {
    if (x_.is_none()) value_error(op, std::string(kNames[static_cast<int>(f)]) + " needs x, its input");
    x = read_like(x_, dy, op, "x");
    require_shape(x, dy.shape, op, "x", "dy has");
  } else {
    if (y_.is_none()) value_error(op, std::string(kNames[static_cast<int>(f)]) + " needs y, its output");
    y = read_like(y_, dy, op, "y");
    require_shape(y, dy.shape, op, "y", "dy has");
  }
  const Tensor& kept = x ? x : y;
  if (kept.constant()) return py::none();
  if (dy.buffer && dy.buffer->at_preactivation) {  // it has been through f already: a gradient of x as any other
    const auto dx = std::make_shared<Buffer>(*dy.buffer);
    dx->at_preactivation = false;
    return py::cast(dx);
  }
  Tensor dx = result(out, dy, dy.shape, op);
  if (dx.data != dy.data) refuse_overlap(dx, dy, op, "dy");
  if (dx.data != kept.data) refuse_overlap(dx, kept, op, x ? "x" : "y");
  run_activation_backward(dx, dy, x, y, f, alpha_from(alpha, f));
  return dx.object;
}

}  // namespace

Activation activation_from(py::handle name, const char* op) {
  const char* text = PyUnicode_Check(name.ptr()) ? PyUnicode_AsUTF8(name.ptr()) : nullptr;
  for (int i = 0; text && i < kActivations; ++i) {
    if (std::strcmp(text, kNames[i]) == 0) return static_cast<Activation>(i);
  }
  std::string known;
  for (const char* k : kNames) known += (known.empty() ? "" : ", ") + std::string(k);
  value_error(op, "unknown activation " + py::cast<std::string>(py::repr(name)) + "; use one of " + known);
}

double alpha_from(py::handle alpha, Activation f) {
  if (alpha.is_none()) return f == Activation::leaky_relu ? 0.2 : 1.0;
  const double value = alpha.cast<double>();
  if (!(value >= 0)) value_error("activation", "alpha must not be negative; received " + std::to_string(value));
  return value;
}

bool needs_input(Activation f) {
  return f == Activation::gelu || f == Activation::gelu_tanh || f == Activation::silu;
}

void mark_activation(const Tensor& y, Activation f, double alpha) {
  if (!y.buffer || needs_input(f) || f == Activation::softmax) return;
  y.buffer->activation = f;
  y.buffer->alpha = alpha;
}

bool goes_through(const Tensor& x, const Tensor& dx) {
  if (!x.buffer || !dx.buffer) return false;
  const Activation f = x.buffer->activation;
  dx.buffer->at_preactivation = f != Activation::linear && f != Activation::softmax && !needs_input(f);
  return dx.buffer->at_preactivation;
}

void run_activation(const Tensor& y, const Tensor& x, Activation f, double alpha) {
  const KernelTable& k = engine::kernels();
  if (f == Activation::softmax) {
    run(k.softmax, x.dtype, SoftmaxArgs{y.data, x.data, nullptr, x.rows(), x.columns()}, x.rows(), cost_of(x, f),
        {writes(y), reads(x)});
  } else {
    run(k.activation, x.dtype, ActivationArgs{y.data, x.data, nullptr, nullptr, x.size(), f, alpha},
        chunks_of(x.size(), kElements), cost_of(x, f), {writes(y), reads(x)});
  }
}

void run_activation_backward(const Tensor& dx, const Tensor& dy, const Tensor& x, const Tensor& y, Activation f,
                             double alpha) {
  const KernelTable& k = engine::kernels();
  if (f == Activation::softmax) {
    run(k.softmax_backward, dy.dtype, SoftmaxArgs{dx.data, y.data, dy.data, dy.rows(), dy.columns()}, dy.rows(),
        cost_of(dy, f), {writes(dx), reads(dy), reads(y)});
  } else {
    run(k.activation_backward, dy.dtype, ActivationArgs{dx.data, x.data, dy.data, y.data, dy.size(), f, alpha},
        chunks_of(dy.size(), kElements), cost_of(dy, f), {writes(dx), reads(dy), reads(x), reads(y)});
  }
}

void register_activation(py::module_& m) {
  m.def("activation", [](py::handle x, py::handle name, py::handle alpha, py::handle out) {
    return activation("activation", x, activation_from(name, "activation"), alpha, out);
  });
  m.def("activation_backward",
        [](py::handle dy, py::handle x, py::handle y, py::handle name, py::handle alpha, py::handle out) {
          const char* op = "activation_backward";
          return activation_backward(op, dy, x, y, activation_from(name, op), alpha, out);
        });
  m.def("function", function);
  m.def("softmax",
        [](py::handle x, py::handle out) { return activation("softmax", x, Activation::softmax, py::none(), out); });
  m.def("softmax_backward", [](py::handle dy, py::handle y, py::handle out) {
    return activation_backward("softmax_backward", dy, py::none(), y, Activation::softmax, py::none(), out);
  });
}

}  // namespace ranvier::ops
