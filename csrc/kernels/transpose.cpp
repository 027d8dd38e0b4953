// Axes in another order.
#include "kernels/transpose.h"

#include "kernels/loops.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

// y (rows, columns), its rows y_step apart, from x, whose columns are x_step apart: squares, so that the lines of both
// stay in the cache.
template <class T>
void turn(T* y, const T* x, int64_t rows, int64_t columns, int64_t y_step, int64_t x_step) {
  constexpr int64_t kColumnsAtOnce = 32;
  for (int64_t first = 0; first < columns; first += kColumnsAtOnce) {
    const int64_t last = first + kColumnsAtOnce < columns ? first + kColumnsAtOnce : columns;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = first; c < last; ++c) y[r * y_step + c] = x[r + c * x_step];
    }
  }
}

void transpose(const TransposeArgs& a, int64_t begin, int64_t end) {
  const int last = a.axes - 1;
  const int64_t rows = a.sizes[a.turned], columns = a.sizes[last];
  const int64_t down = chunks_of(rows, kTurn), across = chunks_of(columns, kTurnColumns);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    int64_t rest = chunk / (down * across);
    const int64_t part = chunk - rest * down * across;
    const int64_t row = part / across * kTurn, column = part % across * kTurnColumns;
    int64_t from = row + column * a.steps[last], to = column, step = 1, row_step = 1;
    for (int d = last; d >= 0; --d) {
      if (d == a.turned) row_step = step;
      if (d != a.turned && d != last) {
        const int64_t i = rest % a.sizes[d];
        rest /= a.sizes[d];
        from += i * a.steps[d];
        to += i * step;
      }
      step *= a.sizes[d];
    }
    to += row * row_step;
    const int64_t n = rows - row < kTurn ? rows - row : kTurn;
    const int64_t wide = columns - column < kTurnColumns ? columns - column : kTurnColumns;
    if (a.bytes == 4) {
      turn(reinterpret_cast<uint32_t*>(a.y) + to, reinterpret_cast<const uint32_t*>(a.x) + from, n, wide, row_step,
           a.steps[last]);
    } else {
      turn(reinterpret_cast<uint64_t*>(a.y) + to, reinterpret_cast<const uint64_t*>(a.x) + from, n, wide, row_step,
           a.steps[last]);
    }
  }
}

}  // namespace

void fill_transpose(KernelTable& table) {
  table.transpose = entry<TransposeArgs, transpose>;
}

}  // namespace ranvier::RANVIER_TIER
