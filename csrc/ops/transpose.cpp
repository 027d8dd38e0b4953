// Axes in another order.
#include <algorithm>

#include "ops/tensor.h"

namespace ranvier::ops {
namespace {

struct Axis {
  int64_t size, step;  // in x
};

// y's axes: those of size 1 are left out, and neighbours that x has side by side as well are one.
std::vector<Axis> walk_of(const Shape& shape, const Shape& order) {
  Shape steps(shape.size());
  int64_t step = 1;
  for (size_t d = shape.size(); d-- > 0; step *= shape[d]) steps[d] = step;
  std::vector<Axis> walk;
  for (const int64_t from : order) {
    const Axis axis{shape[static_cast<size_t>(from)], steps[static_cast<size_t>(from)]};
    if (axis.size == 1) continue;
    if (!walk.empty() && walk.back().step == axis.size * axis.step) {
      walk.back() = {walk.back().size * axis.size, axis.step};
    } else {
      walk.push_back(axis);
    }
  }
  return walk;
}

py::object transpose(py::handle x_, const Shape& axes, py::handle out) {
  const char* op = "transpose";
  const Tensor x = read_float(x_, op, "x");
  const int64_t rank = static_cast<int64_t>(x.shape.size());
  Shape order = axes, sorted, shape;
  for (int64_t& d : order) d += d < 0 ? rank : 0;
  sorted = order;
  std::sort(sorted.begin(), sorted.end());
  for (int64_t d = 0; d < rank; ++d) shape.push_back(d);  // what sorted must be
  if (sorted != shape) {
    value_error(op, "axes must name each axis of x once: x is " + text_of(x.shape) + ", axes are " + text_of(axes));
  }
  for (int64_t d = 0; d < rank; ++d) shape[static_cast<size_t>(d)] = x.shape[static_cast<size_t>(order[d])];
  const Tensor y = result(out, x, shape, op);
  refuse_overlap(y, x, op, "x");
  if (y.buffer) y.buffer->constant = x.constant();
  if (!x.size()) return y.object;

  std::vector<Axis> walk = walk_of(x.shape, order);
  if (walk.empty() || walk.back().step == 1) {  // rows stay rows: single elements of the turned axis are whole rows
    walk.push_back({1, 0});
  }
  if (walk.size() < 2) walk.insert(walk.begin(), {1, 1});
  if (walk.size() > kAxes) value_error(op, "x has too many axes: " + text_of(x.shape));
  TransposeArgs args{};
  args.y = y.data;
  args.x = x.data;
  args.axes = static_cast<int>(walk.size());
  for (int d = 0; d < args.axes; ++d) {
    args.sizes[d] = walk[static_cast<size_t>(d)].size;
    args.steps[d] = walk[static_cast<size_t>(d)].step;
    if (args.steps[d] == 1) args.turned = d;
  }
  args.bytes = bytes_of(x.dtype);
  const int64_t rows = args.sizes[args.turned], columns = args.sizes[args.axes - 1];
  const int64_t parts = chunks_of(rows, kTurn) * chunks_of(columns, kTurnColumns);
  run(engine::kernels().transpose, args, x.size() / (rows * columns) * parts, static_cast<double>(x.size()) * 0.5,
      {writes(y), reads(x)});
  return y.object;
}

}  // namespace

void register_transpose(py::module_& m) {
  m.def("transpose", transpose);
}

}  // namespace ranvier::ops
