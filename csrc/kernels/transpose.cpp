// Axes in another order.
#include "kernels/transpose.h"

#include "kernels/tier.h"
#include "kernels/turn.h"

namespace ranvier::RANVIER_TIER {
namespace {

template <class T>
void copy(T* y, const T* x, int64_t rows, int64_t columns, int64_t y_step, int64_t x_step) {
  for (int64_t r = 0; r < rows; ++r) {
    map_lanes<T>(y + r * y_step, x + r * x_step, columns, [](Vec<T> v) __attribute__((always_inline)) { return v; });
  }
}

template <class T>
void transpose(const TransposeArgs& a, int64_t begin, int64_t end) {
  const int last = a.axes - 1;
  const int64_t rows = a.sizes[a.rows], columns = a.sizes[last], row_step = a.steps[a.rows], step = a.steps[last];
  const TransposedPiece piece = transposed_piece(columns);
  const int64_t down = chunks_of(rows, piece.rows), across = chunks_of(columns, piece.columns);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    int64_t rest = chunk / (down * across);
    const int64_t part = chunk - rest * down * across;
    const int64_t row = part / across * piece.rows, column = part % across * piece.columns;
    int64_t from = row * row_step + column * step, to = column, y_step = 1, y_row = 0;
    for (int d = last; d >= 0; --d) {
      if (d == a.rows) {
        y_row = y_step;
        to += row * y_row;
      } else if (d != last) {
        const int64_t i = rest % a.sizes[d];
        rest /= a.sizes[d];
        from += i * a.steps[d];
        to += i * y_step;
      }
      y_step *= a.sizes[d];
    }
    T* const y = static_cast<T*>(a.y) + to;
    const T* const x = static_cast<const T*>(a.x) + from;
    const int64_t high = rows - row < piece.rows ? rows - row : piece.rows;
    const int64_t wide = columns - column < piece.columns ? columns - column : piece.columns;
    step == 1 ? copy(y, x, high, wide, y_row, row_step) : turn(y, x, high, wide, y_row, step);
  }
}

}  // namespace

void fill_transpose(KernelTable& table) {
  table.transpose = typed(TransposeArgs, transpose);
}

}  // namespace ranvier::RANVIER_TIER
