// Losses, what an epoch adds up of them, and penalties.
#pragma once

#include "kernels/types.h"

namespace ranvier {

// The loss of each row and, if wanted, the gradient of the mean over the rows, in one visit. Chunks: one row.
struct LossArgs {
  void* loss;          // T (rows)
  void* gradient;      // T (rows, columns) or null
  const void* y_true;  // T (rows, columns); int32 (rows) for sparse cross-entropy
  const void* y_pred;  // T (rows, columns)
  int64_t rows, columns;
};

// value = mean of x, in one fixed order. One chunk.
struct MeanArgs {
  void* value;    // T (1)
  const void* x;  // T (n)
  int64_t n;
};

// What an epoch adds up, whatever the number of threads.
struct Sums {
  double total, count;
  double steps, first_bad;  // batches added so far, and the first whose value was not finite (-1: none)
};

// sums += (value * weight, weight). One chunk.
struct AccumulateArgs {
  Sums* sums;
  const void* value;  // T (1)
  double weight;
};

// A penalty, scale * (l1 sum|x| + l2 sum x^2): what each chunk gives, without the scale; dx (+)= its derivative.
// Chunks: kElements.
struct PenaltyArgs {
  double* parts;  // (chunks)
  void* dx;       // T (n) or null
  const void* x;  // T (n)
  int64_t n;
  double l1, l2, scale;
  bool accumulate;  // dx += rather than dx =
};

// value = scale * sum of parts, in one fixed order. One chunk.
struct TotalArgs {
  void* value;          // T (1)
  const double* parts;  // (n)
  int64_t n;
  double scale;
};

}  // namespace ranvier
