// The matrix product: a shared tool of the kernel families.
//
// C (m, n) is cut into tiles of kRows rows by two vectors of columns. A tile's sums live in registers while p runs over
// k: each step loads two vectors of B's row p and multiplies them by kRows broadcast elements of A. Every element of C
// is one chain of fused multiply-adds over p in order, so neither tile shape nor thread nor vector width changes its
// bits. B's rows must be contiguous; A may have any strides (both gradients need that).
#pragma once

#include "kernels/activate.h"

namespace ranvier::RANVIER_TIER {
namespace {

// 2 * kRows sums, two vectors of B and a broadcast must fit the registers (32 on AVX-512, 16 elsewhere on x86), and
// 2 * kRows chains must cover the latency of the multiply-add (4 cycles on 2 ports).
#if defined(__AVX512F__)
constexpr int kRows = 14;
#elif defined(__aarch64__)
constexpr int kRows = 12;
#else
constexpr int kRows = 6;
#endif

template <class T>
constexpr int64_t kPanel = 2 * kLanes<T>;  // columns of a tile

struct Tiles {
  int64_t down, across;
};
template <class T>
RANVIER_INLINE Tiles tiles(int64_t m, int64_t n) {
  return {chunks_of(m, kRows), chunks_of(n, kPanel<T>)};
}

// Sums of one tile: rows x vectors, the last vector `lanes` wide.
template <class T, int rows, int vectors>
void tile(const MatmulArgs& g, int64_t row, int64_t column, int64_t lanes) {
  constexpr int kL = kLanes<T>;
  const T* a = static_cast<const T*>(g.a) + row * g.a_row;
  const T* b = static_cast<const T*>(g.b) + column;
  const int64_t a_row = g.a_row, a_column = g.a_column, n = g.n;
  Vec<T> sum[rows][vectors];

  Vec<T> start[vectors] = {};
  if (g.bias) {
    const T* bias = static_cast<const T*>(g.bias) + column;
    for (int v = 0; v < vectors; ++v) start[v] = v + 1 < vectors ? load(bias + v * kL) : load_n(bias + v * kL, lanes);
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) sum[i][v] = start[v];
  }

  const auto steps = [&](auto last) __attribute__((always_inline)) {
    const T* ap = a;
    const T* bp = b;
    for (int64_t p = 0; p < g.k; ++p, ap += a_column, bp += n) {
      Vec<T> bv[vectors];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) bv[v] = v + 1 < vectors ? load(bp + v * kL) : last(bp + v * kL);
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) {
        const Vec<T> av = splat<T>(ap[i * a_row]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sum[i][v] = fma(av, bv[v], sum[i][v]);
      }
    }
  };
  if (lanes == kL) {
    steps([](const T* p) __attribute__((always_inline)) { return load(p); });
  } else {
    steps([=](const T* p) __attribute__((always_inline)) { return load_n(p, lanes); });
  }

  T* c = static_cast<T*>(g.c) + row * n + column;
  const T alpha = static_cast<T>(g.alpha);
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i, c += n) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      const int64_t k = v + 1 < vectors ? kL : lanes;
      Vec<T> y = sum[i][v];
      if (g.accumulate) y = load_lanes(c + v * kL, k) + y;
      if (g.activation == Activation::relu) y = apply<T, Activation::relu>(y, alpha);
      store_lanes(c + v * kL, y, k);
    }
    if (g.activation > Activation::relu) apply_row<T>(g.activation, c, c, (vectors - 1) * kL + lanes, g.alpha);
  }
}

// The tile of `rows` rows, 1 <= rows <= kRows, found at run time.
template <class T, int vectors, int rows = kRows>
RANVIER_INLINE void tile_of(int64_t wanted, const MatmulArgs& g, int64_t row, int64_t column, int64_t lanes) {
  if constexpr (rows > 1) {
    if (wanted < rows) return tile_of<T, vectors, rows - 1>(wanted, g, row, column, lanes);
  }
  tile<T, rows, vectors>(g, row, column, lanes);
}

// Chunks are tiles, down a panel of columns first: the panel of B stays in the cache. Rows are shared out evenly, so
// that 32 rows are three tiles of 11, 11 and 10 and not two full ones and a thin one.
template <class T>
void matmul(const MatmulArgs& g, int64_t begin, int64_t end) {
  const Tiles count = tiles<T>(g.m, g.n);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t down = chunk % count.down, column = chunk / count.down * kPanel<T>;
    const int64_t row = g.m * down / count.down, rows = g.m * (down + 1) / count.down - row;
    const int64_t columns = g.n - column < kPanel<T> ? g.n - column : kPanel<T>;
    if (columns > kLanes<T>) {
      tile_of<T, 2>(rows, g, row, column, columns - kLanes<T>);
    } else {
      tile_of<T, 1>(rows, g, row, column, columns);
    }
  }
}

template <class T>
int64_t matmul_chunks(const MatmulArgs& g) {
  const Tiles count = tiles<T>(g.m, g.n);
  return count.down * count.across;
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
