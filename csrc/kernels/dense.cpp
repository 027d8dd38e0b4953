// The dense layer's products. Forward: y = f(x w + b). Backward, with dz = dy * f'(z) (activation.cpp):
//   dw = x^T dz   the same product with x read by columns
//   db = sum of dz's rows
//   dx = dz w^T   the same product after w is transposed
#include "kernels/gemm.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

template <class T>
void transpose(const TransposeArgs& a, int64_t begin, int64_t end) {
  const T* x = static_cast<const T*>(a.x);
  T* y = static_cast<T*>(a.y);
  const int64_t last = end * kColumns < a.columns ? end * kColumns : a.columns;
  constexpr int64_t kBlock = 16;  // both sides of a block stay in the first-level cache
  for (int64_t r0 = 0; r0 < a.rows; r0 += kBlock) {
    const int64_t r1 = r0 + kBlock < a.rows ? r0 + kBlock : a.rows;
    for (int64_t c = begin * kColumns; c < last; ++c) {
      for (int64_t r = r0; r < r1; ++r) y[c * a.rows + r] = x[r * a.columns + c];
    }
  }
}

template <class T>
void column_sum(const ColumnSumArgs& a, int64_t begin, int64_t end) {
  const T* x = static_cast<const T*>(a.x);
  T* y = static_cast<T*>(a.y);
  const int64_t last = end * kColumns < a.columns ? end * kColumns : a.columns;
  for_lanes<T>(begin * kColumns, last, [&](int64_t c, int64_t k) __attribute__((always_inline)) {
    Vec<T> total = {};
    for (int64_t r = 0; r < a.rows; ++r) total += load_lanes(x + r * a.columns + c, k);
    if (a.accumulate) total += load_lanes(y + c, k);
    store_lanes(y + c, total, k);
  });
}

}  // namespace

void fill_dense(KernelTable& table) {
  table.matmul_chunks[0] = matmul_chunks<float>;
  table.matmul_chunks[1] = matmul_chunks<double>;
  table.matmul = typed(MatmulArgs, matmul);
  table.transpose = typed(TransposeArgs, transpose);
  table.column_sum = typed(ColumnSumArgs, column_sum);
}

}  // namespace ranvier::RANVIER_TIER
