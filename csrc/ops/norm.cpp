// Normalization by batch, with the relu that often follows it.
#include <algorithm>

#include "ops/tensor.h"

namespace ranvier::ops {
namespace {

constexpr double kByteCost = 0.05;  // nanoseconds

// x as rows and columns: see kernels/norm.h.
struct Layout {
  int64_t rows, channels, fold, block;
  int64_t columns() const { return channels * fold; }
  int64_t chunks() const { return chunks_of(rows, block); }
};

Layout layout_of(const Tensor& x) {
  constexpr int64_t kColumnsFolded = 64, kChunk = 65536;  // elements
  Layout l{x.rows(), x.columns(), 1, 1};
  while (l.rows > 0 && l.rows % 2 == 0 && 2 * l.columns() <= kColumnsFolded) {
    l.rows /= 2;
    l.fold *= 2;
  }
  l.block = std::max<int64_t>(1, kChunk / std::max<int64_t>(1, l.columns()));
  return l;
}

// No cache holds it until it is read again.
bool is_large(const Tensor& x) {
  constexpr int64_t kLarge = 64 << 20;
  return x.bytes() >= kLarge;
}

bool relu_from(const std::string& activation, const char* op) {
  if (activation != "linear" && activation != "relu") {
    value_error(op, "activation must be 'linear' or 'relu'; received '" + activation + "'");
  }
  return activation == "relu";
}

Tensor read_x(py::handle object, const char* op) {
  Tensor x = read_float(object, op, "x");
  if (x.shape.size() < 2 || x.columns() < 1) {
    value_error(op, "x must be (rows, ..., channels) with at least one channel; it is " + text_of(x.shape));
  }
  return x;
}

// One value for each channel; empty where it is None.
Tensor channel_values(py::handle object, const Tensor& x, const char* op, const char* name) {
  Tensor t;
  if (object.is_none()) return t;
  t = read_like(object, x, op, name);
  if (t.shape != Shape{x.columns()}) {
    value_error(op, std::string(name) + " must have one value for each channel: x is " + text_of(x.shape) + ", " +
                        name + " is " + text_of(t.shape));
  }
  return t;
}

bool trained(const Tensor& v) {
  return v && v.buffer && v.buffer->gradient;
}

// Mean, variance, inverse, scale and offset, (5, channels): see kernels/norm.h. Without parts mean and variance are
// given.
void run_statistics(const Tensor& statistics, const Tensor& parts, const Tensor& mean, const Tensor& variance,
                    const Tensor& gamma, const Tensor& beta, const Layout& l, double epsilon) {
  run(engine::kernels().batch_statistics, statistics.dtype,
      BatchStatisticsArgs{statistics.data, reinterpret_cast<const double*>(parts.data), mean.data, variance.data,
                          gamma.data, beta.data, l.rows, l.channels, l.fold, l.block, epsilon},
      chunks_of(l.channels, kColumns), static_cast<double>((parts ? l.chunks() : 1) * l.columns()),
      {writes(statistics), reads(parts), reads(mean), reads(variance), reads(gamma), reads(beta)});
}

// (scale, offset) of y = x * scale + offset, which is what given statistics come to.
py::object batch_norm_affine(py::handle gamma_, py::handle beta_, py::handle mean_, py::handle variance_,
                             double epsilon) {
  const char* op = "batch_normalization";
  const Tensor mean = read_float(mean_, op, "mean"), variance = channel_values(variance_, mean, op, "variance");
  const Tensor gamma = channel_values(gamma_, mean, op, "gamma"), beta = channel_values(beta_, mean, op, "beta");
  const int64_t channels = mean.size();
  const Tensor statistics = scratch(mean.dtype, {5, channels});
  run_statistics(statistics, Tensor(), mean, variance, gamma, beta, Layout{1, channels, 1, 1}, epsilon);
  const py::object part = statistics.object.attr("part");
  const auto row = [&](int64_t i) { return part(i * channels, py::make_tuple(channels)); };
  return py::make_tuple(row(3), row(4));
}

// (y, statistics); mean and variance are x's own if they are None.
py::object batch_norm(py::handle x_, py::handle gamma_, py::handle beta_, py::handle mean_, py::handle variance_,
                      double epsilon, const std::string& activation, py::handle out) {
  const char* op = "batch_normalization";
  const bool relu = relu_from(activation, op);
  const Tensor x = read_x(x_, op);
  const Tensor gamma = channel_values(gamma_, x, op, "gamma"), beta = channel_values(beta_, x, op, "beta");
  const Tensor mean = channel_values(mean_, x, op, "mean"), variance = channel_values(variance_, x, op, "variance");
  if (!mean != !variance) value_error(op, "mean and variance must be given together");
  if (!(epsilon > 0)) value_error(op, "epsilon must be above 0; received " + std::to_string(epsilon));
  const Layout l = layout_of(x);
  if (!mean && l.rows == 0) {
    value_error(op, "an empty batch has no mean and variance: x is " + text_of(x.shape));
  }
  const Tensor y = result(out, x, x.shape, op);
  for (const Tensor* input : {&x, &gamma, &beta, &mean, &variance}) refuse_overlap(y, *input, op, "an input");
  const Tensor statistics = result(py::none(), x, {5, l.channels}, op);
  const KernelTable& k = engine::kernels();
  const double cost = static_cast<double>(x.bytes()) * kByteCost;
  Tensor parts;
  if (!mean) {
    parts = scratch(DType::f64, {l.chunks(), 2, l.columns()});
    run(k.batch_moments, x.dtype,
        BatchMomentsArgs{reinterpret_cast<double*>(parts.data), x.data, l.rows, l.columns(), l.block}, l.chunks(), cost,
        {writes(parts), reads(x)});
  }
  run_statistics(statistics, parts, mean, variance, gamma, beta, l, epsilon);
  run(k.batch_norm, x.dtype,
      BatchNormArgs{y.data, x.data, statistics.data, l.rows, l.channels, l.fold, l.block, relu, is_large(x)},
      l.chunks(), 2 * cost, {writes(y), reads(x), reads(statistics)});
  if (y.buffer) y.buffer->constant = x.constant() && !trained(gamma) && !trained(beta);
  return py::make_tuple(y.object, statistics.object);
}

// As in dense: for a layer (gamma and beta are its variables) their gradients are added to the variables' own and dx is
// returned, None if nobody wants it; for arrays all three are returned.
py::object batch_norm_backward(py::handle dy_, py::handle x_, py::handle statistics_, py::handle gamma_,
                               py::handle beta_, bool given, const std::string& activation, py::handle out) {
  const char* op = "batch_normalization_backward";
  const bool relu = relu_from(activation, op);
  const Tensor x = read_x(x_, op);
  const Tensor dy = read_like(dy_, x, op, "dy");
  require_shape(dy, x.shape, op, "dy", "the output has");
  const Tensor statistics = read_like(statistics_, x, op, "statistics");
  require_shape(statistics, {5, x.columns()}, op, "statistics", "batch_normalization returned");
  const Tensor gamma = channel_values(gamma_, x, op, "gamma"), beta = channel_values(beta_, x, op, "beta");
  const Layout l = layout_of(x);
  const bool layer = x.buffer != nullptr;
  py::object outs[3] = {py::none(), py::none(), py::none()};
  if (!out.is_none()) {
    const auto wanted = py::cast<py::sequence>(out);
    if (wanted.size() != 3) value_error(op, "out must be a tuple (dx, dgamma, dbeta), each an array or None");
    for (size_t i = 0; i < 3; ++i) outs[i] = wanted[i];
  }
  Tensor dx;
  if (!x.constant()) dx = result(outs[0], x, x.shape, op);
  GradientSlot dgamma, dbeta;
  if (layer) {
    dgamma = gradient_slot(gamma);
    dbeta = gradient_slot(beta);
  } else {
    if (gamma) dgamma.tensor = result(outs[1], x, gamma.shape, op);
    if (beta) dbeta.tensor = result(outs[2], x, beta.shape, op);
    for (const Tensor* target : {&dx, &dgamma.tensor, &dbeta.tensor}) {
      if (!*target) continue;
      for (const Tensor* input : {&x, &dy, &statistics, &gamma, &beta}) {
        if (target != &dx || input != &dy || dx.data != dy.data) refuse_overlap(*target, *input, op, "an input");
      }
    }
  }
  const KernelTable& k = engine::kernels();
  const double cost = static_cast<double>(x.bytes()) * kByteCost;
  const Tensor terms = scratch(x.dtype, {2, l.channels});
  const Tensor parts = scratch(DType::f64, {l.chunks(), 2, l.columns()});
  auto* sums = reinterpret_cast<double*>(parts.data);
  run(k.batch_norm_sums, x.dtype,
      BatchNormSumsArgs{sums, dy.data, x.data, statistics.data, l.rows, l.channels, l.fold, l.block, relu}, l.chunks(),
      2 * cost, {writes(parts), reads(dy), reads(x), reads(statistics)});
  run(k.batch_norm_gradients, x.dtype,
      BatchNormGradientsArgs{terms.data, dgamma.tensor.data, dbeta.tensor.data, sums, statistics.data, l.rows,
                             l.channels, l.fold, l.block, given, dgamma.add, dbeta.add},
      chunks_of(l.channels, kColumns), static_cast<double>(l.chunks() * l.columns()),
      {writes(terms), writes(dgamma.tensor), writes(dbeta.tensor), reads(parts), reads(statistics)});
  if (dx) {
    run(k.batch_norm_backward, x.dtype,
        BatchNormBackwardArgs{dx.data, dy.data, x.data, statistics.data, terms.data, l.rows, l.channels, l.fold,
                              l.block, relu, is_large(x)},
        l.chunks(), 3 * cost, {writes(dx), reads(dy), reads(x), reads(statistics), reads(terms)});
  }
  const auto object_of = [](const Tensor& t) { return t ? t.object : py::object(py::none()); };
  if (layer) return object_of(dx);
  return py::make_tuple(dx.object, object_of(dgamma.tensor), object_of(dbeta.tensor));
}

// In place.
void moving_average(py::handle moving_, py::handle value_, double momentum) {
  const char* op = "moving_average";
  if (!(momentum >= 0 && momentum <= 1)) {
    value_error(op, "momentum must be from 0 to 1; received " + std::to_string(momentum));
  }
  const Tensor value = read_float(value_, op, "value");
  const Tensor moving = write(moving_, value.dtype, value.shape, op, "moving");
  run(engine::kernels().moving_average, value.dtype, MovingAverageArgs{moving.data, value.data, value.size(), momentum},
      chunks_of(value.size(), kElements), static_cast<double>(value.bytes()) * kByteCost,
      {writes(moving), reads(value)});
}

}  // namespace

void register_norm(py::module_& m) {
  m.def("batch_norm", batch_norm);
  m.def("batch_norm_backward", batch_norm_backward);
  m.def("batch_norm_affine", batch_norm_affine);
  m.def("moving_average", moving_average);
}

}  // namespace ranvier::ops
