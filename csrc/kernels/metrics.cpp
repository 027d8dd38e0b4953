// Metrics that a training step adds up by itself.
#include "kernels/metrics.h"

#include "kernels/tier.h"
#include "kernels/vec.h"

namespace ranvier::RANVIER_TIER {
namespace {

// The first of the largest, as numpy.argmax.
template <class T>
RANVIER_INLINE int64_t argmax(const T* x, int64_t n) {
  int64_t best = 0;
  for (int64_t i = 1; i < n; ++i) best = x[i] > x[best] ? i : best;
  return best;
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
  int64_t matches = 0;
  for (int64_t i = 0; i < n; ++i) matches += t[i] == (p[i] > static_cast<T>(a.threshold) ? T(1) : T(0));
  add(a.sums, static_cast<double>(matches), static_cast<double>(n));
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
