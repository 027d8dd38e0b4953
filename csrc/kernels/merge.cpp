// Several inputs into one: element by element with repeated axes, the sums that take gradients back over such axes,
// and rows laid side by side.
#include "kernels/merge.h"

#include "kernels/loops.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

// Where element `i` of the axes lies: one step for each axis.
RANVIER_INLINE int64_t place(int64_t i, int axes, const int64_t* sizes, const int64_t* steps) {
  int64_t at = 0;
  for (int d = axes - 1; d > 0; --d) {
    at += i % sizes[d] * steps[d];
    i /= sizes[d];
  }
  return axes > 0 ? at + i * steps[0] : 0;
}

// y = f(a, b, dy), row by row of columns.
template <class T, class F>
RANVIER_INLINE void merge_rows(const MergeArgs& g, int64_t begin, int64_t end, F f) {
  const Range e = elements(begin, end, g.n);
  const int64_t row = e.begin / g.columns;
  const T* a = static_cast<const T*>(g.a) + place(row, g.axes, g.sizes, g.a_steps);
  const T* b = static_cast<const T*>(g.b) + place(row, g.axes, g.sizes, g.b_steps);
  int64_t index[kAxes];  // of the row: counted on, since rows may be too short to divide for each
  for (int64_t d = g.axes - 1, rest = row; d >= 0; rest /= g.sizes[d--]) index[d] = rest % g.sizes[d];
  int64_t column = e.begin - row * g.columns;
  for (int64_t i = e.begin; i < e.end; column = 0) {
    const int64_t n = g.columns - column < e.end - i ? g.columns - column : e.end - i;  // to the end of the row
    const T* left = a + column * g.a_step;
    const T* right = b + column * g.b_step;
    const T* dy = g.dy ? static_cast<const T*>(g.dy) + i : nullptr;
    T* y = static_cast<T*>(g.y) + i;
    for_lanes<T>(0, n, [=](int64_t j, int64_t k) __attribute__((always_inline)) {
      store_lanes(y + j,
                  f(g.a_step ? load_lanes(left + j, k) : splat<T>(*left),
                    g.b_step ? load_lanes(right + j, k) : splat<T>(*right), dy ? load_lanes(dy + j, k) : Vec<T>{}),
                  k);
    });
    i += n;
    for (int d = g.axes - 1; d >= 0; --d) {
      a += g.a_steps[d], b += g.b_steps[d];
      if (++index[d] < g.sizes[d]) break;
      a -= g.a_steps[d] * g.sizes[d], b -= g.b_steps[d] * g.sizes[d];
      index[d] = 0;
    }
  }
}

#define RANVIER_MERGE(formula)                                                                                      \
  return merge_rows<T>(g, begin, end, [=](Vec<T> a, Vec<T> b, Vec<T> dy) __attribute__((always_inline)) -> Vec<T> { \
    (void)dy;                                                                                                       \
    return formula;                                                                                                 \
  })

template <class T>
void merge(const MergeArgs& g, int64_t begin, int64_t end) {
  const bool first = g.operand == Operand::first;
  const Vec<T> zero = {};
  switch (g.rule) {
    case Merge::add:
      RANVIER_MERGE(a + b);
    case Merge::subtract:
      RANVIER_MERGE(a - b);
    case Merge::multiply:
      RANVIER_MERGE(a * b);
    case Merge::maximum:  // NaN if one is
      if (g.operand == Operand::neither) RANVIER_MERGE(a < b ? b : (b != b ? b : a));
      if (first) RANVIER_MERGE(a < b ? zero : dy);
      RANVIER_MERGE(a < b ? dy : zero);
    case Merge::minimum:
      if (g.operand == Operand::neither) RANVIER_MERGE(a > b ? b : (b != b ? b : a));
      if (first) RANVIER_MERGE(a > b ? zero : dy);
      RANVIER_MERGE(a > b ? dy : zero);
  }
}

// The last axis is kept: columns side by side. Blocks of rows, so that the error does not grow with their number.
template <class T>
void sum_rows(const SumOverArgs& g, const T* x, T* y, int64_t columns) {
  constexpr int64_t kBlock = 256;
  for_lanes<T>(0, columns, [&](int64_t c, int64_t k) __attribute__((always_inline)) {
    Vec<T> total = {};
    for (int64_t start = 0; start < g.summed; start += kBlock) {
      const int64_t last = start + kBlock < g.summed ? start + kBlock : g.summed;
      Vec<T> part = {};
      for (int64_t i = start; i < last; ++i) {
        part += load_lanes(x + place(i, g.summed_axes, g.summed_sizes, g.summed_steps) + c, k);
      }
      total += part;
    }
    store_lanes(y + c, total, k);
  });
}

template <class T>
void sum_over(const SumOverArgs& g, int64_t begin, int64_t end) {
  const int64_t blocks = chunks_of(g.columns, kColumns);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t row = chunk / blocks, column = (chunk - row * blocks) * kColumns;
    const T* x = static_cast<const T*>(g.x) + place(row, g.kept_axes, g.kept_sizes, g.kept_steps) + column;
    T* y = static_cast<T*>(g.y) + row * g.columns + column;
    if (g.run == 1) {
      sum_rows<T>(g, x, y, g.columns - column < kColumns ? g.columns - column : kColumns);
      continue;
    }
    double total = 0;
    for (int64_t i = 0; i < g.summed; ++i) {
      const T* part = x + place(i, g.summed_axes, g.summed_sizes, g.summed_steps);
      total += static_cast<double>(
          sum<T>(g.run, [=](int64_t j, int64_t k) __attribute__((always_inline)) { return load_lanes(part + j, k); }));
    }
    *y = static_cast<T>(total);
  }
}

void copy_rows(const CopyRowsArgs& a, int64_t begin, int64_t end) {
  const int64_t last = end * a.block < a.rows ? end * a.block : a.rows;
  for (int64_t r = begin * a.block; r < last; ++r) {
    memcpy(a.y + r * a.y_step, a.x + r * a.x_step, static_cast<size_t>(a.bytes));
  }
}

}  // namespace

void fill_merge(KernelTable& table) {
  table.merge = typed(MergeArgs, merge);
  table.sum_over = typed(SumOverArgs, sum_over);
  table.copy_rows = entry<CopyRowsArgs, copy_rows>;
}

}  // namespace ranvier::RANVIER_TIER
