// Axes in another order.
#pragma once

#include "kernels/types.h"

namespace ranvier {

// y = x with its axes in another order: element (i, j, ...) of y is x at i * steps[0] + j * steps[1] + ... Of two axes,
// the rows' and the last, one has step 1: rows are turned over, or stay rows. Chunks: transpose_chunks(args).
struct TransposeArgs {
  void* y;                             // T
  const void* x;                       // T
  int64_t sizes[kAxes], steps[kAxes];  // y's axes, at least two, and their steps in x, in elements
  int axes, rows;                      // their number, and which of them is the rows', not the last
};

// In one chunk: pieces of whole lines, some thousand elements.
struct TransposedPiece {
  int64_t rows, columns;
};
inline TransposedPiece transposed_piece(int64_t columns) {
  constexpr int64_t kLine = 32, kMost = 4096;
  if (columns >= kMost / kLine) return {kLine, kMost};
  return {kMost / (columns > 0 ? columns : 1) / kLine * kLine, columns};
}
inline int64_t transpose_chunks(const TransposeArgs& a) {
  const int64_t rows = a.sizes[a.rows], columns = a.sizes[a.axes - 1];
  const TransposedPiece piece = transposed_piece(columns);
  int64_t chunks = chunks_of(rows, piece.rows) * chunks_of(columns, piece.columns);
  for (int d = 0; d < a.axes - 1; ++d) chunks *= d == a.rows ? 1 : a.sizes[d];
  return chunks;
}

}  // namespace ranvier
