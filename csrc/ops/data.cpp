// Data on its way in (gather, cast, affine) and the sums of gradients.
#include <cstring>

#include "ops/tensor.h"

namespace ranvier::ops {
namespace {

Shape with_rows(const Shape& shape, int64_t rows) {
  Shape s = shape;
  s[0] = rows;
  return s;
}

void run_gather(char* y, int64_t rows, int64_t size, DType y_dtype, DType x_dtype, const Source* x, const Feed* feed) {
  const int64_t bytes = size * bytes_of(y_dtype);
  run(engine::kernels().gather, GatherArgs{y, x, feed, rows, rows ? size / rows : 0, x_dtype, y_dtype}, rows,
      static_cast<double>(bytes) * 0.1, {{y, bytes, true}, reads(x), reads(feed)});
}

DType target_dtype(py::handle dtype, const char* op) {
  const py::dtype wanted = py::dtype::from_args(py::reinterpret_borrow<py::object>(dtype));
  for (const DType known : {DType::f32, DType::f64, DType::i32}) {
    if (wanted.equal(numpy_dtype(known))) return known;
  }
  type_error(op, "dtype must be float32, float64 or int32; received " + py::cast<std::string>(py::str(wanted)));
}

// Rows of an array by checked indices.
py::object gather(py::handle source_, py::handle indices_, py::handle dtype, py::handle out) {
  const Tensor x = read(source_, "gather", "source");
  if (x.shape.empty()) value_error("gather", "source must have at least one dimension");
  const Tensor given = read(indices_, "gather", "indices");
  const bool boolean = py::cast<py::array>(given.object).dtype().kind() == 'b';
  if (given.size() && (given.dtype == DType::f32 || given.dtype == DType::f64 || boolean)) {
    type_error("gather",
               boolean ? "indices must be integers; for a mask use np.flatnonzero" : "indices must be integers");
  }
  if (given.shape.size() != 1)
    value_error("gather", "indices must have one dimension; they are " + text_of(given.shape));
  const auto indices = py::array_t<int64_t, py::array::c_style | py::array::forcecast>::ensure(given.object);
  for (py::ssize_t i = 0; i < indices.size(); ++i) {
    if (indices.data()[i] < 0 || indices.data()[i] >= x.shape[0]) {
      throw py::index_error("[gather] index " + integer_text(py::cast<py::array>(given.object), i) +
                            " is out of range: source has " + pluralised(x.shape[0], "row"));
    }
  }
  const DType target =
      dtype.is_none() ? (x.dtype == DType::f64 ? DType::f64 : DType::f32) : target_dtype(dtype, "gather");
  const Tensor y = result(out, x, target, with_rows(x.shape, indices.size()), "gather");
  if (engine::recording()) type_error("gather", "cannot be part of a recorded step");
  const int64_t row_bytes = x.shape[0] ? x.bytes() / x.shape[0] : 0;
  const Source source{x.data, row_bytes};
  const Feed feed{indices.data(), 0};
  run_gather(y.data, indices.size(), y.size(), y.dtype, x.dtype, &source, &feed);
  return y.object;
}

template <class T>
T* state_of(py::handle object, const char* op, const char* name) {
  static_assert(sizeof(T) == 16);
  return reinterpret_cast<T*>(write(object, DType::i64, {2}, op, name).data);
}

// Points a source, two int64 that recorded steps read, at an array whose rows are contiguous inside.
void point_source(py::handle source, const py::array& array) {
  auto* s = state_of<Source>(source, "gather", "source");
  s->data = static_cast<char*>(const_cast<void*>(array.data()));
  s->row_bytes = array.ndim() ? array.strides(0) : 0;
}

// Points a feed, two int64 that recorded steps read and advance, at the first row of an order (None: as they come).
void point_feed(py::handle feed, py::handle order) {
  auto* f = state_of<Feed>(feed, "gather", "feed");
  f->order = order.is_none() ? nullptr : reinterpret_cast<const int64_t*>(read(order, "gather", "order").data);
  f->cursor = 0;
}

// The next batch of a source, converted to dtype: `shape` with its rows, `from` the source's dtype. Where nothing is to
// be converted and the rows come in order, it is left where it is until somebody must have it here.
py::object gather_batch(py::handle source_, py::handle feed_, py::handle from_, const Shape& shape, py::handle dtype,
                        bool in_order) {
  const Tensor y = scratch(target_dtype(dtype, "gather"), shape);
  y.buffer->constant = true;
  const Source* source = state_of<Source>(source_, "gather", "source");
  const Feed* feed = state_of<Feed>(feed_, "gather", "feed");
  const DType from = dtype_from(from_);
  if (in_order && from == y.dtype && y.size() > 0) {
    const int64_t rows = shape[0];
    y.buffer->unread =
        std::make_shared<engine::Unread>(engine::Unread{source, feed, y.data, rows, y.size() / rows, y.dtype});
  } else {
    run_gather(y.data, shape[0], y.size(), y.dtype, from, source, feed);
  }
  return y.object;
}

// Writes a batch's results to the rows they belong to.
void scatter_batch(py::handle x_, py::handle target, py::handle feed) {
  const Tensor x = read(x_, "scatter", "x");
  const int64_t rows = x.shape[0];
  const auto* to = state_of<Source>(target, "scatter", "target");
  const auto* at = state_of<Feed>(feed, "scatter", "feed");
  run(engine::kernels().scatter, ScatterArgs{to, x.data, at, rows, rows ? x.bytes() / rows : 0}, rows,
      static_cast<double>(x.bytes()) * 0.1, {reads(x), reads(to), reads(at)});
}

void advance(py::handle feed, int64_t step) {
  auto* at = state_of<Feed>(feed, "advance", "feed");
  run(engine::kernels().advance, AdvanceArgs{at, step}, 1, 1, {writes(at)});
}

py::object cast(py::handle x_, py::handle dtype) {
  const Tensor x = read(x_, "cast", "x");
  const DType target = target_dtype(dtype, "cast");
  if (x.dtype == target) return x.object;
  const Tensor y = result(py::none(), x, target, x.shape, "cast");
  run(engine::kernels().cast, CastArgs{y.data, x.data, x.size(), x.dtype, target}, chunks_of(x.size(), kElements),
      static_cast<double>(x.bytes()) * 0.1, {writes(y), reads(x)});
  if (y.buffer) y.buffer->constant = x.constant();
  return y.object;
}

// (scale, offset) of y = x * scale + offset that normalizes x by mean and variance, or undoes it.
py::object normalization(py::handle mean_, py::handle variance_, int64_t columns, bool invert) {
  const Tensor mean = read_float(mean_, "normalization", "mean");
  const Tensor variance = read_like(variance_, mean, "normalization", "variance");
  require_shape(variance, mean.shape, "normalization", "variance", "mean has");
  const Tensor scale = scratch(mean.dtype, {columns}), offset = scratch(mean.dtype, {columns});
  run(engine::kernels().normalization, mean.dtype,
      NormalizationArgs{scale.data, offset.data, mean.data, variance.data, columns, mean.size(), invert}, 1,
      static_cast<double>(columns) * 5);
  return py::make_tuple(scale.object, offset.object);
}

// y = x * scale + offset, over the last axis or as one number for all; None: 1 and 0.
py::object affine(const char* op, py::handle x_, py::handle scale_, py::handle offset_, py::handle out) {
  const Tensor x = read_float(x_, op, "x");
  int64_t columns = 1;
  const auto factor = [&](py::handle given, const char* name) {
    Tensor t;
    if (given.is_none()) return t;
    t = read_like(given, x, op, name);
    if (!t.shape.empty() && t.shape != Shape{x.columns()}) {
      value_error(op, std::string(name) + " must be one number or one for each column: x is " + text_of(x.shape) +
                          ", " + name + " is " + text_of(t.shape));
    }
    if (!t.shape.empty()) columns = x.columns();
    return t;
  };
  Tensor scale = factor(scale_, "scale"), offset = factor(offset_, "offset");
  const auto widen = [&](Tensor& t) {  // one number beside one for each column
    if (!t || t.size() == columns) return;
    const Tensor wide = fixed(x.dtype, {columns});
    for (int64_t i = 0; i < columns; ++i) {
      memcpy(wide.data + i * bytes_of(x.dtype), t.data, static_cast<size_t>(bytes_of(x.dtype)));
    }
    t = wide;
  };
  widen(scale);
  widen(offset);
  // One number for all is repeated as well: a row of one column would make the kernel walk element by element.
  constexpr int64_t kRepeat = 256;
  if (columns == 1) {
    columns = kRepeat;
    widen(scale);
    widen(offset);
  }
  Tensor y = result(out, x, x.shape, op);
  if (y.data != x.data) refuse_overlap(y, x, op, "x");
  run(engine::kernels().affine, x.dtype,
      AffineArgs{y.data, x.data, scale ? scale.data : nullptr, offset ? offset.data : nullptr, x.size(), columns},
      chunks_of(x.size(), kElements), static_cast<double>(x.bytes()) * 0.05,
      {writes(y), reads(x), reads(scale), reads(offset)});
  if (y.buffer) y.buffer->constant = x.constant();
  return y.object;
}

void run_add(const Tensor& sum, const Tensor& a, const Tensor& b) {
  run(engine::kernels().add, a.dtype, AddArgs{sum.data, a.data, b.data, a.size()}, chunks_of(a.size(), kElements),
      static_cast<double>(a.bytes()) * 0.05, {writes(sum), reads(a), reads(b)});
}

py::object add(py::handle a_, py::handle b_) {
  const Tensor a = read_float(a_, "add", "a"), b = read_like(b_, a, "add", "b");
  require_shape(b, a.shape, "add", "b", "a has");
  if (a.buffer && b.buffer && a.buffer->at_preactivation != b.buffer->at_preactivation) {
    value_error("add",
                "one gradient is taken through an activation already and the other is not: use add_gradients(y, a, b)");
  }
  const Tensor sum = result(py::none(), a, a.shape, "add");
  run_add(sum, a, b);
  return sum.object;
}

// dy * factor, which stays a gradient of the same place.
py::object scale_gradient(py::handle dy_, double factor) {
  const Tensor dy = read_float(dy_, "scale", "dy");
  const Tensor scale = fixed(dy.dtype, {});
  if (dy.dtype == DType::f32) {
    *reinterpret_cast<float*>(scale.data) = static_cast<float>(factor);
  } else {
    *reinterpret_cast<double*>(scale.data) = factor;
  }
  py::object scaled = affine("scale", dy.object, scale.object, py::none(), py::none());
  scaled.cast<Buffer*>()->at_preactivation = dy.buffer->at_preactivation;
  return scaled;
}

// Adds an array to the gradient of a variable that is being trained.
void add_to_gradient(py::handle variable_, py::handle value_) {
  const Tensor variable = read_float(variable_, "add_gradient", "the variable");
  const Tensor value = read_like(value_, variable, "add_gradient", "the gradient");
  require_shape(value, variable.shape, "add_gradient", "the gradient", "the variable has");
  const GradientSlot slot = gradient_slot(variable);
  if (!slot.tensor) return;
  if (slot.add) return run_add(slot.tensor, slot.tensor, value);
  run(engine::kernels().affine, value.dtype,
      AffineArgs{slot.tensor.data, value.data, nullptr, nullptr, value.size(), value.size()},
      chunks_of(value.size(), kElements), static_cast<double>(value.bytes()) * 0.05,
      {writes(slot.tensor), reads(value)});
}

// The sum of two gradients of y. One that is at y's preactivation already can only be added there, so the
// other is taken through the activation first.
py::object add_gradients(py::handle y_, py::handle a_, py::handle b_) {
  const Tensor y = read_float(y_, "add", "y");
  Tensor a = read_like(a_, y, "add", "a"), b = read_like(b_, y, "add", "b");
  if (a.buffer->at_preactivation != b.buffer->at_preactivation) {
    Tensor& plain = a.buffer->at_preactivation ? b : a;
    const Tensor through = scratch(y.dtype, y.shape);
    run_activation_backward(through, plain, Tensor(), y, y.buffer->activation, y.buffer->alpha);
    through.buffer->at_preactivation = true;
    plain = through;
  }
  const Tensor sum = scratch(y.dtype, y.shape);
  sum.buffer->at_preactivation = a.buffer->at_preactivation;
  run_add(sum, a, b);
  return sum.object;
}

}  // namespace

void settle(const Buffer& buffer) {
  engine::Unread* batch = buffer.unread.get();
  if (!batch || batch->gathered) return;
  run_gather(batch->data, batch->rows, batch->rows * batch->columns, batch->dtype, batch->dtype, batch->source,
             batch->feed);
  batch->gathered = true;
}

void register_data(py::module_& m) {
  m.def("gather", gather);
  m.def("gather_batch", gather_batch);
  m.def("point_source", point_source);
  m.def("point_feed", point_feed);
  m.def("scatter_batch", scatter_batch);
  m.def("advance", advance);
  m.def("normalization", normalization);
  m.def("cast", cast);
  m.def("affine", [](py::handle x, py::handle scale, py::handle offset, py::handle out) {
    return affine("affine", x, scale, offset, out);
  });
  m.def("affine_backward", [](py::handle dy, py::handle scale, py::handle out) {
    return affine("affine_backward", dy, scale, py::none(), out);
  });
  m.def("add", add);
  m.def("scale_gradient", scale_gradient);
  m.def("add_to_gradient", add_to_gradient);
  m.def("add_gradients", add_gradients);
}

}  // namespace ranvier::ops
