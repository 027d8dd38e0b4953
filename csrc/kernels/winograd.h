// Convolutions by Winograd's tiles.
#pragma once

#include "kernels/conv2d.h"

namespace ranvier {

// Convolutions with kernels of 3x3 or 5x5, strides and dilations of 1 and one group, by tiles of up to 4x4 or of 2x2
// outputs. What the args need depends on the geometry:
struct WinogradPlan {
  int64_t points;                             // of all tiles: multiplications for a channel and a filter
  int64_t chunks, scratch;                    // of winograd; elements
  int64_t kernel_chunks, kernel;              // of winograd_kernel; elements of u
  int64_t gradient_chunks, gradient_scratch;  // of winograd_gradient; elements
  int64_t sum_chunks, parts;                  // of winograd_sum; elements
};

// u = G w G^T for each channel and filter. Chunks: the plan's.
struct WinogradKernelArgs {
  void* u;        // T (plan.kernel)
  const void* w;  // T (taps, taps, channels, filters), or (taps, taps, filters, channels) if turned
  int64_t taps, channels, filters;
  bool turned;  // w turned by 180 degrees and transposed: then y is the input's gradient
};

// Of an output that is pooled there is but the largest of each window of 2x2 pixels, (batch, out_height / 2,
// out_width / 2, filters), and where in its window that is, uint8, as in PoolArgs; of a gradient of it what goes there:
// the other pixels are 0.

// y = activation(x * w + bias). Chunks: the plan's.
struct WinogradArgs {
  void* y;           // T (batch, out_height, out_width, filters), or pooled
  const void* x;     // T (batch, height, width, channels), or pooled
  const void* u;     // T (plan.kernel)
  const void* bias;  // T (filters) or null
  void* scratch;     // T (plan.scratch)
  ConvGeometry g;
  Activation activation;  // any but softmax
  double alpha;
  // y times f' of this activation's output, as in MatmulArgs. Null: y.
  const void* through = nullptr;  // T, as y
  Activation through_activation = Activation::linear;
  double through_alpha = 0;
  bool pooled = false;               // y; then f is linear or relu, and there is no `through`
  uint8_t* where = nullptr;          // as a pooled y; null if nobody asks
  const uint8_t* x_where = nullptr;  // as a pooled x; null: x is not pooled
};

// Sums over runs of tiles of the products that dw is made of. Chunks: the plan's.
struct WinogradGradientArgs {
  void* parts;     // T (plan.parts)
  const void* x;   // T (batch, height, width, channels)
  const void* dy;  // T (batch, out_height, out_width, filters), or pooled
  void* scratch;   // T (plan.gradient_scratch)
  ConvGeometry g;
  bool bias;                // the sums of dy as well
  const uint8_t* dy_where;  // as a pooled dy; null: dy is not pooled
};

// dw = the kernel's gradient, or dw += it, and the bias's from the same parts. Chunks: the plan's.
struct WinogradSumArgs {
  void* dw;  // T (taps, taps, channels, filters)
  void* db;  // T (filters) or null
  const void* parts;
  ConvGeometry g;
  bool add_dw, add_db;  // to what is there
};

}  // namespace ranvier
