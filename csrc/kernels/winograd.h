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

// y = activation(x * w + bias). Chunks: the plan's.
struct WinogradArgs {
  void* y;           // T (batch, out_height, out_width, filters)
  const void* x;     // T (batch, height, width, channels)
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
};

// Sums over runs of tiles of the products that dw is made of. Chunks: the plan's.
struct WinogradGradientArgs {
  void* parts;     // T (plan.parts)
  const void* x;   // T (batch, height, width, channels)
  const void* dy;  // T (batch, out_height, out_width, filters)
  void* scratch;   // T (plan.gradient_scratch)
  ConvGeometry g;
  bool bias;  // the sums of dy as well
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
