// Sums and loops over vectors, with their tails: a shared tool of the kernel files.
#pragma once

#include "kernels/vec.h"

namespace ranvier::RANVIER_TIER {
namespace {

// --- reductions ------------------------------------------------------------------------------------------------------

// Folds the lanes of a vector: those half a vector apart first.
template <class T, class Fold>
RANVIER_INLINE T fold_lanes(Vec<T> v, Fold combine) {
  constexpr int kL = kLanes<T>;
  if constexpr (kL > 8) v = combine(v, rotate<T, 8>(v));
  if constexpr (kL > 4) v = combine(v, rotate<T, 4>(v));
  if constexpr (kL > 2) v = combine(v, rotate<T, 2>(v));
  return combine(v, rotate<T, 1>(v))[0];
}

// Folds n elements in one order on every tier: 64 bytes of running values, then a tree. term(i, k) gives elements
// i..i+k-1 (k <= lanes; any filler the fold ignores in the other lanes).
template <class T, class Term, class Fold>
RANVIER_INLINE T fold(int64_t n, T start, Term term, Fold combine) {
  constexpr int kParts = 64 / kVectorBytes, kWide = 64 / sizeof(T), kL = kLanes<T>;
  Vec<T> part[kParts];
  for (int p = 0; p < kParts; ++p) part[p] = splat<T>(start);
  int64_t i = 0;
  for (; i + kWide <= n; i += kWide) {
    for (int p = 0; p < kParts; ++p) part[p] = combine(part[p], term(i + p * kL, kL));
  }
  for (int p = 0; p < kParts && i < n; ++p, i += kL) {
    part[p] = combine(part[p], term(i, n - i < kL ? n - i : kL));
  }
  for (int width = kParts / 2; width > 0; width /= 2) {
    for (int p = 0; p < width; ++p) part[p] = combine(part[p], part[p + width]);
  }
  return fold_lanes<T>(part[0], combine);
}

// Long sums are taken block by block, and the blocks' sums added in double, so that the error does not grow with n.
template <class T, class Term>
RANVIER_INLINE T sum(int64_t n, Term term) {
  constexpr int64_t kBlock = 4096;
  double total = 0;
  for (int64_t start = 0; start < n; start += kBlock) {
    total += static_cast<double>(fold<T>(
        n - start < kBlock ? n - start : kBlock, T(0),
        [&](int64_t i, int64_t k) __attribute__((always_inline)) { return term(start + i, k); },
        [](Vec<T> a, Vec<T> b) __attribute__((always_inline)) { return a + b; }));
  }
  return static_cast<T>(total);
}

// The largest of n elements. With a NaN among them, any of them.
template <class T>
RANVIER_INLINE T largest(const T* x, int64_t n) {
  const T low = -T(INFINITY);
  return fold<T>(
      n, low,
      [=](int64_t i, int64_t k) __attribute__((always_inline)) {
        if (k == kLanes<T>) return load(x + i);
        return first_lanes<T>(load_n(x + i, k), k, low);
      },
      [](Vec<T> a, Vec<T> b) __attribute__((always_inline)) { return larger(a, b); });
}

// --- loops -----------------------------------------------------------------------------------------------------------

// Runs body(i, k) over [begin, end): k lanes at i. The tail goes through the same vector code as the rest.
template <class T, class Body>
RANVIER_INLINE void for_lanes(int64_t begin, int64_t end, Body body) {
  int64_t i = begin;
  for (; i + kLanes<T> <= end; i += kLanes<T>) body(i, static_cast<int64_t>(kLanes<T>));
  if (i < end) body(i, end - i);
}

// y[0..n) = f(x[0..n)), with several vectors in flight: one alone waits for its own results. x may be y.
template <class T, class F>
RANVIER_INLINE void map_lanes(T* y, const T* x, int64_t n, F f) {
  constexpr int kFlight = 4;
  constexpr int64_t kStep = kFlight * kLanes<T>;
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    Vec<T> v[kFlight];
#pragma GCC unroll 4
    for (int j = 0; j < kFlight; ++j) v[j] = f(load(x + i + j * kLanes<T>));
#pragma GCC unroll 4
    for (int j = 0; j < kFlight; ++j) store(y + i + j * kLanes<T>, v[j]);
  }
  for_lanes<T>(i, n, [=](int64_t l, int64_t k) __attribute__((always_inline)) {
    store_lanes(y + l, f(load_lanes(x + l, k)), k);
  });
}
// The same for a y that no cache holds, nor should.
template <class T, class F>
RANVIER_INLINE void map_lanes_around(T* y, const T* x, int64_t n, F f) {
  constexpr int kFlight = 4;
  constexpr int64_t kStep = kFlight * kLanes<T>;
  const auto some = [=](int64_t l, int64_t k)
                        __attribute__((always_inline)) { store_lanes(y + l, f(load_lanes(x + l, k)), k); };
  const int64_t off = static_cast<int64_t>(reinterpret_cast<uintptr_t>(y) % kVectorBytes);
  int64_t i = off == 0 ? 0 : (kVectorBytes - off) / static_cast<int64_t>(sizeof(T));
  if (off % static_cast<int64_t>(sizeof(T)) != 0 || i > n) i = n;  // never aligned
  for_lanes<T>(0, i, some);
  for (; i + kStep <= n; i += kStep) {
    Vec<T> v[kFlight];
#pragma GCC unroll 4
    for (int j = 0; j < kFlight; ++j) v[j] = f(load(x + i + j * kLanes<T>));
#pragma GCC unroll 4
    for (int j = 0; j < kFlight; ++j) stream(y + i + j * kLanes<T>, v[j]);
  }
  for_lanes<T>(i, n, some);
  stream_end();
}

// Runs body(row, rows) over rows [begin, end) of so many columns, a block at a time. What takes several passes over a
// row, each of which ends in one number, goes pass by pass over a block of rows: the rows do not wait for each other's
// numbers, and the block stays in the first cache.
constexpr int64_t kBlockRows = 16;
template <class T, class Body>
RANVIER_INLINE void for_row_blocks(int64_t begin, int64_t end, int64_t columns, Body body) {
  constexpr int64_t kFit = (16 << 10) / static_cast<int64_t>(sizeof(T));
  const int64_t most = clip(kFit / (columns > 0 ? columns : 1), 1, kBlockRows);
  for (int64_t row = begin; row < end; row += most) body(row, end - row < most ? end - row : most);
}

// The table's form of a typed kernel.
template <class Args, void (*kernel)(const Args&, int64_t, int64_t)>
void entry(const void* args, int64_t begin, int64_t end) {
  kernel(*static_cast<const Args*>(args), begin, end);
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
