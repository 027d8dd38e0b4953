// Convolutions, the depthwise one among them.
#pragma once

#include "kernels/activation.h"

namespace ranvier {

// y[oh, ow] reads x[oh * stride - pad + kh * dilation, ...]; outside the image there are zeros. Channels fall into
// groups: the filters of a group see its channels only. With as many groups as channels it is the depthwise
// convolution; one-dimensional ones have height 1.
struct ConvGeometry {
  int64_t batch, height, width, channels;  // of x
  int64_t out_height, out_width, filters;  // of y
  int64_t kernel_height, kernel_width;
  int64_t stride_height, stride_width;
  int64_t dilation_height, dilation_width;
  int64_t pad_top, pad_left;  // what is missing at the other ends, out_height and out_width tell
  int64_t groups;
};

// How the kernels below cut a convolution, by its shapes alone.
struct ConvPlan {
  int64_t packed, pack_chunks;            // elements of w in panels, for conv
  int64_t packed_back, pack_back_chunks;  // and for conv_input_gradient; 0: it takes w as it is
  int64_t chunks, back_chunks;            // of conv and conv_input_gradient
  int64_t splits, gradient_chunks;        // of conv_kernel_gradient
};

// w in panels: for conv of filters, for conv_input_gradient of channels. Chunks: the plan's.
struct ConvPackArgs {
  void* packed;   // T, the plan's size
  const void* w;  // T (kernel_height, kernel_width, channels / groups, filters)
  ConvGeometry g;
  bool back;
};

// y = activation(x * w + bias). Chunks: the plan's.
struct ConvArgs {
  void* y;           // T (batch, out_height, out_width, filters)
  const void* x;     // T (batch, height, width, channels)
  const void* w;     // in panels
  const void* bias;  // T (filters) or null
  ConvGeometry g;
  Activation activation;  // any but softmax
  double alpha;
  // y times f' of this activation's output, as in MatmulArgs. Null: y.
  const void* through = nullptr;  // T, as y
  Activation through_activation = Activation::linear;
  double through_alpha = 0;
};

// dx: each dy goes back to what its y has read; with bias and activation it is the transposed convolution. Chunks: the
// plan's.
struct ConvInputGradientArgs {
  void* dx;          // T (batch, height, width, channels)
  const void* dy;    // T (batch, out_height, out_width, filters)
  const void* w;     // in panels, or as it is
  const void* bias;  // T (channels) or null
  ConvGeometry g;
  Activation activation;  // any but softmax
  double alpha;
  const void* through = nullptr;  // T, as dx: as in ConvArgs
  Activation through_activation = Activation::linear;
  double through_alpha = 0;
};

// dw = sum over all y of (what it read) dy, or dw += it; db from the same pass. The pixels are split into `splits`
// parts, and each has its own dw and db. Chunks: the plan's.
struct ConvKernelGradientArgs {
  void* dw;        // T (splits, kernel_height, kernel_width, channels / groups, filters)
  const void* x;   // T (batch, height, width, channels)
  const void* dy;  // T (batch, out_height, out_width, filters)
  ConvGeometry g;
  bool add_dw;
  void* db = nullptr;  // T (splits, filters): the sums of dy; or null
  bool add_db = false;
};

// The depthwise kernels have the same arguments, but neither `through` nor `db`. There w is not packed, and with M
// filters for each channel the last axis of w, bias, y and dy is in the order (M, channels).

// y[i] = sum of the i-th part of the rows of x. Chunks: parts.
struct PartSumsArgs {
  void* y;        // T (parts, columns)
  const void* x;  // T (rows, columns)
  int64_t rows, columns, parts;
};

}  // namespace ranvier
