#include "ops/tensor.h"

#include <cstring>

namespace ranvier::ops {
namespace {

using NumPy = py::detail::npy_api;

// A recorded call points into what it was given, so its program keeps that alive; all but its own pool's results, whose
// memory is there to be used again.
void keep(const std::shared_ptr<engine::Storage>& storage) {
  engine::Program* program = engine::recording();
  if (program && storage->pool() != program->pool().get()) program->keep(storage);
}
void keep(const py::object& object) {
  if (engine::Program* program = engine::recording()) {
    program->keep(std::shared_ptr<void>(py::object(object).release().ptr(), [](void* p) {
      py::gil_scoped_acquire acquire;
      Py_DECREF(static_cast<PyObject*>(p));
    }));
  }
}

Tensor from_buffer(py::handle object, bool in_place = false) {
  Tensor t;
  t.object = py::reinterpret_borrow<py::object>(object);
  t.buffer = object.cast<Buffer*>();
  if (!in_place) settle(*t.buffer);
  keep(t.buffer->storage);
  t.data = t.buffer->data;
  t.dtype = t.buffer->dtype;
  t.shape = t.buffer->shape;
  return t;
}

// The DType of a NumPy type number; false for what the kernels do not read.
bool dtype_of(int number, DType& dtype) {
  switch (number) {
    case NumPy::NPY_BOOL_:
    case NumPy::NPY_UBYTE_:
      dtype = DType::u8;
      return true;
    case NumPy::NPY_BYTE_:
      dtype = DType::i8;
      return true;
    case NumPy::NPY_SHORT_:
      dtype = DType::i16;
      return true;
    case NumPy::NPY_USHORT_:
      dtype = DType::u16;
      return true;
    case NumPy::NPY_INT_:
      dtype = DType::i32;
      return true;
    case NumPy::NPY_UINT_:
      dtype = DType::u32;
      return true;
    case NumPy::NPY_LONG_:
      dtype = sizeof(long) == 8 ? DType::i64 : DType::i32;
      return true;
    case NumPy::NPY_ULONG_:
      dtype = sizeof(long) == 8 ? DType::u64 : DType::u32;
      return true;
    case NumPy::NPY_LONGLONG_:
      dtype = DType::i64;
      return true;
    case NumPy::NPY_ULONGLONG_:
      dtype = DType::u64;
      return true;
    case NumPy::NPY_FLOAT_:
      dtype = DType::f32;
      return true;
    case NumPy::NPY_DOUBLE_:
      dtype = DType::f64;
      return true;
    default:
      return false;
  }
}

constexpr int kHalf = 23;  // NumPy's number for float16

std::string dtype_text(const py::array& a) {
  return py::cast<std::string>(py::str(a.dtype()));
}

// Sees a C-contiguous, aligned, native array as a Tensor.
Tensor view(py::array a, DType dtype) {
  Tensor t;
  const auto* proxy = py::detail::array_proxy(a.ptr());
  t.data = proxy->data;
  t.dtype = dtype;
  t.shape.assign(proxy->dimensions, proxy->dimensions + proxy->nd);
  t.object = std::move(a);
  keep(t.object);
  return t;
}

bool is_native(const py::array& a, int flags = 0) {
  flags |= NumPy::NPY_ARRAY_ALIGNED_;
  return (py::detail::array_proxy(a.ptr())->flags & flags) == flags && a.dtype().byteorder() != '>' &&
         a.dtype().byteorder() != '<';
}
bool is_plain(const py::array& a) {
  return is_native(a, NumPy::NPY_ARRAY_C_CONTIGUOUS_);
}

// Sees a matrix as a Tensor where it lies, if its steps are whole and lead forwards.
bool view_in_steps(const py::array& a, DType dtype, Tensor& t) {
  const auto* proxy = py::detail::array_proxy(a.ptr());
  if (proxy->nd != 2 || !is_native(a)) return false;
  const int64_t size = bytes_of(dtype), rows = proxy->dimensions[0], columns = proxy->dimensions[1];
  // A dimension of one element has any step.
  const int64_t column = columns == 1 ? size : proxy->strides[1],
                row = rows == 1 ? column * columns : proxy->strides[0];
  if (row <= 0 || column <= 0 || row % size != 0 || column % size != 0) return false;
  t = view(a, dtype);
  t.view_row = row / size;
  t.view_column = column / size;
  return true;
}

// Large ones begin on a cache line, which NumPy's do not, and in memory that was used before.
py::array new_array(DType dtype, const Shape& shape) {
  constexpr int64_t kLarge = 16 << 10;
  const int64_t bytes = engine::size_of(shape) * bytes_of(dtype);
  if (bytes >= kLarge) {
    auto storage = engine::allocate(bytes);
    char* data = storage->data();
    return as_array(std::make_shared<Buffer>(shape, dtype, std::move(storage), data));
  }
  static_assert(sizeof(Py_intptr_t) == sizeof(int64_t));
  PyObject* a = NumPy::get().PyArray_NewFromDescr_(
      NumPy::get().PyArray_Type_, numpy_dtype(dtype).release().ptr(), static_cast<int>(shape.size()),
      reinterpret_cast<const Py_intptr_t*>(shape.data()), nullptr, nullptr, 0, nullptr);
  if (!a) throw py::error_already_set();
  return py::reinterpret_steal<py::array>(a);
}

// The elements of an array in order. (A recorded call would read the array again.)
py::array in_order(const py::array& a, DType dtype) {
  const auto* proxy = py::detail::array_proxy(a.ptr());
  const int64_t size = bytes_of(dtype);
  bool steps = is_native(a) && a.itemsize() == size && size >= 4 && !engine::recording();
  std::vector<Axis> axes;
  for (int d = 0; steps && d < proxy->nd; ++d) {
    steps = proxy->strides[d] % size == 0;
    axes.push_back({proxy->dimensions[d], proxy->strides[d] / size});
  }
  if (steps) {
    const Tensor x = view(a, dtype);
    const py::array y = new_array(dtype, x.shape);
    if (!x.size() || reorder(view(y, dtype), x, axes)) return y;
  }
  constexpr int kFlags = NumPy::NPY_ARRAY_C_CONTIGUOUS_ | NumPy::NPY_ARRAY_ALIGNED_ | NumPy::NPY_ARRAY_FORCECAST_;
  PyObject* y = NumPy::get().PyArray_FromAny_(a.ptr(), numpy_dtype(dtype).release().ptr(), 0, 0, kFlags, nullptr);
  if (!y) throw py::error_already_set();
  return py::reinterpret_steal<py::array>(y);
}

Tensor from_object(py::handle object, const char* op, const char* name, Layout layout, bool half = false) {
  if (is_buffer(object)) return from_buffer(object);
  auto a =
      NumPy::get().PyArray_Check_(object.ptr()) ? py::reinterpret_borrow<py::array>(object) : py::array::ensure(object);
  if (!a) {
    PyErr_Clear();
    type_error(op, std::string(name) + " must be an array of numbers, not " +
                       py::cast<std::string>(py::str(py::type::of(object).attr("__name__"))));
  }
  const int number = a.dtype().num();
  DType dtype = DType::f32;
  if (!(number == kHalf && half) && !dtype_of(number, dtype)) {
    type_error(op,
               std::string(name) + " has dtype " + dtype_text(a) + "; convert it to float32 or float64 with .astype");
  }
  if (number == kHalf || !is_plain(a)) {
    Tensor t;
    if (layout == Layout::view && view_in_steps(a, dtype, t)) return t;
    a = in_order(a, dtype);
  }
  return view(std::move(a), dtype);
}

}  // namespace

bool is_buffer(py::handle object) {
  static PyTypeObject* const type = reinterpret_cast<PyTypeObject*>(py::type::of<Buffer>().release().ptr());
  return Py_TYPE(object.ptr()) == type || PyType_IsSubtype(Py_TYPE(object.ptr()), type);
}

void value_error(const char* op, const std::string& text) {
  throw py::value_error("[" + std::string(op) + "] " + text);
}
void type_error(const char* op, const std::string& text) {
  throw py::type_error("[" + std::string(op) + "] " + text);
}

std::string pluralised(int64_t count, const char* noun) {
  const std::string word = noun;
  return std::to_string(count) + " " + word + (count == 1 ? "" : word.back() == 's' ? "es" : "s");
}

std::string integer_text(const py::array& integers, py::ssize_t i) {
  return py::cast<std::string>(py::str(integers.attr("flat")[py::int_(i)]));
}

py::dtype numpy_dtype(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return py::dtype::of<float>();
    case DType::f64:
      return py::dtype::of<double>();
    case DType::i32:
      return py::dtype::of<int32_t>();
    case DType::i64:
      return py::dtype::of<int64_t>();
    case DType::u8:
      return py::dtype::of<uint8_t>();
    case DType::i8:
      return py::dtype::of<int8_t>();
    case DType::u16:
      return py::dtype::of<uint16_t>();
    case DType::i16:
      return py::dtype::of<int16_t>();
    case DType::u32:
      return py::dtype::of<uint32_t>();
    case DType::u64:
      return py::dtype::of<uint64_t>();
  }
  throw py::type_error("unknown dtype");
}

DType dtype_from(py::handle object) {
  DType dtype;
  if (!dtype_of(py::dtype::from_args(py::reinterpret_borrow<py::object>(object)).num(), dtype)) {
    throw py::type_error("dtype " + py::cast<std::string>(py::str(object)) + " is not one of the engine's");
  }
  return dtype;
}

Tensor read(py::handle object, const char* op, const char* name) {
  return from_object(object, op, name, Layout::contiguous, true);
}

Tensor read_float(py::handle object, const char* op, const char* name, Layout layout) {
  Tensor t = from_object(object, op, name, layout);
  if (t.dtype != DType::f32 && t.dtype != DType::f64) {
    type_error(op, std::string(name) + " has dtype " + engine::name_of(t.dtype) +
                       "; convert it to float32 or float64 with .astype");
  }
  return t;
}

Tensor read_like(py::handle object, const Tensor& like, const char* op, const char* name, Layout layout) {
  Tensor t = from_object(object, op, name, layout);
  if (t.dtype != like.dtype) {
    type_error(op, std::string(name) + " has dtype " + engine::name_of(t.dtype) + " where the other arguments have " +
                       engine::name_of(like.dtype) + "; convert one with .astype");
  }
  return t;
}

void make_contiguous(Tensor& t) {
  if (t.view_row) t = from_object(t.object, "", "", Layout::contiguous);
}

Tensor write(py::handle object, DType dtype, const Shape& shape, const char* op, const char* name) {
  Tensor t;
  if (is_buffer(object)) {
    t = from_buffer(object);
  } else {
    if (!NumPy::get().PyArray_Check_(object.ptr())) type_error(op, std::string(name) + " must be a NumPy array");
    const auto a = py::reinterpret_borrow<py::array>(object);
    if (!a.writeable()) value_error(op, std::string(name) + " is read-only; give a writable array");
    if (!is_plain(a)) {
      value_error(op,
                  std::string(name) + " must be C-contiguous and in native byte order, because it is written in place");
    }
    DType found;
    if (!dtype_of(a.dtype().num(), found)) value_error(op, std::string(name) + " has dtype " + dtype_text(a));
    t = view(a, found);
  }
  if (t.dtype != dtype) {
    value_error(
        op, std::string(name) + " has dtype " + engine::name_of(t.dtype) + " but must have " + engine::name_of(dtype));
  }
  require_shape(t, shape, op, name, "the result needs");
  return t;
}

void require_shape(const Tensor& t, const Shape& shape, const char* op, const char* name, const char* why) {
  if (t.shape == shape) return;
  value_error(op, std::string(name) + " has shape " + text_of(t.shape) + " but " + why + " " + text_of(shape));
}

Tensor result(py::handle out, const Tensor& like, DType dtype, const Shape& shape, const char* op) {
  if (!out.is_none()) return write(out, dtype, shape, op, "out");
  if (!like.buffer) return view(new_array(dtype, shape), dtype);
  return scratch(dtype, shape);
}
Tensor result(py::handle out, const Tensor& like, const Shape& shape, const char* op) {
  return result(out, like, like.dtype, shape, op);
}

Tensor read_in_place(py::handle batch) {
  return from_buffer(batch, true);
}

Tensor of(std::shared_ptr<Buffer> buffer) {
  Tensor t;
  keep(buffer->storage);
  t.buffer = buffer.get();
  t.data = buffer->data;
  t.dtype = buffer->dtype;
  t.shape = buffer->shape;
  t.object = py::cast(std::move(buffer));
  return t;
}

Tensor scratch(DType dtype, const Shape& shape) {
  auto storage = engine::allocate(engine::size_of(shape) * bytes_of(dtype));
  char* data = storage->data();
  return of(std::make_shared<Buffer>(shape, dtype, std::move(storage), data));
}
Tensor fixed(DType dtype, const Shape& shape) {
  return of(std::make_shared<Buffer>(shape, dtype));
}

void refuse_overlap(const Tensor& out, const Tensor& input, const char* op, const char* name) {
  if (input && out.size() && input.size() && out.data < input.data + input.bytes() &&
      input.data < out.data + out.bytes()) {
    value_error(op, std::string("out shares memory with ") + name + "; give an array of its own");
  }
}

py::array as_array(const std::shared_ptr<Buffer>& buffer) {
  settle(*buffer);
  // The capsule keeps the storage: the array outlives the Buffer.
  auto* owner = new std::shared_ptr<engine::Storage>(buffer->storage);
  py::capsule capsule(owner, [](void* p) { delete static_cast<std::shared_ptr<engine::Storage>*>(p); });
  return py::array(numpy_dtype(buffer->dtype), buffer->shape, buffer->data, capsule);
}

GradientSlot gradient_slot(const Tensor& variable) {
  GradientSlot slot;
  if (!variable || !variable.buffer || !variable.buffer->gradient) return slot;
  slot.tensor = of(variable.buffer->gradient);
  slot.add = variable.buffer->gradient_started;
  variable.buffer->gradient_started = true;
  return slot;
}

}  // namespace ranvier::ops
