// What an op is given and what it returns: a NumPy array or a Buffer, seen as pointer, type and shape.
//
// The same ops serve both faces: arrays in, arrays out for a person; Buffers in, Buffers out for a layer. The first
// argument decides which.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "engine/buffer.h"
#include "engine/dispatch.h"
#include "engine/program.h"

namespace ranvier::ops {

namespace py = pybind11;
using engine::Buffer;
using engine::Shape;
using engine::text_of;

// An argument, C-contiguous and in native byte order (copied if it was not, but see Layout).
struct Tensor {
  py::object object;         // the array or Buffer that owns the data; empty where an optional argument is None
  Buffer* buffer = nullptr;  // null: an array
  char* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  int64_t view_row = 0, view_column = 0;  // steps, in elements, of a view that was left as it is; else 0

  explicit operator bool() const { return object.ptr() != nullptr; }
  int64_t size() const { return engine::size_of(shape); }
  int64_t bytes() const {  // from the first element to the last
    const int64_t span = view_row ? (rows() - 1) * view_row + (columns() - 1) * view_column + 1 : size();
    return span * bytes_of(dtype);
  }
  int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
  int64_t rows() const {  // all dimensions but the last
    int64_t n = 1;
    for (size_t i = 0; i + 1 < shape.size(); ++i) n *= shape[i];
    return n;
  }
  int64_t row_step() const { return view_row ? view_row : columns(); }
  int64_t column_step() const { return view_row ? view_column : 1; }
  bool constant() const { return buffer && buffer->constant; }
};

// Whether it is a Buffer; else it may be an array.
bool is_buffer(py::handle object);

// What a Tensor may be: contiguous only, or also a view of two dimensions, such as a transposed matrix or some columns
// of a larger one, whose row_step and column_step the op heeds.
enum class Layout { contiguous, view };

// Reads an argument. `op` and `name` are for the message of a TypeError.
Tensor read(py::handle object, const char* op, const char* name);  // any number type; float16 as float32
Tensor read_float(py::handle object, const char* op, const char* name,
                  Layout layout = Layout::contiguous);  // float32 or float64
Tensor read_like(py::handle object, const Tensor& like, const char* op, const char* name,
                 Layout layout = Layout::contiguous);  // the same float type
void make_contiguous(Tensor& t);                       // copies a view

// A place to write to, changed in place: never a copy, so it must be contiguous, writable and of this type and shape.
Tensor write(py::handle object, DType dtype, const Shape& shape, const char* op, const char* name);

// The result of an op: `out` if given, else new, of the same face as `like`.
Tensor result(py::handle out, const Tensor& like, DType dtype, const Shape& shape, const char* op);
Tensor result(py::handle out, const Tensor& like, const Shape& shape, const char* op);

// Refuses an `out` that shares memory with an input that is read after it is written.
void refuse_overlap(const Tensor& out, const Tensor& input, const char* op, const char* name);

Tensor of(std::shared_ptr<Buffer> buffer);

// Gathers the batch, if the Buffer is one that lies in the user's array still. All that read a Buffer do so, but:
void settle(const Buffer& buffer);
// Reads a batch where it is.
Tensor read_in_place(py::handle batch);

// Memory for an op's result or for its own use; what is in it, the op's kernels write.
Tensor scratch(DType dtype, const Shape& shape);
// Memory that the op itself fills, now: a recorded step reads it again and again.
Tensor fixed(DType dtype, const Shape& shape);

// The array that shares the Buffer's memory.
py::array as_array(const std::shared_ptr<Buffer>& buffer);
py::dtype numpy_dtype(DType dtype);
DType dtype_from(py::handle dtype);

std::string pluralised(int64_t count, const char* noun);             // "1 row", "2 rows", "3 classes"
std::string integer_text(const py::array& integers, py::ssize_t i);  // as Python prints it

[[noreturn]] void value_error(const char* op, const std::string& text);
[[noreturn]] void type_error(const char* op, const std::string& text);
void require_shape(const Tensor& t, const Shape& shape, const char* op, const char* name, const char* why);

using engine::Accesses;
inline engine::Access reads(const Tensor& t) {
  return {t.data, t ? t.bytes() : 0, false};
}
inline engine::Access writes(const Tensor& t) {
  return {t.data, t ? t.bytes() : 0, true};
}
template <class T>
engine::Access reads(const T* one) {
  return {one, sizeof(T), false};
}
template <class T>
engine::Access writes(const T* one) {
  return {one, sizeof(T), true};
}

// Submits a kernel, and tells what it touches: threads of a running program meet where that is in conflict. Work of
// more than some microseconds runs without the GIL.
template <class Args>
void run(Kernel kernel, const Args& args, int64_t chunks, double cost, Accesses accesses = {}) {
  constexpr double kReleaseCost = 10e3;
  if (cost < kReleaseCost) return engine::submit(kernel, &args, sizeof args, chunks, cost, accesses);
  py::gil_scoped_release release;
  engine::submit(kernel, &args, sizeof args, chunks, cost, accesses);
}
template <class Args>
void run(const TypedKernel& kernel, DType dtype, const Args& args, int64_t chunks, double cost,
         Accesses accesses = {}) {
  run(kernel[dtype], args, chunks, cost, accesses);
}

// A parameter's gradient, and whether to add to what is there.
struct GradientSlot {
  Tensor tensor;
  bool add = false;
};
// The slot of a variable that is being trained; an empty one otherwise.
GradientSlot gradient_slot(const Tensor& variable);

Activation activation_from(py::handle name, const char* op);
double alpha_from(py::handle alpha, Activation activation);
bool needs_input(Activation activation);  // its derivative cannot be told from its output

// y is f's output: whoever takes a gradient back to it may take it through f as well, if y alone tells the slope.
void mark_activation(const Tensor& y, Activation f, double alpha);
// Whether a gradient of x is taken through the activation (x.buffer's) whose output x is; then it is marked so.
bool goes_through(const Tensor& x, const Tensor& dx);

// An axis of a result, and its step in what the result is read from, in elements.
struct Axis {
  int64_t size, step;
};
// y = x, whose elements lie in steps. False, and y is as it was, if there are too many axes.
bool reorder(const Tensor& y, const Tensor& x, const std::vector<Axis>& axes);

// Shared by dense and dot: how long one thread needs for a product of (m, k) and (k, n), in nanoseconds.
double product_cost(DType dtype, int64_t m, int64_t n, int64_t k);

// Shared by dense and activation: y = f(x), and dx = dy f'.
void run_activation(const Tensor& y, const Tensor& x, Activation f, double alpha);
void run_activation_backward(const Tensor& dx, const Tensor& dy, const Tensor& x, const Tensor& y, Activation f,
                             double alpha);

// Convolutions by Winograd's method, where it can be used and pays; g as in ConvArgs. A result that is the gradient of
// `below`, an activation's output, is taken through that activation as well. y and dy may be of each 2x2 pixels but the
// largest: see WinogradArgs.
bool winograd_pays(const Tensor& like, const ConvGeometry& g);  // for y, and for dx
bool winograd_gradient_pays(const Tensor& like, const ConvGeometry& g);
void winograd(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b, const ConvGeometry& g, Activation f,
              double alpha, const Tensor& below);
void winograd_max_pool(const Tensor& y, const Tensor& where, const Tensor& x, const Tensor& w, const Tensor& b,
                       const ConvGeometry& g, Activation f);
void winograd_input_gradient(const Tensor& dx, const Tensor& dy, const Tensor& where, const Tensor& w, const Tensor& b,
                             const ConvGeometry& g, Activation f, double alpha, const Tensor& below);
void winograd_kernel_gradient(const GradientSlot& dw, const GradientSlot& db, const Tensor& x, const Tensor& dy,
                              const Tensor& where, const ConvGeometry& g);

// The largest of each 2x2 pixels and where it is (`where` may be empty), and the way back.
void max_pool_2x2(const Tensor& y, const Tensor& where, const Tensor& x);
void max_pool_2x2_backward(const Tensor& dx, const Tensor& dy, const Tensor& where);

// The products of a dense layer as a convolution of one pixel, x (rows, channels), w (channels, filters): it goes by
// blocks of rows, and sums gradients by them. y = f(x w + b), dx = dy w^T, dw (+)= x^T dy and db (+)= the sum of dy.
void pointwise(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b, Activation f, double alpha);
void pointwise_input_gradient(const Tensor& dx, const Tensor& dy, const Tensor& w, const Tensor& below);
void pointwise_kernel_gradient(const GradientSlot& dw, const GradientSlot& db, const Tensor& x, const Tensor& dy);

void register_activation(py::module_& m);
void register_buffer(py::module_& m);
void register_conv2d(py::module_& m);
void register_data(py::module_& m);
void register_dense(py::module_& m);
void register_dropout(py::module_& m);
void register_losses(py::module_& m);
void register_merge(py::module_& m);
void register_metrics(py::module_& m);
void register_norm(py::module_& m);
void register_optimizers(py::module_& m);
void register_pool(py::module_& m);
void register_program(py::module_& m);
void register_transpose(py::module_& m);
void register_augment(py::module_& m);
void register_yardstick(py::module_& m);
void register_winograd(py::module_& m);

}  // namespace ranvier::ops
