// Buffer, as Python sees it.
#include <cstring>

#include "ops/tensor.h"

namespace ranvier::ops {
namespace {

std::shared_ptr<Buffer> new_buffer(const Shape& shape, py::handle dtype) {
  for (int64_t d : shape) {
    if (d < 0) value_error("Buffer", "dimensions must not be negative: " + text_of(shape));
  }
  return std::make_shared<Buffer>(shape, dtype_from(dtype));
}

// A Buffer with an array's values.
std::shared_ptr<Buffer> from_array(py::handle array, py::handle dtype) {
  const Tensor x = read(array, "Buffer", "array");
  auto buffer = std::make_shared<Buffer>(x.shape, dtype.is_none() ? x.dtype : dtype_from(dtype));
  if (buffer->dtype == x.dtype) {
    std::memcpy(buffer->data, x.data, static_cast<size_t>(x.bytes()));
  } else {
    as_array(buffer)[py::ellipsis()] = x.object;
  }
  return buffer;
}

void assign(const std::shared_ptr<Buffer>& buffer, py::handle value) {
  const py::array a = py::array::ensure(value);
  if (!a) {
    PyErr_Clear();
    type_error("assign", "the value must be an array of numbers");
  }
  const Shape shape(a.shape(), a.shape() + a.ndim());
  if (shape != buffer->shape) {
    value_error("assign", "the value has shape " + text_of(shape) + " but the variable has " + text_of(buffer->shape));
  }
  as_array(buffer)[py::ellipsis()] = a;
}

// Elements [offset, offset + size) of an arena, as a Buffer of their own shape.
std::shared_ptr<Buffer> part(const std::shared_ptr<Buffer>& arena, int64_t offset, const Shape& shape) {
  if (offset < 0 || offset + engine::size_of(shape) > arena->size()) value_error("part", "outside the arena");
  return std::make_shared<Buffer>(shape, arena->dtype, arena->storage, arena->data + offset * bytes_of(arena->dtype));
}

// Moves a variable's values into an arena, where it lives from now on.
void move_to(const std::shared_ptr<Buffer>& buffer, const std::shared_ptr<Buffer>& arena, int64_t offset) {
  if (arena->dtype != buffer->dtype || offset < 0 || offset + buffer->size() > arena->size()) {
    value_error("move_to", "the arena has no such place");
  }
  char* home = arena->data + offset * bytes_of(arena->dtype);
  std::memmove(home, buffer->data, static_cast<size_t>(buffer->bytes()));
  buffer->storage = arena->storage;
  buffer->data = home;
}

std::shared_ptr<Buffer> reshape(const std::shared_ptr<Buffer>& buffer, const Shape& shape) {
  if (engine::size_of(shape) != buffer->size()) {
    value_error("reshape", "cannot reshape " + text_of(buffer->shape) + " to " + text_of(shape));
  }
  auto y = std::make_shared<Buffer>(shape, buffer->dtype, buffer->storage, buffer->data);
  y->constant = buffer->constant;
  y->unread = buffer->unread;
  if (!buffer->preactivation) {  // one of another shape is of no use
    y->activation = buffer->activation;
    y->alpha = buffer->alpha;
  }
  y->at_preactivation = buffer->at_preactivation;
  return y;
}

[[noreturn]] void refuse_numpy() {
  throw py::type_error(
      "NumPy cannot work on a Buffer: inside a layer, data is touched through ranvier.ops only. Use an op, or derive "
      "the layer from ranvier.layers.NumpyLayer, whose forward is given arrays (a variable's array is its numpy()).");
}

// A value read while a step is recorded would be the same at each repetition.
void refuse_in_recording() {
  if (engine::recording()) refuse_numpy();
}

void refuse_operator(const Buffer&, py::handle) {
  refuse_numpy();
}

}  // namespace

void register_buffer(py::module_& m) {
  py::class_<Buffer, std::shared_ptr<Buffer>>(m, "Buffer")
      .def(py::init(&new_buffer), py::arg("shape"), py::arg("dtype"))
      .def_static("from_array", from_array, py::arg("array"), py::arg("dtype") = py::none())
      .def_property_readonly("shape", [](const Buffer& b) { return py::tuple(py::cast(b.shape)); })
      .def_property_readonly("dtype", [](const Buffer& b) { return engine::name_of(b.dtype); })
      .def_property_readonly("size", &Buffer::size)
      .def_property_readonly("ndim", [](const Buffer& b) { return b.shape.size(); })
      .def_readwrite("constant", &Buffer::constant)
      .def_property(
          "gradient", [](const Buffer& b) { return b.gradient; },
          [](Buffer& b, std::shared_ptr<Buffer> gradient) {
            b.gradient = std::move(gradient);
            b.gradient_started = false;
            b.update = nullptr;
            b.updated = false;
            b.uses = 0;
          })
      .def_readonly("gradient_started", &Buffer::gradient_started)
      .def_readonly("updated", &Buffer::updated)
      .def("numpy",
           [](const std::shared_ptr<Buffer>& b) {
             refuse_in_recording();
             return as_array(b).attr("copy")();
           })
      .def("assign", assign, py::arg("value"))
      .def("view",
           [](const std::shared_ptr<Buffer>& b) {
             refuse_in_recording();
             return as_array(b);
           })
      .def("part", part, py::arg("offset"), py::arg("shape"))
      .def("move_to", move_to, py::arg("arena"), py::arg("offset"))
      .def("reshape", reshape, py::arg("shape"))
      .def("__len__",
           [](const Buffer& b) {
             if (b.shape.empty()) throw py::type_error("len() of a Buffer without dimensions");
             return b.shape[0];
           })
      .def("__array__", [](const Buffer&, const py::args&, const py::kwargs&) { refuse_numpy(); })
      .def("__array_ufunc__", [](const Buffer&, const py::args&, const py::kwargs&) { refuse_numpy(); })
      .def("__array_function__", [](const Buffer&, const py::args&, const py::kwargs&) { refuse_numpy(); })
      .def("__add__", refuse_operator)
      .def("__radd__", refuse_operator)
      .def("__sub__", refuse_operator)
      .def("__rsub__", refuse_operator)
      .def("__mul__", refuse_operator)
      .def("__rmul__", refuse_operator)
      .def("__truediv__", refuse_operator)
      .def("__rtruediv__", refuse_operator)
      .def("__matmul__", refuse_operator)
      .def("__rmatmul__", refuse_operator)
      .def("__pow__", refuse_operator)
      .def("__neg__", [](const Buffer&) { refuse_numpy(); })
      .def("__repr__", [](const Buffer& b) {
        return "<Buffer shape=" + text_of(b.shape) + " dtype=" + engine::name_of(b.dtype) + ">";
      });
}

}  // namespace ranvier::ops
