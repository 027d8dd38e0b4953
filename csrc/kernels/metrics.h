// Metrics.
#pragma once

#include "kernels/losses.h"

namespace ranvier {

// sums += (matches, rows). One chunk.
struct AccuracyArgs {
  Sums* sums;
  const void* y_true;  // binary: T (rows, columns); categorical: T (rows, columns); sparse: int32 (rows)
  const void* y_pred;  // T (rows, columns)
  int64_t rows, columns;
  double threshold;  // binary
};

}  // namespace ranvier
