// Which pixels a convolution reads where: a shared tool of its kernels.
//
// Zeros around the image are never multiplied: outputs that see the same taps are taken together (for_spans).
#pragma once

#include "kernels/conv2d.h"
#include "kernels/vec.h"

namespace ranvier::RANVIER_TIER {
namespace {

RANVIER_INLINE int64_t floor_of(int64_t a, int64_t b) {
  return a >= 0 ? a / b : -((b - 1 - a) / b);
}
RANVIER_INLINE int64_t ceil_of(int64_t a, int64_t b) {
  return -floor_of(-a, b);
}

// One axis of a correlation: output o reads input o * stride - pad + k * dilation with tap k.
struct Axis {
  int64_t size, kernel, stride, dilation, pad;

  Range taps(int64_t o) const {  // of output o, those within the image
    const int64_t first = o * stride - pad;
    const int64_t begin = clip(ceil_of(-first, dilation), 0, kernel);
    return {begin, clip(ceil_of(size - first, dilation), begin, kernel)};
  }
  // The outputs from o on, but before `end`, that have the same taps.
  Range span(int64_t o, int64_t end) const {
    if (kernel == 0) return {o, end};
    const Range t = taps(o);
    int64_t last = o + 1;
    if (t.size() == kernel) last = floor_of(size - 1 - (kernel - 1) * dilation + pad, stride) + 1;
    while (t.size() < kernel && last < end && taps(last).begin == t.begin && taps(last).end == t.end) ++last;
    return {o, last < end ? last : end};
  }
  // The outputs whose tap k lies within the image, of `outputs`.
  Range outputs_of(int64_t k, int64_t outputs) const {
    const int64_t begin = clip(ceil_of(pad - k * dilation, stride), 0, outputs);
    return {begin, clip(ceil_of(size + pad - k * dilation, stride), begin, outputs)};
  }
  // The outputs that see some inputs, those outside the image too, if dilation is 1: n inputs are seen by (n + kernel -
  // 2) / stride + 1 at most.
  Range readers_of(Range inputs) const {
    return {ceil_of(inputs.begin + pad - kernel + 1, stride), floor_of(inputs.end - 1 + pad, stride) + 1};
  }
};

// Runs body(rows, columns) for each rectangle of outputs that see the same taps.
template <class Body>
RANVIER_INLINE void for_spans(const Axis& down, const Axis& across, Range rows, Range columns, Body body) {
  for (int64_t row = rows.begin; row < rows.end;) {
    const Range height = down.span(row, rows.end);
    for (int64_t column = columns.begin; column < columns.end;) {
      const Range width = across.span(column, columns.end);
      body(height, width);
      column = width.end;
    }
    row = height.end;
  }
}

RANVIER_INLINE Axis down_of(const ConvGeometry& g) {
  return {g.height, g.kernel_height, g.stride_height, g.dilation_height, g.pad_top};
}
RANVIER_INLINE Axis across_of(const ConvGeometry& g) {
  return {g.width, g.kernel_width, g.stride_width, g.dilation_width, g.pad_left};
}

// Along one axis, the inputs i with i % stride == phase, i = phase + stride * j: which taps they see, and how.
struct Phase {
  int64_t first, step, taps;  // kernel taps first, first + step, ...
  int64_t before;             // taps of all phases before
  int64_t inputs;             // how many such i
  Axis axis;                  // j reads the outputs, with the taps in reverse
};
RANVIER_INLINE int64_t common_divisor(int64_t a, int64_t b) {
  while (b) {
    const int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}
// i = o * stride - pad + k * dilation. With d the common divisor of stride and dilation, every (stride / d)-th tap
// reaches i, if any does; the outputs that do are dilation / d apart.
RANVIER_INLINE Phase phase_of(const Axis& forward, int64_t outputs, int64_t phase) {
  const int64_t d = common_divisor(forward.stride, forward.dilation);
  Phase p;
  p.step = forward.stride / d;
  p.before = 0;
  const auto first_of = [&](int64_t phase_) __attribute__((always_inline)) {
    int64_t k = 0;
    while (k < p.step && (phase_ + forward.pad - k * forward.dilation) % forward.stride != 0) ++k;
    return k < p.step ? k : forward.kernel;
  };
  const auto taps_from = [&](int64_t k) __attribute__((always_inline)) {
    return k < forward.kernel ? (forward.kernel - 1 - k) / p.step + 1 : 0;
  };
  for (int64_t q = 0; q < phase; ++q) p.before += taps_from(first_of(q));
  p.first = first_of(phase);
  p.taps = taps_from(p.first);
  p.inputs = forward.size > phase ? (forward.size - 1 - phase) / forward.stride + 1 : 0;
  const int64_t apart = forward.dilation / d;
  // tap t of the reverse is first + (taps - 1 - t) * step, and reads output j + at - (taps - 1 - t) * apart
  const int64_t at = p.taps ? (phase + forward.pad - p.first * forward.dilation) / forward.stride : 0;
  p.axis = {outputs, p.taps, 1, apart, (p.taps - 1) * apart - at};
  return p;
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
