// Axes in another order.
#pragma once

#include "kernels/types.h"

namespace ranvier {

constexpr int64_t kTurn = 32, kTurnColumns = 4096;  // rows and columns in one chunk of a transposition

// y = x with its axes in another order: element (i, j, ...) of y is x at i * steps[0] + j * steps[1] + ... x is
// contiguous along `turned`, which is not the last axis: where rows stay rows, an axis of size 1 follows. Chunks: for
// each of the other axes' elements chunks_of(sizes[turned], kTurn) * chunks_of(sizes[last], kTurnColumns).
struct TransposeArgs {
  char* y;
  const char* x;
  int64_t sizes[kAxes], steps[kAxes];  // y's axes, and their steps in x, in elements
  int axes, turned;                    // at least two axes
  int64_t bytes;                       // of an element
};

}  // namespace ranvier
