// Images moved.
#pragma once

#include "kernels/dropout.h"

namespace ranvier {

enum class Fill : int { constant, nearest, reflect, wrap };

// Pixel (i, j) of y is x at (m[0] i + m[1] j + m[2], m[3] i + m[4] j + m[5]), m being its image's matrix, between the
// four pixels there or at the nearest one. Chunks: one row of an image of y; backward: one image.
struct ResampleArgs {
  void* y;               // T (images, out_height, out_width, channels); backward: dy, read
  const void* x;         // T (images, height, width, channels); backward: dx, written
  const double* matrix;  // (images, 6), or (6) with a step of 0
  int64_t images, height, width, channels, out_height, out_width, matrix_step;
  Fill fill;  // what is beyond the edges
  double value;
  bool bilinear;
};

enum class Move : int { flip, shift, rotate, zoom, crop };

// A matrix for each image, drawn from the key and the image's number. One chunk.
struct DrawMovesArgs {
  double* matrix;  // (images, 6)
  const RandomState* key;
  int64_t images, height, width, out_height, out_width;
  Move move;
  // flip: the shares of images turned over; shift, rotate, zoom: the bounds, by height and by width
  double low_height, high_height, low_width, high_width;
  bool together;  // zoom: one factor for both axes
};

// y[i] uniform in [low, high), drawn from the key and i. One chunk.
struct DrawUniformArgs {
  void* y;  // T (n)
  const RandomState* key;
  int64_t n;
  double low, high;
};

}  // namespace ranvier
