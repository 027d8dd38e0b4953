// Batch normalization.
#pragma once

#include "kernels/types.h"

namespace ranvier {

// x is seen as (rows, columns), columns = channels * fold: `fold` rows of few channels side by side are one row, so
// that vectors are full. Chunks: chunks_of(rows, block). Per chunk and column there are two numbers, `parts`.

// Mean, and sum of squared deviations from it, of the rows of each chunk.
struct BatchMomentsArgs {
  double* parts;  // (chunks, 2, columns)
  const void* x;  // T (rows, columns)
  int64_t rows, columns, block;
};

// Rows: mean, variance, inverse = 1 / sqrt(variance + epsilon), scale = gamma inverse, offset = beta - mean scale.
// Chunks: kColumns channels.
struct BatchStatisticsArgs {
  void* statistics;      // T (5, channels)
  const double* parts;   // (chunks, 2, columns); null: mean and variance are given
  const void* mean;      // T (channels)
  const void* variance;  // T (channels)
  const void* gamma;     // T (channels) or null
  const void* beta;      // T (channels) or null
  int64_t rows, channels, fold, block;
  double epsilon;
};

// y = x * scale + offset, or max(that, 0).
struct BatchNormArgs {
  void* y;                 // T (rows, columns)
  const void* x;           // T (rows, columns)
  const void* statistics;  // T (5, channels)
  int64_t rows, channels, fold, block;
  bool relu;
  bool around;  // the result is so large that it is stored around the caches
};

// Sums of g and of g (x - mean) over the rows of each chunk; g = dy, with relu where y > 0, else 0.
struct BatchNormSumsArgs {
  double* parts;           // (chunks, 2, columns)
  const void* dy;          // T (rows, columns)
  const void* x;           // T (rows, columns)
  const void* statistics;  // T (5, channels)
  int64_t rows, channels, fold, block;
  bool relu;
};

// Chunks: kColumns channels.
struct BatchNormGradientsArgs {
  void* terms;             // T (2, channels): slope and height of dx = scale g + slope (x - mean) + height
  void* dgamma;            // T (channels) or null
  void* dbeta;             // T (channels) or null
  const double* parts;     // (chunks, 2, columns)
  const void* statistics;  // T (5, channels)
  int64_t rows, channels, fold, block;
  bool given;                  // the statistics are not x's
  bool add_dgamma, add_dbeta;  // to what is there
};

struct BatchNormBackwardArgs {
  void* dx;                // T (rows, columns)
  const void* dy;          // T (rows, columns)
  const void* x;           // T (rows, columns)
  const void* statistics;  // T (5, channels)
  const void* terms;       // T (2, channels)
  int64_t rows, channels, fold, block;
  bool relu;
  bool around;  // the result is so large that it is stored around the caches
};

// moving = moving * momentum + value * (1 - momentum). Chunks: kElements.
struct MovingAverageArgs {
  void* moving;       // T (n)
  const void* value;  // T (n)
  int64_t n;
  double momentum;
};

}  // namespace ranvier
