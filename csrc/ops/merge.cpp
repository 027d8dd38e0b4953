// Merging: element by element with axes of size 1 repeated, concatenation, and a product for each sample.
#include <algorithm>

#include "ops/tensor.h"

namespace ranvier::ops {
namespace {

constexpr double kByteCost = 0.05;  // nanoseconds

Merge rule_from(const std::string& name, const char* op) {
  static const std::pair<const char*, Merge> kRules[] = {{"add", Merge::add},
                                                         {"subtract", Merge::subtract},
                                                         {"multiply", Merge::multiply},
                                                         {"maximum", Merge::maximum},
                                                         {"minimum", Merge::minimum}};
  for (const auto& [known, rule] : kRules) {
    if (name == known) return rule;
  }
  value_error(op, "how must be add, subtract, multiply, maximum or minimum; received '" + name + "'");
}

// The shape that a and b are repeated to.
Shape merged(const Tensor& a, const Tensor& b, const char* op) {
  bool fits = a.shape.size() == b.shape.size();
  Shape shape = a.shape;
  for (size_t d = 0; fits && d < shape.size(); ++d) {
    fits = a.shape[d] == b.shape[d] || a.shape[d] == 1 || b.shape[d] == 1;
    shape[d] = a.shape[d] == 1 ? b.shape[d] : a.shape[d];
  }
  if (!fits) {
    value_error(op, "the shapes do not fit: a is " + text_of(a.shape) + ", b is " + text_of(b.shape) +
                        "; they must be equal but for axes of size 1, which are repeated");
  }
  return shape;
}

Shape steps_of(const Shape& shape, const Shape& repeated) {
  Shape steps(shape.size());
  int64_t step = 1;
  for (size_t d = shape.size(); d-- > 0; step *= shape[d]) steps[d] = shape[d] == repeated[d] ? step : 0;
  return steps;
}

// Axes that are walked alike are one axis.
MergeArgs merge_args(const Tensor& y, const Tensor& a, const Tensor& b, Merge rule, const char* op) {
  const Shape a_steps = steps_of(a.shape, y.shape), b_steps = steps_of(b.shape, y.shape);
  std::vector<Shape> walk;  // {size, step of a, step of b}, the last axis first
  for (size_t d = y.shape.size(); d-- > 0;) {
    const int64_t size = y.shape[d];
    if (size == 1) continue;
    if (!walk.empty() && a_steps[d] == walk.back()[1] * walk.back()[0] &&
        b_steps[d] == walk.back()[2] * walk.back()[0]) {
      walk.back()[0] *= size;
    } else {
      walk.push_back({size, a_steps[d], b_steps[d]});
    }
  }
  if (walk.empty()) walk.push_back({1, 1, 1});
  if (walk.size() > kAxes) value_error(op, "more than 8 axes are repeated by turns: a is " + text_of(a.shape));
  MergeArgs args{};
  args.y = y.data;
  args.a = a.data;
  args.b = b.data;
  args.n = y.size();
  args.columns = walk[0][0];
  args.a_step = walk[0][1];
  args.b_step = walk[0][2];
  args.axes = static_cast<int>(walk.size()) - 1;
  for (int d = 0; d < args.axes; ++d) {
    const Shape& axis = walk[walk.size() - 1 - d];
    args.sizes[d] = axis[0];
    args.a_steps[d] = axis[1];
    args.b_steps[d] = axis[2];
  }
  args.rule = rule;
  return args;
}

void run_merge(const MergeArgs& args, const Tensor& y, const Tensor& a, const Tensor& b, const Tensor& dy = Tensor()) {
  run(engine::kernels().merge, y.dtype, args, chunks_of(args.n, kElements), static_cast<double>(y.bytes()) * kByteCost,
      {writes(y), reads(a), reads(b), reads(dy)});
}

py::object merge(py::handle a_, py::handle b_, const std::string& how, py::handle out) {
  const char* op = "merge";
  const Merge rule = rule_from(how, op);
  const Tensor a = read_float(a_, op, "a"), b = read_like(b_, a, op, "b");
  const Shape shape = merged(a, b, op);
  const Tensor y = result(out, a, shape, op);
  if (y.data != a.data || a.shape != shape) refuse_overlap(y, a, op, "a");
  if (y.data != b.data || b.shape != shape) refuse_overlap(y, b, op, "b");
  run_merge(merge_args(y, a, b, rule, op), y, a, b);
  if (y.buffer) y.buffer->constant = a.constant() && b.constant();
  return y.object;
}

// The sum of x over the axes that are 1 in y.
void run_sum_over(const Tensor& y, const Tensor& x) {
  struct Axis {
    int64_t size, step;
    bool kept;
  };
  std::vector<Axis> walk;  // the last first
  int64_t step = 1;
  for (size_t d = x.shape.size(); d-- > 0; step *= x.shape[d]) {
    const int64_t size = x.shape[d];
    const bool kept = y.shape[d] == size;
    if (size == 1) continue;
    if (!walk.empty() && walk.back().kept == kept) {
      walk.back().size *= size;
    } else {
      walk.push_back({size, step, kept});
    }
  }
  SumOverArgs args{};
  args.y = y.data;
  args.x = x.data;
  args.columns = args.run = 1;
  args.kept = args.summed = 1;
  if (!walk.empty()) {
    (walk[0].kept ? args.columns : args.run) = walk[0].size;
    for (size_t d = walk.size(); d-- > 1;) {
      const Axis& axis = walk[d];
      int& axes = axis.kept ? args.kept_axes : args.summed_axes;
      (axis.kept ? args.kept_sizes : args.summed_sizes)[axes] = axis.size;
      (axis.kept ? args.kept_steps : args.summed_steps)[axes++] = axis.step;
      (axis.kept ? args.kept : args.summed) *= axis.size;
    }
  }
  run(engine::kernels().sum_over, x.dtype, args, args.kept * chunks_of(args.columns, kColumns),
      static_cast<double>(x.bytes()) * kByteCost, {writes(y), reads(x)});
}

// The sum of x over the axes that are 1 in `shape`.
py::object sum_over(py::handle x_, const Shape& shape) {
  const char* op = "sum_over";
  const Tensor x = read_float(x_, op, "x");
  bool fits = shape.size() == x.shape.size();
  for (size_t d = 0; fits && d < shape.size(); ++d) fits = shape[d] == x.shape[d] || shape[d] == 1;
  if (!fits) value_error(op, "x is " + text_of(x.shape) + " and cannot be summed to " + text_of(shape));
  const Tensor y = result(py::none(), x, shape, op);
  run_sum_over(y, x);
  if (y.buffer) y.buffer->constant = x.constant();
  return y.object;
}

// The gradient of one operand: of y's shape, then summed over the axes along which the operand was repeated. For
// Buffers, an operand that is not repeated may be given dy itself.
py::object operand_gradient(const Tensor& dy, const Tensor& a, const Tensor& b, Merge rule, Operand which,
                            py::handle out) {
  const char* op = "merge_backward";
  const Tensor& own = which == Operand::first ? a : b;
  const Tensor& other = which == Operand::first ? b : a;
  if (own.constant()) return py::none();
  const bool repeated = own.shape != dy.shape;
  const bool passes = rule == Merge::add || (rule == Merge::subtract && which == Operand::first);
  if (passes && !repeated && dy.buffer) return dy.object;
  const Tensor dx = result(out, dy, own.shape, op);
  refuse_overlap(dx, a, op, "a");
  refuse_overlap(dx, b, op, "b");
  refuse_overlap(dx, dy, op, "dy");
  if (passes && repeated) {
    run_sum_over(dx, dy);
    return dx.object;
  }
  const Tensor through = repeated ? scratch(dy.dtype, dy.shape) : dx;
  if (passes || rule == Merge::subtract) {
    const Tensor zero = fixed(dy.dtype, Shape(dy.shape.size(), 1));
    const Merge sign = passes ? Merge::add : Merge::subtract;
    run_merge(merge_args(through, zero, dy, sign, op), through, zero, dy);  // 0 + dy, 0 - dy
  } else if (rule == Merge::multiply) {
    run_merge(merge_args(through, dy, other, rule, op), through, dy, other);
  } else {
    MergeArgs args = merge_args(through, a, b, rule, op);
    args.dy = dy.data;
    args.operand = which;
    run_merge(args, through, a, b, dy);
  }
  if (repeated) run_sum_over(dx, through);
  return dx.object;
}

py::object merge_backward(py::handle dy_, py::handle a_, py::handle b_, const std::string& how, py::handle out) {
  const char* op = "merge_backward";
  const Merge rule = rule_from(how, op);
  const Tensor a = read_float(a_, op, "a"), b = read_like(b_, a, op, "b"), dy = read_like(dy_, a, op, "dy");
  require_shape(dy, merged(a, b, op), op, "dy", "a and b give");
  py::object outs[2] = {py::none(), py::none()};
  if (!out.is_none()) {
    const auto given = py::cast<py::sequence>(out);
    if (given.size() != 2) value_error(op, "out must be a pair (da, db), each an array or None");
    for (size_t i = 0; i < 2; ++i) outs[i] = given[i];
    if (!outs[0].is_none()) write(outs[0], a.dtype, a.shape, op, "da");
    if (!outs[1].is_none()) write(outs[1], a.dtype, b.shape, op, "db");
  }
  const py::object da = operand_gradient(dy, a, b, rule, Operand::first, outs[0]);
  return py::make_tuple(da, operand_gradient(dy, a, b, rule, Operand::second, outs[1]));
}

// --- concatenate -----------------------------------------------------------------------------------------------------

struct Parts {
  std::vector<Tensor> xs;
  size_t axis;
  int64_t rows, step;  // the result's rows: what is before the axis; and their elements
  Shape shape;
};
Parts parts_of(const py::sequence& xs, int64_t axis, const char* op) {
  Parts p;
  if (py::len(xs) == 0) value_error(op, "needs at least one input");
  for (const py::handle x : xs) {
    p.xs.push_back(p.xs.empty() ? read_float(x, op, "an input") : read_like(x, p.xs[0], op, "an input"));
  }
  const Shape& first = p.xs[0].shape;
  const int64_t rank = static_cast<int64_t>(first.size());
  if (axis < -rank || axis >= rank) {
    value_error(op, "axis " + std::to_string(axis) + " is out of range: the inputs have shape " + text_of(first));
  }
  p.axis = static_cast<size_t>(axis < 0 ? axis + rank : axis);
  p.shape = first;
  p.shape[p.axis] = 0;
  for (const Tensor& x : p.xs) {
    Shape rest = x.shape;
    if (rest.size() == first.size()) rest[p.axis] = first[p.axis];
    if (rest != first) {
      value_error(op, "the inputs must have equal shapes but for axis " + std::to_string(axis) + ": " + text_of(first) +
                          " and " + text_of(x.shape));
    }
    p.shape[p.axis] += x.shape[p.axis];
  }
  p.rows = 1;
  for (size_t d = 0; d < p.axis; ++d) p.rows *= p.shape[d];
  p.step = 1;
  for (size_t d = p.axis; d < p.shape.size(); ++d) p.step *= p.shape[d];
  return p;
}

// Copies the rows of one part to or from its place in the whole.
void copy_part(const Tensor& to, const Tensor& from, char* y, const char* x, int64_t rows, int64_t bytes,
               int64_t y_step, int64_t x_step) {
  constexpr int64_t kBlockBytes = 32768;
  const int64_t block = std::max<int64_t>(1, kBlockBytes / std::max<int64_t>(bytes, 1));
  run(engine::kernels().copy_rows, CopyRowsArgs{y, x, rows, bytes, y_step, x_step, block}, chunks_of(rows, block),
      static_cast<double>(rows) * (3 + static_cast<double>(bytes) * kByteCost), {writes(to), reads(from)});
}

int64_t part_bytes(const Parts& p, const Tensor& x) {
  return p.rows ? x.bytes() / p.rows : 0;
}

py::object concatenate(const py::sequence& xs, int64_t axis, py::handle out) {
  const char* op = "concatenate";
  const Parts p = parts_of(xs, axis, op);
  const Tensor y = result(out, p.xs[0], p.shape, op);
  for (const Tensor& x : p.xs) refuse_overlap(y, x, op, "an input");
  const int64_t step = p.step * bytes_of(y.dtype);
  int64_t at = 0;
  bool constant = true;
  for (const Tensor& x : p.xs) {
    const int64_t bytes = part_bytes(p, x);
    copy_part(y, x, y.data + at, x.data, p.rows, bytes, step, bytes);
    at += bytes;
    constant = constant && x.constant();
  }
  if (y.buffer) y.buffer->constant = constant;
  return y.object;
}

py::object concatenate_backward(py::handle dy_, const py::sequence& xs, int64_t axis) {
  const char* op = "concatenate_backward";
  const Parts p = parts_of(xs, axis, op);
  const Tensor dy = read_like(dy_, p.xs[0], op, "dy");
  require_shape(dy, p.shape, op, "dy", "the inputs give");
  const int64_t step = p.step * bytes_of(dy.dtype);
  py::list dxs;
  int64_t at = 0;
  for (const Tensor& x : p.xs) {
    const int64_t bytes = part_bytes(p, x);
    if (x.constant()) {
      dxs.append(py::none());
    } else {
      const Tensor dx = result(py::none(), dy, x.shape, op);
      copy_part(dx, dy, dx.data, dy.data + at, p.rows, bytes, bytes, step);
      dxs.append(dx.object);
    }
    at += bytes;
  }
  return dxs;
}

// --- dot -------------------------------------------------------------------------------------------------------------

// An operand of a product for each sample, (rows, ...): the axis that is summed comes first or last among its own.
struct Factor {
  Tensor t;
  int64_t depth, others;  // its size and that of the other axes together
  bool depth_first;       // stored (depth, others), else (others, depth)
  Shape rest;             // the other axes
};
Factor factor_of(py::object given, const Tensor* like, int64_t axis, const char* op, const char* name) {
  Factor f;
  f.t = like ? read_like(given, *like, op, name) : read_float(given, op, name);
  const int64_t rank = static_cast<int64_t>(f.t.shape.size());
  if (axis < 0) axis += rank;
  if (axis < 1 || axis >= rank) {
    value_error(op, std::string("the axis of ") + name +
                        " must be one of its own, and not that of the samples: " + name + " is " + text_of(f.t.shape));
  }
  if (axis != 1 && axis != rank - 1) {
    value_error(op, std::string("the axis of ") + name + " must be its first or its last; permute it before: " + name +
                        " is " + text_of(f.t.shape));
  }
  f.depth = f.t.shape[static_cast<size_t>(axis)];
  f.depth_first = axis == 1;
  f.others = 1;
  for (int64_t d = 1; d < rank; ++d) {
    if (d == axis) continue;
    f.rest.push_back(f.t.shape[static_cast<size_t>(d)]);
    f.others *= f.rest.back();
  }
  return f;
}

// c (m, n) = a b, for each sample. a (m, k) and b (k, n) may be stored the other way round.
struct Side {
  const Tensor& t;
  bool turned;
};
void products(const Tensor& c, const Side& a, const Side& b, int64_t samples, int64_t m, int64_t n, int64_t k) {
  const KernelTable& table = engine::kernels();
  const DType dtype = c.dtype;
  const int wide = dtype == DType::f64;
  MatmulArgs args{};
  args.c = c.data;
  args.a = a.t.data;
  args.b = b.t.data;
  args.m = m;
  args.n = n;
  args.k = k;
  args.a_row = a.turned ? 1 : k;
  args.a_column = a.turned ? m : 1;
  args.b_row = b.turned ? k : n;
  args.transposed = b.turned;
  args.batches = samples;
  args.c_batch = m * n;
  args.a_batch = m * k;
  args.b_batch = k * n;
  run(table.matmul, dtype, args, table.matmul_chunks[wide](args),
      static_cast<double>(samples) * product_cost(dtype, m, n, k), {writes(c), reads(a.t), reads(b.t)});
}

struct Dot {
  Factor a, b;
  int64_t samples;
  Shape shape;
};
Dot dot_of(const py::object& a, const py::object& b, int64_t a_axis, int64_t b_axis, const char* op) {
  Dot d;
  d.a = factor_of(a, nullptr, a_axis, op, "a");
  d.b = factor_of(b, &d.a.t, b_axis, op, "b");
  d.samples = d.a.t.shape[0];
  if (d.b.t.shape[0] != d.samples || d.a.depth != d.b.depth) {
    value_error(op, "the samples and the axes that are summed must be as many: a is " + text_of(d.a.t.shape) +
                        " with axis " + std::to_string(a_axis) + ", b is " + text_of(d.b.t.shape) + " with axis " +
                        std::to_string(b_axis));
  }
  d.shape = {d.samples};
  d.shape.insert(d.shape.end(), d.a.rest.begin(), d.a.rest.end());
  d.shape.insert(d.shape.end(), d.b.rest.begin(), d.b.rest.end());
  if (d.shape.size() == 1) d.shape.push_back(1);
  return d;
}

py::object dot(const py::object& a, const py::object& b, int64_t a_axis, int64_t b_axis, py::handle out) {
  const char* op = "dot";
  const Dot d = dot_of(a, b, a_axis, b_axis, op);
  const Tensor y = result(out, d.a.t, d.shape, op);
  refuse_overlap(y, d.a.t, op, "a");
  refuse_overlap(y, d.b.t, op, "b");
  products(y, {d.a.t, d.a.depth_first && d.a.others > 1}, {d.b.t, !d.b.depth_first && d.b.others > 1}, d.samples,
           d.a.others, d.b.others, d.a.depth);
  if (y.buffer) y.buffer->constant = d.a.t.constant() && d.b.t.constant();
  return y.object;
}

// With y = a b of (m, k) and (k, n): da = dy b^T and db = a^T dy, or their transposes where they are stored so.
py::object dot_backward(py::handle dy_, const py::object& a, const py::object& b, int64_t a_axis, int64_t b_axis) {
  const char* op = "dot_backward";
  const Dot d = dot_of(a, b, a_axis, b_axis, op);
  const Tensor dy = read_like(dy_, d.a.t, op, "dy");
  require_shape(dy, d.shape, op, "dy", "a and b give");
  const int64_t m = d.a.others, n = d.b.others, k = d.a.depth;
  const bool a_turned = d.a.depth_first, b_turned = !d.b.depth_first;  // stored (k, m), (n, k)
  py::object da = py::none(), db = py::none();
  if (!d.a.t.constant()) {
    const Tensor dx = result(py::none(), d.a.t, d.a.t.shape, op);
    if (a_turned) {
      products(dx, {d.b.t, b_turned}, {dy, true}, d.samples, k, m, n);  // (k, m) = b dy^T
    } else {
      products(dx, {dy, false}, {d.b.t, !b_turned}, d.samples, m, k, n);  // (m, k) = dy b^T
    }
    da = dx.object;
  }
  if (!d.b.t.constant()) {
    const Tensor dx = result(py::none(), d.a.t, d.b.t.shape, op);
    if (b_turned) {
      products(dx, {dy, true}, {d.a.t, a_turned}, d.samples, n, k, m);  // (n, k) = dy^T a
    } else {
      products(dx, {d.a.t, !a_turned}, {dy, false}, d.samples, k, n, m);  // (k, n) = a^T dy
    }
    db = dx.object;
  }
  return py::make_tuple(da, db);
}

}  // namespace

void register_merge(py::module_& m) {
  m.def("merge", merge);
  m.def("merge_backward", merge_backward);
  m.def("sum_over", sum_over);
  m.def("concatenate", concatenate);
  m.def("concatenate_backward", concatenate_backward);
  m.def("dot", dot);
  m.def("dot_backward", dot_backward);
}

}  // namespace ranvier::ops
