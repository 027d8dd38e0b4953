// Pooling: the largest and the mean of windows, in one dimension and two.
#include <algorithm>

#include "ops/tensor.h"

namespace ranvier::ops {
namespace {

constexpr double kByteCost = 0.05;  // nanoseconds

struct Options {
  py::handle pool_size, strides, padding;
};

// An integer of at least 1 for each axis, or one for all.
Shape sizes_from(py::handle object, size_t axes, const char* op, const char* name) {
  constexpr int64_t kMost = 0x7fffffff;
  Shape sizes;
  const auto take = [&](py::handle item) {
    int overflow = 0;
    const bool whole = PyIndex_Check(item.ptr()) && !PyBool_Check(item.ptr());
    const auto number = py::reinterpret_steal<py::object>(whole ? PyNumber_Index(item.ptr()) : nullptr);
    const int64_t value = number ? PyLong_AsLongLongAndOverflow(number.ptr(), &overflow) : 0;
    PyErr_Clear();
    sizes.push_back(overflow || value > kMost ? 0 : value);
  };
  if (PyTuple_Check(object.ptr()) || PyList_Check(object.ptr())) {
    for (const py::handle item : py::cast<py::sequence>(object)) take(item);
  } else {
    for (size_t i = 0; i < axes; ++i) take(object);
  }
  if (sizes.size() != axes || *std::min_element(sizes.begin(), sizes.end()) < 1) {
    value_error(op, std::string(name) + " must be an integer of at least 1" +
                        (axes == 1 ? "" : ", or one for each of height and width") + "; received " +
                        py::cast<std::string>(py::repr(object)));
  }
  return sizes;
}

bool same_from(py::handle padding, const char* op) {
  const std::string name = PyUnicode_Check(padding.ptr()) ? padding.cast<std::string>() : "";
  if (name != "valid" && name != "same") {
    value_error(op, "padding must be 'valid' or 'same'; received " + py::cast<std::string>(py::repr(padding)));
  }
  return name == "same";
}

struct Axis {
  int64_t outputs, pad;
};

// "same" as in TensorFlow and Keras: as many outputs as strides begin within the image.
Axis axis_of(int64_t size, int64_t pool, int64_t stride, bool same) {
  if (!same) return {size < pool ? 0 : (size - pool) / stride + 1, 0};
  const int64_t outputs = chunks_of(size, stride);
  return {outputs, std::max<int64_t>((outputs - 1) * stride + pool - size, 0) / 2};
}

// What forward and backward both check.
struct Operands {
  Tensor x;
  PoolGeometry g;
  Shape y_shape;
  bool wide;  // places in a window need more than a byte
};

Operands operands(const char* op, py::handle x_, const Options& options) {
  Operands o;
  o.x = read_float(x_, op, "x");
  const Shape& s = o.x.shape;
  if (s.size() != 3 && s.size() != 4) {
    value_error(op, "x must be (batch, length, channels) or (batch, height, width, channels); it is " + text_of(s));
  }
  const size_t axes = s.size() - 2;
  const Shape pool = sizes_from(options.pool_size, axes, op, "pool_size");
  const Shape stride = options.strides.is_none() ? pool : sizes_from(options.strides, axes, op, "strides");
  const bool same = same_from(options.padding, op);
  // A line is an image one pixel wide: its windows are then shared among the threads as rows are.
  const bool flat = axes == 1;
  const int64_t width = flat ? 1 : s[2], pool_width = flat ? 1 : pool[1], stride_width = flat ? 1 : stride[1];
  const Axis down = axis_of(s[1], pool[0], stride[0], same), across = axis_of(width, pool_width, stride_width, same);
  if (down.outputs < 1 || across.outputs < 1) {
    value_error(op, "the window is larger than the image: x is " + text_of(s) + ", pool_size is " + text_of(pool) +
                        "; padding='same' takes what there is");
  }
  if (pool[0] > 0x7fffffff / pool_width) value_error(op, "the window is too large: pool_size is " + text_of(pool));
  o.g = {s[0],    s[1],       width,     s.back(),     down.outputs, across.outputs,
         pool[0], pool_width, stride[0], stride_width, down.pad,     across.pad};
  o.wide = pool[0] * pool_width > 256;
  o.y_shape = s;
  o.y_shape[1] = down.outputs;
  if (!flat) o.y_shape[2] = across.outputs;
  return o;
}

double cost_of(const Operands& o) {
  const double cells = static_cast<double>(o.g.batch * o.g.out_height * o.g.out_width * o.g.channels) *
                       static_cast<double>(std::min(o.g.pool_height, o.g.height)) *
                       static_cast<double>(std::min(o.g.pool_width, o.g.width));
  return kByteCost * (static_cast<double>(o.x.bytes()) + cells * static_cast<double>(bytes_of(o.x.dtype)));
}

DType places(const Operands& o) {
  return o.wide ? DType::i32 : DType::u8;
}

// y, and with `argmax` (y, where): where in its window each largest is.
py::object max_pool(py::handle x_, py::handle pool_size, py::handle strides, py::handle padding, bool argmax,
                    py::handle out) {
  const char* op = "max_pool";
  const Operands o = operands(op, x_, {pool_size, strides, padding});
  const Tensor y = result(out, o.x, o.y_shape, op);
  refuse_overlap(y, o.x, op, "x");
  Tensor where;
  if (argmax) where = result(py::none(), o.x, places(o), o.y_shape, op);
  run(engine::kernels().max_pool, o.x.dtype, PoolArgs{y.data, where.data, o.x.data, o.g, o.wide},
      o.g.batch * o.g.out_height, cost_of(o), {writes(y), writes(where), reads(o.x)});
  if (y.buffer) y.buffer->constant = o.x.constant();
  return argmax ? py::make_tuple(y.object, where.object) : y.object;
}

py::object average_pool(py::handle x_, py::handle pool_size, py::handle strides, py::handle padding, py::handle out) {
  const char* op = "average_pool";
  const Operands o = operands(op, x_, {pool_size, strides, padding});
  const Tensor y = result(out, o.x, o.y_shape, op);
  refuse_overlap(y, o.x, op, "x");
  run(engine::kernels().average_pool, o.x.dtype, PoolArgs{y.data, nullptr, o.x.data, o.g, false},
      o.g.batch * o.g.out_height, cost_of(o), {writes(y), reads(o.x)});
  if (y.buffer) y.buffer->constant = o.x.constant();
  return y.object;
}

// Whether to write around the caches: see PoolBackwardArgs.
bool goes_around(const Tensor& dx) {
  constexpr int64_t kLarge = 32 << 20, kLine = 64;
  const bool lines =
      dx.columns() * bytes_of(dx.dtype) % kLine == 0 && reinterpret_cast<uintptr_t>(dx.data) % kLine == 0;
  return lines && dx.bytes() >= kLarge;
}

// Of x only the shape is used, unless it is an activation's output; for the largest y tells as much in fewer bytes.
py::object backward(const char* op, const TypedKernel& kernel, py::handle dy_, py::handle x_, py::handle y_,
                    py::handle where_, const Options& options, py::handle out) {
  const Operands o = operands(op, x_, options);
  const Tensor dy = read_like(dy_, o.x, op, "dy");
  require_shape(dy, o.y_shape, op, "dy", "the output has");
  Tensor where, y;
  if (!where_.is_none()) {
    where = read(where_, op, "where");
    if (where.dtype != places(o)) {
      type_error(op, std::string("where must be the ") + engine::name_of(places(o)) +
                         " that max_pool returned; it is " + engine::name_of(where.dtype));
    }
    require_shape(where, o.y_shape, op, "where", "the output has");
  }
  if (!y_.is_none()) {
    y = read_like(y_, o.x, op, "y");
    require_shape(y, o.y_shape, op, "y", "the output has");
  }
  const Tensor dx = result(out, o.x, o.x.shape, op);
  refuse_overlap(dx, dy, op, "dy");
  refuse_overlap(dx, where, op, "where");
  PoolBackwardArgs args{dx.data, dy.data, where.data, nullptr, o.g, o.wide, goes_around(dx), Activation::linear, 0};
  Tensor kept;
  if ((!where || y) && goes_through(o.x, dx)) {
    kept = where ? y : o.x;
    args.kept = kept.data;
    args.activation = o.x.buffer->activation;
    args.alpha = o.x.buffer->alpha;
  }
  run(kernel, dy.dtype, args, o.g.batch * o.g.height, cost_of(o), {writes(dx), reads(dy), reads(where), reads(kept)});
  return dx.object;
}

// 2x2 pixels of x in each window, and a row or column that is left over in none.
PoolGeometry in_pairs(const Shape& x) {
  return {x[0], x[1], x[2], x[3], x[1] / 2, x[2] / 2, 2, 2, 2, 2, 0, 0};
}

}  // namespace

void max_pool_2x2(const Tensor& y, const Tensor& where, const Tensor& x) {
  const PoolGeometry g = in_pairs(x.shape);
  run(engine::kernels().max_pool, x.dtype, PoolArgs{y.data, where.data, x.data, g, false}, g.batch * g.out_height,
      2 * kByteCost * static_cast<double>(x.bytes()), {writes(y), writes(where), reads(x)});
}
void max_pool_2x2_backward(const Tensor& dx, const Tensor& dy, const Tensor& where) {
  const PoolGeometry g = in_pairs(dx.shape);
  run(engine::kernels().max_pool_backward, dx.dtype,
      PoolBackwardArgs{dx.data, dy.data, where.data, nullptr, g, false, goes_around(dx), Activation::linear, 0},
      g.batch * g.height, 2 * kByteCost * static_cast<double>(dx.bytes()), {writes(dx), reads(dy), reads(where)});
}

void register_pool(py::module_& m) {
  m.def("max_pool", max_pool);
  m.def("max_pool_backward", [](py::handle dy, py::handle x, py::handle y, py::handle where, py::handle pool_size,
                                py::handle strides, py::handle padding, py::handle out) {
    if (where.is_none()) type_error("max_pool_backward", "where must be what max_pool returned with argmax=True");
    return backward("max_pool_backward", engine::kernels().max_pool_backward, dy, x, y, where,
                    {pool_size, strides, padding}, out);
  });
  m.def("average_pool", average_pool);
  m.def("average_pool_backward",
        [](py::handle dy, py::handle x, py::handle pool_size, py::handle strides, py::handle padding, py::handle out) {
          return backward("average_pool_backward", engine::kernels().average_pool_backward, dy, x, py::none(),
                          py::none(), {pool_size, strides, padding}, out);
        });
}

}  // namespace ranvier::ops
