// Images moved by matrices, and matrices drawn at random.
#include "ops/tensor.h"

namespace ranvier::ops {
namespace {

Fill fill_from(const std::string& name, const char* op) {
  if (name == "constant") return Fill::constant;
  if (name == "nearest") return Fill::nearest;
  if (name == "reflect") return Fill::reflect;
  if (name == "wrap") return Fill::wrap;
  value_error(op, "fill_mode must be constant, nearest, reflect or wrap; received '" + name + "'");
}

// x (images, height, width, channels), matrices (images, 6) or (1, 6) float64.
ResampleArgs resample_args(const Shape& shape, const Tensor& matrices, const Shape& size,
                           const std::string& interpolation, const std::string& fill, double value, const char* op) {
  if (shape.size() != 4) {
    value_error(op, "x must have 4 dimensions (images, height, width, channels); x is " + text_of(shape));
  }
  if (matrices.dtype != DType::f64) type_error(op, "the matrices must be float64");
  const bool one = matrices.shape == Shape{1, 6};
  if (!one && matrices.shape != Shape{shape[0], 6}) {
    value_error(op, "the matrices must be (images, 6) or (1, 6): x is " + text_of(shape) + ", they are " +
                        text_of(matrices.shape));
  }
  if (size.size() != 2 || size[0] < 1 || size[1] < 1) value_error(op, "size must be (height, width), from 1");
  if (interpolation != "bilinear" && interpolation != "nearest") {
    value_error(op, "interpolation must be bilinear or nearest; received '" + interpolation + "'");
  }
  ResampleArgs args{};
  args.matrix = reinterpret_cast<const double*>(matrices.data);
  args.images = shape[0];
  args.height = shape[1];
  args.width = shape[2];
  args.channels = shape[3];
  args.out_height = size[0];
  args.out_width = size[1];
  args.matrix_step = one ? 0 : 6;
  args.fill = fill_from(fill, op);
  args.value = value;
  args.bilinear = interpolation == "bilinear";
  if (!args.height || !args.width) value_error(op, "the images are empty: x is " + text_of(shape));
  return args;
}

double cost_of(const ResampleArgs& a) {
  const int64_t pixels = a.images * a.out_height * a.out_width;
  return static_cast<double>(pixels) * (10 + 2 * static_cast<double>(a.channels));
}

py::object resample(py::handle x_, py::handle matrices_, const Shape& size, const std::string& interpolation,
                    const std::string& fill, double value, py::handle out) {
  const char* op = "resample";
  const Tensor x = read_float(x_, op, "x"), matrices = read(matrices_, op, "matrices");
  ResampleArgs args = resample_args(x.shape, matrices, size, interpolation, fill, value, op);
  const Tensor y = result(out, x, {args.images, size[0], size[1], args.channels}, op);
  refuse_overlap(y, x, op, "x");
  refuse_overlap(y, matrices, op, "the matrices");
  args.y = y.data;
  args.x = x.data;
  run(engine::kernels().resample, x.dtype, args, args.images * args.out_height, cost_of(args),
      {writes(y), reads(x), reads(matrices)});
  if (y.buffer) y.buffer->constant = x.constant();
  return y.object;
}

py::object resample_backward(py::handle dy_, py::handle matrices_, const Shape& shape, const std::string& interpolation,
                             const std::string& fill, py::handle out) {
  const char* op = "resample_backward";
  const Tensor dy = read_float(dy_, op, "dy"), matrices = read(matrices_, op, "matrices");
  if (dy.shape.size() != 4) value_error(op, "dy must have 4 dimensions; dy is " + text_of(dy.shape));
  ResampleArgs args = resample_args(shape, matrices, {dy.shape[1], dy.shape[2]}, interpolation, fill, 0, op);
  require_shape(dy, {shape[0], dy.shape[1], dy.shape[2], shape[3]}, op, "dy", "an image of x gives");
  const Tensor dx = result(out, dy, shape, op);
  refuse_overlap(dx, dy, op, "dy");
  refuse_overlap(dx, matrices, op, "the matrices");
  args.y = dy.data;
  args.x = dx.data;
  run(engine::kernels().resample_backward, dy.dtype, args, args.images, 2 * cost_of(args),
      {writes(dx), reads(dy), reads(matrices)});
  return dx.object;
}

const RandomState* key_of(const Tensor& key, const char* op) {
  if (key.dtype != DType::u64 || key.shape != Shape{2}) type_error(op, "the key must be two uint64");
  return reinterpret_cast<const RandomState*>(key.data);
}

// A matrix for each image, a Buffer (images, 6): of one kind of move within bounds (by height, by width).
py::object draw_moves(py::handle key_, const std::string& move, int64_t images, const Shape& size,
                      const Shape& out_size, const std::vector<double>& bounds, bool together) {
  const char* op = "draw_moves";
  const Tensor key = read(key_, op, "key");
  DrawMovesArgs args{};
  args.key = key_of(key, op);
  const std::pair<const char*, Move> moves[] = {{"flip", Move::flip},
                                                {"shift", Move::shift},
                                                {"rotate", Move::rotate},
                                                {"zoom", Move::zoom},
                                                {"crop", Move::crop}};
  bool known = false;
  for (const auto& [name, kind] : moves) {
    if (move != name) continue;
    args.move = kind;
    known = true;
  }
  if (!known || size.size() != 2 || out_size.size() != 2 || bounds.size() != 4) value_error(op, "bad arguments");
  const Tensor matrices = scratch(DType::f64, {images, 6});
  args.matrix = reinterpret_cast<double*>(matrices.data);
  args.images = images;
  args.height = size[0];
  args.width = size[1];
  args.out_height = out_size[0];
  args.out_width = out_size[1];
  args.low_height = bounds[0];
  args.high_height = bounds[1];
  args.low_width = bounds[2];
  args.high_width = bounds[3];
  args.together = together;
  run(engine::kernels().draw_moves, args, 1, static_cast<double>(images) * 100, {writes(matrices), reads(key)});
  return matrices.object;
}

// A Buffer of numbers in [low, high).
py::object draw_uniform(py::handle key_, const Shape& shape, py::handle dtype, double low, double high) {
  const char* op = "draw_uniform";
  const Tensor key = read(key_, op, "key");
  const Tensor y = scratch(dtype_from(dtype), shape);
  if (y.dtype != DType::f32 && y.dtype != DType::f64) type_error(op, "dtype must be float32 or float64");
  run(engine::kernels().draw_uniform, y.dtype, DrawUniformArgs{y.data, key_of(key, op), y.size(), low, high}, 1,
      static_cast<double>(y.size()) * 20, {writes(y), reads(key)});
  y.buffer->constant = true;
  return y.object;
}

}  // namespace

void register_augment(py::module_& m) {
  m.def("resample", resample);
  m.def("resample_backward", resample_backward);
  m.def("draw_moves", draw_moves);
  m.def("draw_uniform", draw_uniform);
}

}  // namespace ranvier::ops
