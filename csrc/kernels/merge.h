// Several inputs into one.
#pragma once

#include "kernels/types.h"

namespace ranvier {

enum class Merge : int { add, subtract, multiply, maximum, minimum };
enum class Operand : int { neither, first, second };

// y = a (rule) b, where an axis of a or b may be repeated: its step is 0. With an operand: y = dy where the maximum or
// minimum is that operand's, the first's if they are equal, and 0 elsewhere. Chunks: kElements.
struct MergeArgs {
  void* y;         // T (sizes..., columns)
  const void* a;   // T, steps a_steps and a_step
  const void* b;   // T, steps b_steps and b_step
  const void* dy;  // T, as y; null for neither
  int64_t n, columns;
  int64_t sizes[kAxes], a_steps[kAxes], b_steps[kAxes];  // of the axes before the columns
  int64_t a_step, b_step;                                // along the columns: 0 or 1
  int axes;
  Merge rule;
  Operand operand;
};

// y = x summed over some of its axes. The axes alternate: kept, summed, kept, ... Chunks: kept * chunks_of(columns,
// kColumns), and columns is 1 where the last axis is one of those summed.
struct SumOverArgs {
  void* y;                             // T (kept sizes..., columns)
  const void* x;                       // T
  int64_t kept, columns, summed, run;  // y's rows and columns; how many parts of `run` elements are added up for each
  int64_t kept_sizes[kAxes], kept_steps[kAxes], summed_sizes[kAxes], summed_steps[kAxes];
  int kept_axes, summed_axes;
};

// Row r of y, which begins at y + r * y_step, = row r of x. Chunks: chunks_of(rows, block).
struct CopyRowsArgs {
  char* y;
  const char* x;
  int64_t rows, bytes, y_step, x_step, block;
};

}  // namespace ranvier
