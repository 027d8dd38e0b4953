// Products of some rows with a large matrix that is transposed, C (m, n) = A B^T: the input gradient of a small batch,
// or its product with a transposed view.
//
// They are taken as C^T = B A^T, so that B is read along its rows, as it is: a tile's rows are rows of B, its columns
// rows of A, which is packed. What is turned over then is A and C, and not B, which is much larger than both.
#pragma once

#include "kernels/dense.h"
#include "kernels/gemm_few.h"
#include "kernels/gemm_tile.h"
#include "kernels/turn.h"

namespace ranvier::RANVIER_TIER {
namespace {

// Up to how many rows, which must fill most of their last vector; by how large a B, of how many columns for each row
// and how long sums: below, turning C costs as much as turning B, or packing A apart, on one thread, as much as it
// saves (measured on Zen 5). Without fused operations a broadcast, of which there are more this way, costs too much.
constexpr int64_t kTurnedRows = 64, kTurnedSize = 1 << 16, kTurnedColumns = 4, kTurnedSteps = 64;
constexpr int64_t kTurnedTiles = 8;  // of C^T before they are turned

// Whether to pack A and set `turned`.
template <class T>
bool turns(const MatmulArgs& g) {
  constexpr int64_t kL = kLanes<T>;
  const bool full = (g.m + kL - 1) % kL >= kL / 2;
  return kFused && g.transposed && full && g.m <= kTurnedRows && g.n * g.k >= kTurnedSize &&
         g.n >= kTurnedColumns * g.m && g.k >= kTurnedSteps && !few_dots(g) && g.a_column == 1 && g.batches == 1 &&
         !g.accumulate && !g.source && !g.update && !g.row_sum;
}

template <class T>
RANVIER_INLINE int64_t turned_tiles(const MatmulArgs& g) {
  return chunks_of(g.n, same_set<T>(g.b_row) ? kRoomy : kRows);
}
template <class T>
RANVIER_INLINE int64_t turned_chunks(const MatmulArgs& g) {
  return 2 * chunks_of(turned_tiles<T>(g), 2 * kTurnedTiles);  // even work for two threads
}

// Chunks: some tiles of C^T, whose columns are all of C's rows.
template <class T>
void product_turned(const MatmulArgs& g, int64_t begin, int64_t end) {
  constexpr int64_t kL = kLanes<T>, width = kPanel<T>;
  alignas(64) T turned[(kTurnedTiles * kRows + kL) * kTurnedRows];
  const int64_t all = turned_tiles<T>(g), chunks = turned_chunks<T>(g);
  const T* const b = static_cast<const T*>(g.b);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t tile_0 = all * chunk / chunks, tile_1 = all * (chunk + 1) / chunks;
    const int64_t first = g.n * tile_0 / all, rows = g.n * tile_1 / all - first;
    Tile<T> t{};
    t.c_row = kTurnedRows;
    t.a_row = g.b_row;
    t.a_column = 1;
    t.b_row = width;
    t.depth = g.k;
    t.lanes = kL;
    t.go_on = g.bias;
    for (int64_t r = 0; g.bias && r < rows; ++r) {
      const Vec<T> start = splat<T>(static_cast<const T*>(g.bias)[first + r]);
      for (int64_t column = 0; column < g.m; column += kL) store(turned + r * kTurnedRows + column, start);
    }
    for (int64_t i = tile_0; i < tile_1; ++i) {
      const int64_t row = g.n * i / all, next = g.n * (i + 1) / all;
      t.a = b + row * g.b_row;
      t.a_next = i + 1 < all ? b + next * g.b_row : nullptr;
      for (int64_t column = 0; column < g.m; column += width) {
        t.b = static_cast<const T*>(g.a) + column * g.k;
        t.c = turned + (row - first) * kTurnedRows + column;
        tile_at<T>(next - row, g.m - column > kL ? 2 : 1, t, true);
        t.a_next = nullptr;
      }
    }
    T* const c = static_cast<T*>(g.c) + first;
    turn(c, turned, g.m, rows, g.n, kTurnedRows);
    for (int64_t i = 0; i < g.m; ++i) {
      T* const row = c + i * g.n;
      if (g.activation != Activation::linear) apply_row<T>(g.activation, row, row, rows, g.alpha);
      if (g.through) {
        const T* y = static_cast<const T*>(g.through) + first + i * g.n;
        backward_row<T>(g.through_activation, row, row, y, rows, g.through_alpha);
      }
    }
  }
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
