// Pooling.
#pragma once

#include "kernels/activation.h"

namespace ranvier {

// y[oh, ow] reads the window of x that begins at [oh * stride - pad, ...]; what lies outside the image does not count.
// Along one axis that is pooled: height, with width 1.
struct PoolGeometry {
  int64_t batch, height, width, channels;  // of x
  int64_t out_height, out_width;           // of y
  int64_t pool_height, pool_width;
  int64_t stride_height, stride_width;
  int64_t pad_top, pad_left;
};

// y = the largest of each window, or its mean. `where`: the place of the largest in its window, kh * pool_width + kw.
// Chunks: one row of y.
struct PoolArgs {
  void* y;        // T (batch, out_height, out_width, channels)
  void* where;    // as y: uint8, int32 if wide; null if nobody asks; not for the mean
  const void* x;  // T (batch, height, width, channels)
  PoolGeometry g;
  bool wide;
};

// dx = the sum over all windows that a pixel is in: of dy where it was the largest, of dy / count for the mean. Where x
// is an activation's output, times f' there: dx is then what the layer below calls dz. Chunks: one row of dx.
struct PoolBackwardArgs {
  void* dx;           // T (batch, height, width, channels)
  const void* dy;     // T (batch, out_height, out_width, channels)
  const void* where;  // as dy; as in PoolArgs
  const void* kept;   // the activation's outputs: of the largest y, as dy; for the mean x, as dx; not read if linear
  PoolGeometry g;
  bool wide;
  bool around;            // no cache holds dx, whose pixels begin and end with cache lines
  Activation activation;  // one whose derivative follows from its output
  double alpha;
};

}  // namespace ranvier
