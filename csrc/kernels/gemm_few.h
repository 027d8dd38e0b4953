// Products of a large matrix with a few rows or a few steps, as training by one or several examples has them: as fast
// as the large matrix is read or written, which is along its rows. Tiles (gemm_tile.h) would take pieces of many rows.
//
//   few of all C (m, n) = A B,   all small: no large matrix, but a product that is over at once
//   few steps  C (m, n) = A B,   k small: a kernel's gradient is written once, several rows at a time
//   few rows   C (m, n) = A B,   m small: a kernel is read once, several rows at a time, while C waits in a cache
//   few dots   C (m, n) = A B^T, m small: an input's gradient is m dots with each row of a kernel, read once; so is a
//              product by a transposed view
#pragma once

#include "kernels/dense.h"
#include "kernels/gemm_tile.h"
#include "kernels/update.h"

namespace ranvier::RANVIER_TIER {
namespace {

template <class T>
RANVIER_INLINE int64_t bytes_of_b(const MatmulArgs& g) {
  return g.k * g.n * static_cast<int64_t>(sizeof(T));
}
// Whether B stays in the second level, with room for all else.
constexpr int64_t kSecondLevel = 1 << 20;
template <class T>
RANVIER_INLINE bool near(const MatmulArgs& g) {
  return bytes_of_b<T>(g) <= kSecondLevel / 2;
}

// Up to which m dots are faster, and with how many steps they are long (measured on Zen 5). Tiles read B^T turned over,
// which costs less the narrower a vector is.
constexpr bool kNarrow = kVectorBytes == 16;
constexpr int64_t kFewDots = 4, kFewShort = kNarrow ? 1 : 2, kLongDot = kNarrow ? 256 : 32;
// Up to which m, where tiles are narrow, B is read by rows: one from afar whose rows fall into one set of the first
// level (4x2048x2048 on AVX2: 1.8 times as fast; 4x2048x1536 0.8), or a huge one. There a tile's columns would be
// pieces of as many pages as B has rows.
constexpr int64_t kFewRows = kVectorBytes == 64 ? 0 : 8;
constexpr int64_t kHuge = 8 << 20;

RANVIER_INLINE bool few_steps(const MatmulArgs& g) {
  return g.k <= kFewSteps && !g.packed && !g.transposed && !g.bias && !g.source && !g.through &&
         g.activation == Activation::linear && g.m > 1;
}
template <class T>
RANVIER_INLINE bool few_rows(const MatmulArgs& g) {
  const int64_t bytes = bytes_of_b<T>(g);
  const bool apart =
      bytes >= kHuge || (bytes > kSecondLevel && g.b_row * static_cast<int64_t>(sizeof(T)) % kSameSet == 0);
  return g.m <= kFewRows && apart && !g.packed && !g.transposed && !g.update && !g.row_sum && !g.through &&
         g.batches == 1;
}
RANVIER_INLINE bool few_dots(const MatmulArgs& g) {
  return g.transposed && g.m <= (g.k < kLongDot ? kFewShort : kFewDots) && g.a_column == 1 && !g.source && !g.update &&
         !g.row_sum;
}
template <class T>
RANVIER_INLINE int64_t row_of_a(const MatmulArgs& g) {
  return g.source ? g.source->row_bytes / static_cast<int64_t>(sizeof(T)) : g.a_row;
}
template <class T>
RANVIER_INLINE const T* start_of_a(const MatmulArgs& g) {
  if (!g.source) return static_cast<const T*>(g.a);
  return reinterpret_cast<const T*>(g.source->data) + g.feed->cursor * row_of_a<T>(g);
}

// --- few steps -------------------------------------------------------------------------------------------------------

constexpr int64_t kOuterRows = 4;  // of C at a time, which share what is read of B

// `rows` rows of C, some vectors of each: sum over p of a[i, p] b[p, :], each element one chain over p in order.
template <class T, int rows, int vectors>
RANVIER_INLINE void outer(T* c, int64_t c_row, const T* a, int64_t a_row, int64_t a_column, const T* b, int64_t b_row,
                          int64_t lanes, int64_t k, bool go_on) {
  constexpr int kL = kLanes<T>;
  Vec<T> sum[rows][vectors];
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) sum[i][v] = go_on ? load_lanes(c + i * c_row + v * kL, lanes) : Vec<T>{};
  }
  for (int64_t p = 0; p < k; ++p) {
    Vec<T> bv[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) bv[v] = load_lanes(b + p * b_row + v * kL, lanes);
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
      const Vec<T> av = splat<T>(a[i * a_row + p * a_column]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[i][v] = fma(av, bv[v], sum[i][v]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) store_lanes(c + i * c_row + v * kL, sum[i][v], lanes);
  }
}
template <class T, int rows>
RANVIER_INLINE void outer(T* c, int64_t c_row, const T* a, int64_t a_row, int64_t a_column, const T* b, int64_t b_row,
                          int64_t columns, int64_t k, bool go_on) {
  constexpr int kL = kLanes<T>;
  int64_t j = 0;
  for (; j + 2 * kL <= columns; j += 2 * kL) {
    outer<T, rows, 2>(c + j, c_row, a, a_row, a_column, b + j, b_row, kL, k, go_on);
  }
  for_lanes<T>(j, columns, [=](int64_t at, int64_t lanes) __attribute__((always_inline)) {
    outer<T, rows, 1>(c + at, c_row, a, a_row, a_column, b + at, b_row, lanes, k, go_on);
  });
}
template <class T>
void outer(int64_t rows, T* c, int64_t c_row, const T* a, int64_t a_row, int64_t a_column, const T* b, int64_t b_row,
           int64_t columns, int64_t k, bool go_on) {
  switch (rows) {
    case 1:
      return outer<T, 1>(c, c_row, a, a_row, a_column, b, b_row, columns, k, go_on);
    case 2:
      return outer<T, 2>(c, c_row, a, a_row, a_column, b, b_row, columns, k, go_on);
    case 3:
      return outer<T, 3>(c, c_row, a, a_row, a_column, b, b_row, columns, k, go_on);
    default:
      return outer<T, 4>(c, c_row, a, a_row, a_column, b, b_row, columns, k, go_on);
  }
}

// to (+)= the sum of `rows` rows
template <class T>
void sum_rows(T* to, const T* rows, int64_t row, int64_t columns, int64_t count, bool go_on) {
  for_lanes<T>(0, columns, [=](int64_t j, int64_t lanes) __attribute__((always_inline)) {
    Vec<T> total = go_on ? load_lanes(to + j, lanes) : Vec<T>{};
    for (int64_t p = 0; p < count; ++p) total += load_lanes(rows + p * row + j, lanes);
    store_lanes(to + j, total, lanes);
  });
}

// Chunks: kOuterRows rows of C. A gradient that its optimizer uses up at once never gets to memory.
template <class T>
void product_of_few_steps(const MatmulArgs& g, int64_t begin, int64_t end) {
  constexpr int64_t kSegment = 512;  // columns of a gradient between two steps of the optimizer
  alignas(64) T gradient[kOuterRows * kSegment];
  const bool keep = !g.update || g.accumulate;
  const int64_t groups = chunks_of(g.m, kOuterRows);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t batch = g.batches == 1 ? 0 : chunk / groups, row = (chunk - batch * groups) * kOuterRows;
    const int64_t rows = g.m - row < kOuterRows ? g.m - row : kOuterRows;
    T* c = static_cast<T*>(g.c) + batch * g.c_batch + row * g.n;
    const T* a = static_cast<const T*>(g.a) + batch * g.a_batch + row * g.a_row;
    const T* b = static_cast<const T*>(g.b) + batch * g.b_batch;
    if (g.row_sum && row == 0) sum_rows(static_cast<T*>(g.row_sum), b, g.b_row, g.n, g.k, g.add_row_sum);
    if (!g.update) {
      outer(rows, c, g.n, a, g.a_row, g.a_column, b, g.b_row, g.n, g.k, g.accumulate);
      continue;
    }
    for (int64_t j = 0; j < g.n; j += kSegment) {
      const int64_t columns = g.n - j < kSegment ? g.n - j : kSegment;
      T* to = keep ? c + j : gradient;
      const int64_t to_row = keep ? g.n : kSegment;
      outer(rows, to, to_row, a, g.a_row, g.a_column, b + j, g.b_row, columns, g.k, g.accumulate);
      update<T>(*g.update, {to, row * g.n + j, rows, columns, g.n, to_row});
    }
  }
}

// --- few of all ------------------------------------------------------------------------------------------------------

// A few rows so short that to plan tiles takes as long as to multiply. (Of many, tiles read more of B at a time.)
constexpr int64_t kFewOfAll = 512;
RANVIER_INLINE bool few_of_all(const MatmulArgs& g) {
  return g.m > 0 && g.m <= kOuterRows && g.m * g.n * g.k <= kFewOfAll && !g.packed && !g.transposed && !g.source &&
         !g.update && !g.row_sum && !g.through && g.batches == 1;
}
// One chunk.
template <class T>
void product_of_few(const MatmulArgs& g) {
  T* const c = static_cast<T*>(g.c);
  for (int64_t i = 0; g.bias && i < g.m; ++i) memcpy(c + i * g.n, g.bias, static_cast<size_t>(g.n) * sizeof(T));
  outer(g.m, c, g.n, static_cast<const T*>(g.a), g.a_row, g.a_column, static_cast<const T*>(g.b), g.b_row, g.n, g.k,
        g.accumulate || g.bias);
  if (g.activation != Activation::linear) apply_row<T>(g.activation, c, c, g.m * g.n, g.alpha);
}

// --- few rows --------------------------------------------------------------------------------------------------------

constexpr int kSteps = 8;            // rows of B at a time
constexpr int64_t kRowColumns = 64;  // of C, in a chunk

// c (rows, columns) += a (kSteps, rows) b, each element one chain in order.
template <class T, int rows, int vectors>
RANVIER_INLINE void add_steps(T* c, int64_t c_row, const T* a, const T* b, int64_t b_row, int64_t lanes, bool go_on) {
  constexpr int kL = kLanes<T>;
  Vec<T> sum[rows][vectors];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) sum[i][v] = go_on ? load_lanes(c + i * c_row + v * kL, lanes) : Vec<T>{};
  }
  const T* four[] = {elsewhere(b), elsewhere(b + 4 * b_row)};  // addresses of a register and two strides, as in a tile
#pragma GCC unroll 8
  for (int p = 0; p < kSteps; ++p) {
    Vec<T> bv[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) bv[v] = load_lanes(four[p / 4] + p % 4 * b_row + v * kL, lanes);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const Vec<T> av = splat<T>(a[p * rows + i]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[i][v] = fma(av, bv[v], sum[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) store_lanes(c + i * c_row + v * kL, sum[i][v], lanes);
  }
}
// The same of g's rows and columns from a, b and c on; at the end of k by fewer steps.
template <class T, int rows>
void add_steps(const MatmulArgs& g, T* c, const T* a, int64_t a_row, const T* b, int64_t columns, int64_t steps,
               bool go_on) {
  constexpr int kL = kLanes<T>, kVectors = rows == 1 ? 4 : 2;
  if (steps < kSteps) return outer<T, rows>(c, g.n, a, a_row, g.a_column, b, g.b_row, columns, steps, go_on);
  T block[kSteps * rows];
  for (int p = 0; p < kSteps; ++p) {
    for (int i = 0; i < rows; ++i) block[p * rows + i] = a[i * a_row + p * g.a_column];
  }
  int64_t j = 0;
  for (; j + kVectors * kL <= columns; j += kVectors * kL) {
    add_steps<T, rows, kVectors>(c + j, g.n, block, b + j, g.b_row, kL, go_on);
  }
  for_lanes<T>(j, columns, [=, &block](int64_t at, int64_t lanes) __attribute__((always_inline)) {
    add_steps<T, rows, 1>(c + at, g.n, block, b + at, g.b_row, lanes, go_on);
  });
}

// By as many columns as leave room for kSteps rows of B in the first level.
template <class T>
void product_of_few_rows(const MatmulArgs& g, int64_t begin, int64_t end) {
  constexpr int64_t kSegment = 1024;
  const int64_t a_row = row_of_a<T>(g), last = end * kRowColumns < g.n ? end * kRowColumns : g.n;
  for (int64_t j = begin * kRowColumns; j < last; j += kSegment) {
    const int64_t columns = last - j < kSegment ? last - j : kSegment;
    T* const c = static_cast<T*>(g.c) + j;
    const T* const b = static_cast<const T*>(g.b) + j;
    bool go_on = g.accumulate;
    for (int64_t i = 0; g.bias && i < g.m; ++i) {
      memcpy(c + i * g.n, static_cast<const T*>(g.bias) + j, static_cast<size_t>(columns) * sizeof(T));
      go_on = true;
    }
    for (int64_t p = 0; p < g.k; p += kSteps, go_on = true) {
      const int64_t steps = g.k - p < kSteps ? g.k - p : kSteps;
      for (int64_t i = 0; i < g.m; i += kOuterRows) {
        constexpr decltype(&add_steps<T, 1>) kBy[] = {add_steps<T, 1>, add_steps<T, 2>, add_steps<T, 3>,
                                                      add_steps<T, 4>};
        const int64_t rows = g.m - i < kOuterRows ? g.m - i : kOuterRows;
        kBy[rows - 1](g, c + i * g.n, start_of_a<T>(g) + i * a_row + p * g.a_column, a_row, b + p * g.b_row, columns,
                      steps, go_on);
      }
    }
    for (int64_t i = 0; i < g.m; ++i) apply_row<T>(g.activation, c + i * g.n, c + i * g.n, columns, g.alpha);
  }
}

// --- few dots --------------------------------------------------------------------------------------------------------

// Dots of x (n) with `rows` rows, in vectors that are still to be summed over their lanes. The order is that of fold.
template <class T, int rows>
RANVIER_INLINE void dot_lanes(Vec<T>* to, const T* x, const T* b, int64_t b_row, int64_t n) {
  constexpr int kParts = 64 / kVectorBytes, kL = kLanes<T>, kWide = kParts * kL;
  Vec<T> part[kParts][rows] = {};
  constexpr int kFours = (rows + 3) / 4;
  const T* four[kFours];  // rows have addresses of a register and two strides, as in a tile
#pragma GCC unroll 4
  for (int j = 0; j < kFours; ++j) four[j] = elsewhere(b + 4 * j * b_row);
  int64_t i = 0;
  for (; i + kWide <= n; i += kWide) {
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) {
      const Vec<T> xv = load(x + i + p * kL);
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) {
        part[p][r] = fma(xv, load(four[r / 4] + r % 4 * b_row + i + p * kL), part[p][r]);
      }
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < kParts; ++p, i += kL) {
    if (i >= n) break;
    const int64_t lanes = n - i < kL ? n - i : kL;
    const Vec<T> xv = load_lanes(x + i, lanes);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) part[p][r] = fma(xv, load_lanes(b + r * b_row + i, lanes), part[p][r]);
  }
#pragma GCC unroll 4
  for (int width = kParts / 2; width > 0; width /= 2) {
#pragma GCC unroll 4
    for (int p = 0; p < width; ++p) {
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) part[p][r] += part[p + width][r];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) to[r] = part[0][r];
}

// Dots of x with as many rows as a vector has lanes.
template <class T>
RANVIER_INLINE Vec<T> dots(const T* x, const T* b, int64_t b_row, int64_t n) {
  constexpr int kL = kLanes<T>, kSums = 8 * kVectorBytes / 64;  // 8 chains cover the latency
  constexpr int kRowsAtOnce = kSums < kL ? (kSums > 2 ? kSums : 2) : kL;
  Vec<T> v[kL];
#pragma GCC unroll 8
  for (int r = 0; r < kL; r += kRowsAtOnce) dot_lanes<T, kRowsAtOnce>(v + r, x, b + r * b_row, b_row, n);
#pragma GCC unroll 4
  for (int step = kL / 2; step > 0; step /= 2) {  // lanes `step` apart are added; row r ends in lane r
#pragma GCC unroll 8
    for (int r = 0; r < step; ++r) {
      const Vec<T> low = v[r], high = v[r + step];
      v[r] = exchange<T>(low, high, step, false) + exchange<T>(low, high, step, true);
    }
  }
  return v[0];
}
template <class T>
RANVIER_INLINE T dot(const T* x, const T* b, int64_t n) {
  Vec<T> v;
  dot_lanes<T, 1>(&v, x, b, 0, n);
  return fold_lanes<T>(v, [](Vec<T> a, Vec<T> b) __attribute__((always_inline)) { return a + b; });
}

// c[0..columns) = the dots of x with so many rows of B
template <class T>
void dots(T* c, const T* x, const T* b, int64_t b_row, int64_t columns, int64_t n, bool go_on) {
  int64_t j = 0;
  for (; j + kLanes<T> <= columns; j += kLanes<T>) {
    const Vec<T> y = dots<T>(x, b + j * b_row, b_row, n);
    store(c + j, go_on ? load(c + j) + y : y);
  }
  for (; j < columns; ++j) {
    const T y = dot<T>(x, b + j * b_row, n);
    c[j] = go_on ? c[j] + y : y;
  }
}

constexpr int64_t kDotColumns = 16;  // of C, rows of B, in a chunk

template <class T>
void product_of_few_dots(const MatmulArgs& g, int64_t begin, int64_t end) {
  const int64_t groups = chunks_of(g.n, kDotColumns);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t batch = g.batches == 1 ? 0 : chunk / groups, column = (chunk - batch * groups) * kDotColumns;
    const int64_t columns = g.n - column < kDotColumns ? g.n - column : kDotColumns;
    const T* b = static_cast<const T*>(g.b) + batch * g.b_batch + column * g.b_row;
    for (int64_t i = 0; i < g.m; ++i) {
      T* c = static_cast<T*>(g.c) + batch * g.c_batch + i * g.n + column;
      if (g.bias) memcpy(c, static_cast<const T*>(g.bias) + column, static_cast<size_t>(columns) * sizeof(T));
      dots(c, static_cast<const T*>(g.a) + batch * g.a_batch + i * g.a_row, b, g.b_row, columns, g.k,
           g.accumulate || g.bias);
      if (g.activation != Activation::linear) apply_row<T>(g.activation, c, c, columns, g.alpha);
      if (g.through) {
        backward_row<T>(g.through_activation, c, c, static_cast<const T*>(g.through) + i * g.n + column, columns,
                        g.through_alpha);
      }
    }
  }
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
