// Metrics that a training step adds up by itself.
#include "kernels/metrics.h"

#include "kernels/loops.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

// The first of the largest, as numpy.argmax; with a NaN, any of them.
template <class T>
RANVIER_INLINE int64_t argmax(const T* x, int64_t n) {
  const T top = largest(x, n);
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) {
    const IVec<T> found = load(x + i) == top;
    if (any(found)) return i + first_lane<T>(found);
  }
  if (i == n) return 0;
  const IVec<T> found = first_lanes<T>(load_n(x + i, n - i), n - i, NAN) == top;
  return any(found) ? i + first_lane<T>(found) : 0;
}

RANVIER_INLINE void add(Sums* sums, double matches, double rows) {
  sums->total += matches;
  sums->count += rows;
  sums->steps += 1;
}

// Elements on the right side of the threshold
template <class T>
void binary_accuracy(const AccuracyArgs& a, int64_t, int64_t) {
  const T* t = static_cast<const T*>(a.y_true);
  const T* p = static_cast<const T*>(a.y_pred);
  const int64_t n = a.rows * a.columns;
  const T threshold = static_cast<T>(a.threshold);
  IVec<T> matches{};
  for_lanes<T>(0, n, [&](int64_t i, int64_t k) __attribute__((always_inline)) {
    const Vec<T> is = load_lanes(p + i, k) > threshold ? splat<T>(T(1)) : Vec<T>{};
    matches -= (k == kLanes<T> ? load(t + i) : first_lanes<T>(load_n(t + i, k), k, NAN)) == is;  // true is -1
  });
  int64_t total = 0;
  for (int l = 0; l < kLanes<T>; ++l) total += matches[l];
  add(a.sums, static_cast<double>(total), static_cast<double>(n));
}

template <class T>
void categorical_accuracy(const AccuracyArgs& a, int64_t, int64_t) {
  const T* t = static_cast<const T*>(a.y_true);
  const T* p = static_cast<const T*>(a.y_pred);
  int64_t matches = 0;
  for (int64_t r = 0; r < a.rows; ++r) {
    matches += argmax(t + r * a.columns, a.columns) == argmax(p + r * a.columns, a.columns);
  }
  add(a.sums, static_cast<double>(matches), static_cast<double>(a.rows));
}

template <class T>
void sparse_accuracy(const AccuracyArgs& a, int64_t, int64_t) {
  const int32_t* t = static_cast<const int32_t*>(a.y_true);
  const T* p = static_cast<const T*>(a.y_pred);
  int64_t matches = 0;
  for (int64_t r = 0; r < a.rows; ++r) matches += t[r] == argmax(p + r * a.columns, a.columns);
  add(a.sums, static_cast<double>(matches), static_cast<double>(a.rows));
}

}  // namespace

void fill_metrics(KernelTable& table) {
  table.binary_accuracy = typed(AccuracyArgs, binary_accuracy);
  table.categorical_accuracy = typed(AccuracyArgs, categorical_accuracy);
  table.sparse_accuracy = typed(AccuracyArgs, sparse_accuracy);
}

}  // namespace ranvier::RANVIER_TIER
