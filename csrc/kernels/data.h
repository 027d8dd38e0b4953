// A user's data: where they are, and on their way in.
#pragma once

#include "kernels/types.h"

namespace ranvier {

// A user's array, whose place changes from run to run: row r begins at data + r * row_bytes, its columns contiguous.
struct Source {
  char* data;
  int64_t row_bytes;
};
// Where a run is: the next batch is rows order[cursor], order[cursor + 1], ... (null: cursor, cursor + 1, ...).
struct Feed {
  const int64_t* order;
  int64_t cursor;
};

// y[i] = the feed's i-th row of x, converted. Chunks: one row.
struct GatherArgs {
  void* y;          // y_dtype (rows, columns)
  const Source* x;  // x_dtype
  const Feed* feed;
  int64_t rows, columns;
  DType x_dtype, y_dtype;  // y: f32, f64 or i32
};

// The feed's i-th row of y = x[i]. Chunks: one row.
struct ScatterArgs {
  const Source* y;
  const void* x;  // row_bytes a row
  const Feed* feed;
  int64_t rows, row_bytes;
};

// cursor += step. One chunk.
struct AdvanceArgs {
  Feed* feed;
  int64_t step;
};

// y = x, converted. Chunks: kElements.
struct CastArgs {
  void* y;        // y_dtype (n): f32, f64 or i32
  const void* x;  // x_dtype (n)
  int64_t n;
  DType x_dtype, y_dtype;
};

// y = x * scale + offset is (x - mean) / deviation, or its inverse; deviation = max(sqrt(variance), 1e-7). One chunk.
struct NormalizationArgs {
  void* scale;           // T (columns)
  void* offset;          // T (columns)
  const void* mean;      // T (given): one for each column, or one for all
  const void* variance;  // T (given)
  int64_t columns, given;
  bool invert;
};

// y = x * scale + offset by columns, or with one scale and offset for all; null: 1 and 0. Chunks: kElements.
struct AffineArgs {
  void* y;             // T (n)
  const void* x;       // T (n)
  const void* scale;   // T (columns) or null
  const void* offset;  // T (columns) or null
  int64_t n, columns;
};

// y = a + b. Chunks: kElements.
struct AddArgs {
  void* y;        // T (n)
  const void* a;  // T (n)
  const void* b;  // T (n)
  int64_t n;
};

}  // namespace ranvier
