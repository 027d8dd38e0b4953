// Axes in another order.
#include <algorithm>

#include "ops/tensor.h"

namespace ranvier::ops {

bool reorder(const Tensor& y, const Tensor& x, const std::vector<Axis>& axes) {
  // Those of size 1 are left out, and neighbours that x has side by side as well are one.
  std::vector<Axis> walk;
  for (const Axis& axis : axes) {
    if (axis.size == 1) continue;
    if (!walk.empty() && walk.back().step == axis.size * axis.step) {
      walk.back() = {walk.back().size * axis.size, axis.step};
    } else {
      walk.push_back(axis);
    }
  }
  const auto rows = [&] {
    return std::find_if(walk.begin(), walk.end(), [](const Axis& axis) { return axis.step == 1; });
  };
  while (walk.size() < 2 || rows() == walk.end()) walk.insert(walk.begin(), {1, 1});
  if (walk.size() > kAxes) return false;
  TransposeArgs args{};
  args.y = y.data;
  args.x = x.data;
  args.axes = static_cast<int>(walk.size());
  // Where the last is contiguous rows stay rows.
  args.rows = walk.back().step == 1 ? args.axes - 2 : static_cast<int>(rows() - walk.begin());
  for (size_t d = 0; d < walk.size(); ++d) {
    args.sizes[d] = walk[d].size;
    args.steps[d] = walk[d].step;
  }
  const DType moved = bytes_of(x.dtype) == 4 ? DType::f32 : DType::f64;
  run(engine::kernels().transpose, moved, args, transpose_chunks(args), static_cast<double>(y.size()) * 0.5,
      {writes(y), reads(x)});
  return true;
}

namespace {

py::object transpose(py::handle x_, const Shape& axes, py::handle out) {
  const char* op = "transpose";
  const Tensor x = read_float(x_, op, "x");
  const size_t rank = x.shape.size();
  Shape order = axes, sorted, all;
  for (int64_t& d : order) d += d < 0 ? static_cast<int64_t>(rank) : 0;
  sorted = order;
  std::sort(sorted.begin(), sorted.end());
  for (size_t d = 0; d < rank; ++d) all.push_back(static_cast<int64_t>(d));
  if (sorted != all) {
    value_error(op, "axes must name each axis of x once: x is " + text_of(x.shape) + ", axes are " + text_of(axes));
  }
  std::vector<Axis> of_x(rank), walk;
  int64_t step = 1;
  for (size_t d = rank; d-- > 0; step *= x.shape[d]) of_x[d] = {x.shape[d], step};
  Shape shape;
  for (const int64_t d : order) {
    walk.push_back(of_x[static_cast<size_t>(d)]);
    shape.push_back(walk.back().size);
  }
  const Tensor y = result(out, x, shape, op);
  refuse_overlap(y, x, op, "x");
  if (y.buffer) y.buffer->constant = x.constant();
  if (x.size() && !reorder(y, x, walk)) value_error(op, "x has too many axes: " + text_of(x.shape));
  return y.object;
}

}  // namespace

void register_transpose(py::module_& m) {
  m.def("transpose", transpose);
}

}  // namespace ranvier::ops
