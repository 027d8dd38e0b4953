// A room of conv2d.cpp: what x, the kernel and the options say together, checked, as the geometry of a convolution.
#pragma once

#include <algorithm>

#include "ops/tensor.h"

namespace ranvier::ops {
namespace {

// What tells one op of the family from another.
struct Face {
  const char* op;
  const char* backward;
  size_t axes;  // of an image: 1 or 2
  bool depthwise, transposed;
  bool pooled = false;  // of each 2x2 pixels of the output only the largest
};

struct Pair {
  int64_t height, width;
};

std::string text_of_object(py::handle object) {
  return py::cast<std::string>(py::repr(object));
}

// An integer from 0 to 2^31 - 1; -1 for anything else.
int64_t integer_from(py::handle object) {
  constexpr long long kMost = 0x7fffffff;
  if (!PyIndex_Check(object.ptr()) || PyBool_Check(object.ptr())) return -1;
  const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(object.ptr()));
  int overflow = 0;
  const long long value = number ? PyLong_AsLongLongAndOverflow(number.ptr(), &overflow) : -1;
  if (PyErr_Occurred()) PyErr_Clear();
  return overflow || value < 0 || value > kMost ? -1 : value;
}

bool is_sequence(py::handle object) {
  return PyTuple_Check(object.ptr()) || PyList_Check(object.ptr());
}

// 2, (2,) or (1, 2): one number for each axis of the image, or one for all.
Pair pair_from(py::handle object, const Face& face, const char* op, const char* name, int64_t least) {
  Pair pair{least, least};
  if (is_sequence(object)) {
    const auto given = py::cast<py::sequence>(object);
    const bool fits = given.size() == face.axes;
    pair.width = fits ? integer_from(given[face.axes - 1]) : -1;
    if (fits && face.axes == 2) pair.height = integer_from(given[0]);
  } else {
    pair.width = integer_from(object);
    if (face.axes == 2) pair.height = pair.width;
  }
  if (std::min(pair.height, pair.width) < least) {
    value_error(op, std::string(name) + " must be an integer of at least " + std::to_string(least) +
                        (face.axes == 1 ? "" : ", or one for each of height and width") + "; received " +
                        text_of_object(object));
  }
  return pair;
}

// What is put around the image.
struct Padding {
  enum Kind { valid, same, given } kind = valid;
  int64_t top = 0, bottom = 0, left = 0, right = 0;
};

// Two integers from 0; false for anything else.
bool read_ends(py::handle object, int64_t& before, int64_t& after) {
  if (!is_sequence(object)) return false;
  const auto ends = py::cast<py::sequence>(object);
  if (ends.size() != 2) return false;
  before = integer_from(ends[0]);
  after = integer_from(ends[1]);
  return before >= 0 && after >= 0;
}

Padding padding_from(py::handle object, const Face& face, const char* op) {
  Padding p;
  if (PyUnicode_Check(object.ptr())) {
    const auto name = object.cast<std::string>();
    if (name == "valid") return p;
    p.kind = Padding::same;
    if (name == "same") return p;
  } else {
    p.kind = Padding::given;
    if (face.axes == 1 && read_ends(object, p.left, p.right)) return p;
    if (face.axes == 2 && is_sequence(object)) {
      const auto axes = py::cast<py::sequence>(object);
      if (axes.size() == 2 && read_ends(axes[0], p.top, p.bottom) && read_ends(axes[1], p.left, p.right)) return p;
    }
  }
  value_error(op, std::string("padding must be 'valid', 'same' or ") +
                      (face.axes == 1 ? "(left, right)" : "((top, bottom), (left, right))") +
                      ", integers from 0; received " + text_of_object(object));
}

struct Axis {
  int64_t outputs, pad;
};

// TensorFlow's and Keras's "same": as many outputs as strides begin within the image, the odd zero at its end.
Axis axis_of(int64_t size, int64_t kernel, int64_t stride, int64_t dilation, Padding::Kind kind, int64_t before,
             int64_t after) {
  const int64_t span = (kernel - 1) * dilation + 1;
  if (kind == Padding::same) {
    const int64_t outputs = chunks_of(size, stride);
    return {outputs, std::max<int64_t>((outputs - 1) * stride + span - size, 0) / 2};
  }
  const int64_t room = size + before + after - span;
  return {room < 0 ? 0 : room / stride + 1, before};
}

// Keras's sizes of a transposed convolution; {0, 0} for none. `extra` is output_padding, -1 where it is not given.
Axis transposed_axis_of(int64_t size, int64_t kernel, int64_t stride, int64_t dilation, Padding::Kind kind,
                        int64_t before, int64_t after, int64_t extra) {
  const int64_t span = (kernel - 1) * dilation + 1;
  const int64_t whole = (size - 1) * stride + span;  // all that the inputs reach
  if (kind == Padding::given) return {whole - before - after + std::max<int64_t>(extra, 0), before};
  int64_t outputs = kind == Padding::same ? size * stride : size * stride + std::max<int64_t>(span - stride, 0);
  if (extra >= 0) outputs = whole - (kind == Padding::same ? 2 * (span / 2) : 0) + extra;
  return {outputs, kind == Padding::same ? std::max<int64_t>(whole - outputs, 0) / 2 : 0};
}

// What forward and backward both check. x and y are the op's; g is the convolution's.
struct Operands {
  Tensor x, w, b;
  ConvGeometry g;
  Shape y_shape;
};

struct Options {
  py::handle strides, padding, dilation, groups, output_padding;
};

Operands operands(const Face& face, const char* op, py::handle x_, py::handle w_, py::handle b_,
                  const Options& options) {
  Operands o;
  o.x = read_float(x_, op, "x");
  o.w = read_like(w_, o.x, op, "the kernel");
  const Shape &xs = o.x.shape, &ws = o.w.shape;
  const std::string axes = face.axes == 1 ? "length" : "height, width";
  if (xs.size() != face.axes + 2) {
    value_error(op, "x must have " + std::to_string(face.axes + 2) + " dimensions (batch, " + axes +
                        ", channels); x is " + text_of(xs));
  }
  const char* columns = face.depthwise    ? "channels, multiplier"
                        : face.transposed ? "filters, channels"
                                          : "channels / groups, filters";
  if (ws.size() != face.axes + 2) {
    value_error(op, "the kernel must have " + std::to_string(face.axes + 2) + " dimensions (" + axes + ", " + columns +
                        "); it is " + text_of(ws));
  }
  for (size_t i = 0; i < 4 && i < ws.size(); ++i) {
    if (ws[i] < 1) value_error(op, "the kernel has no elements: it is " + text_of(ws));
  }

  const Pair stride = pair_from(options.strides, face, op, "strides", 1);
  const Pair dilation = pair_from(options.dilation, face, op, "dilation", 1);
  const Padding padding = padding_from(options.padding, face, op);
  const int64_t channels = xs.back(), inner = ws[face.axes], outer = ws[face.axes + 1];
  int64_t groups = 1, filters = outer;
  if (face.depthwise) {
    groups = channels;
    filters = inner * outer;
  } else if (face.transposed) {
    filters = inner;
  } else {
    groups = integer_from(options.groups);
    if (groups < 1) {
      value_error(op, "groups must be an integer of at least 1; received " + text_of_object(options.groups));
    }
  }
  const int64_t seen = face.depthwise ? inner : face.transposed ? outer : inner * groups;
  if (channels != seen) {
    value_error(op, "x has " + pluralised(channels, "channel") + " but the kernel is made for " + std::to_string(seen) +
                        (groups > 1 && !face.depthwise ? " (" + std::to_string(groups) + " groups)" : "") + ": x is " +
                        text_of(xs) + ", kernel is " + text_of(ws));
  }
  if (filters % groups != 0) {
    value_error(op, "the kernel's " + pluralised(filters, "filter") + " do not divide into " + std::to_string(groups) +
                        " groups: kernel is " + text_of(ws));
  }

  const bool flat = face.axes == 1;
  const int64_t height = flat ? 1 : xs[1], width = xs[face.axes];
  const int64_t kernel_height = flat ? 1 : ws[0], kernel_width = ws[face.axes - 1];
  const Padding::Kind upright = flat ? Padding::valid : padding.kind;
  if (face.transposed) {
    Pair extra{-1, -1};
    if (!options.output_padding.is_none()) extra = pair_from(options.output_padding, face, op, "output_padding", 0);
    if (flat) extra.height = -1;
    const Axis rows = transposed_axis_of(height, kernel_height, stride.height, dilation.height, upright, padding.top,
                                         padding.bottom, extra.height);
    const Axis columns_ = transposed_axis_of(width, kernel_width, stride.width, dilation.width, padding.kind,
                                             padding.left, padding.right, extra.width);
    if (height < 1 || width < 1 || rows.outputs < 1 || columns_.outputs < 1) {
      value_error(op, "the padding leaves nothing of the result: x is " + text_of(xs) + ", kernel is " + text_of(ws));
    }
    o.g = {xs[0],          rows.outputs,  columns_.outputs, filters,
           height,         width,         channels,         kernel_height,
           kernel_width,   stride.height, stride.width,     dilation.height,
           dilation.width, rows.pad,      columns_.pad,     1};
  } else {
    const Axis rows =
        axis_of(height, kernel_height, stride.height, dilation.height, upright, padding.top, padding.bottom);
    const Axis columns_ =
        axis_of(width, kernel_width, stride.width, dilation.width, padding.kind, padding.left, padding.right);
    if (height < 1 || width < 1 || rows.outputs < 1 || columns_.outputs < 1) {
      value_error(op, "the kernel is larger than the image: x is " + text_of(xs) + ", kernel is " + text_of(ws) +
                          "; padding='same' keeps the size");
    }
    o.g = {xs[0],          height,        width,        channels,      rows.outputs, columns_.outputs,
           filters,        kernel_height, kernel_width, stride.height, stride.width, dilation.height,
           dilation.width, rows.pad,      columns_.pad, groups};
  }
  if (!b_.is_none()) {
    o.b = read_like(b_, o.x, op, "the bias");
    if (o.b.shape != Shape{filters}) {
      value_error(op, "the bias must have one value for each of the " + pluralised(filters, "filter") + ": kernel is " +
                          text_of(ws) + ", bias is " + text_of(o.b.shape));
    }
  }
  o.y_shape = xs;
  o.y_shape.back() = filters;
  o.y_shape[face.axes] = face.transposed ? o.g.width : o.g.out_width;
  if (!flat) o.y_shape[1] = face.transposed ? o.g.height : o.g.out_height;
  if (face.pooled) {
    if (std::min(o.g.out_height, o.g.out_width) < 2) {
      value_error(op, "the convolution's output is smaller than a window of 2x2: it is " + text_of(o.y_shape));
    }
    o.y_shape[1] /= 2;
    o.y_shape[2] /= 2;
  }
  return o;
}

}  // namespace
}  // namespace ranvier::ops
