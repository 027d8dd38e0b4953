// The dense layer's products. Forward: y = f(x w + b). Backward, with dz = dy * f'(z) (activation.cpp):
//   dw = x^T dz   the same product with x read by columns
//   db = sum of dz's rows
//   dx = dz w^T   the same product with w packed by columns, or of a small batch w dz^T, turned
// A small layer does all of it in one call, without a transposed copy: there the calls would cost more than the work.
#include "kernels/dense.h"

#include "kernels/gemm.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

template <class T>
void column_sum(const ColumnSumArgs& a, int64_t begin, int64_t end) {
  const int64_t first = begin * kColumns, last = end * kColumns < a.columns ? end * kColumns : a.columns;
  sum_rows(static_cast<T*>(a.y) + first, static_cast<const T*>(a.x) + first, a.columns, last - first, a.rows,
           a.accumulate);
}

template <class T>
void dense_backward(const DenseBackwardArgs& a, int64_t, int64_t) {
  const int64_t m = a.m, n = a.n, k = a.k;
  const T* x = static_cast<const T*>(a.x);
  const T* w = static_cast<const T*>(a.w);
  const T* dz = static_cast<const T*>(a.dy);
  if (a.activation != Activation::linear) {
    T* through = static_cast<T*>(a.dz);
    backward_row<T>(a.activation, through, dz, static_cast<const T*>(a.y), m * n, a.alpha);
    dz = through;
  }
  if (T* dw = static_cast<T*>(a.dw)) {
    for (int64_t p = 0; p < k; p += kOuterRows) {
      outer(k - p < kOuterRows ? k - p : kOuterRows, dw + p * n, n, x + p, 1, k, dz, n, n, m, a.add_dw);
    }
  }
  if (T* db = static_cast<T*>(a.db)) sum_rows(db, dz, n, n, m, a.add_db);
  if (T* dx = static_cast<T*>(a.dx)) {
    for (int64_t i = 0; i < m; ++i) dots(dx + i * k, dz + i * n, w, n, k, n, false);
  }
}

}  // namespace

void fill_dense(KernelTable& table) {
  table.matmul_chunks[0] = matmul_chunks<float>;
  table.matmul_chunks[1] = matmul_chunks<double>;
  table.packs[0] = packs<float>;
  table.packs[1] = packs<double>;
  table.turns[0] = turns<float>;
  table.turns[1] = turns<double>;
  table.packed_size[0] = packed_size<float>;
  table.packed_size[1] = packed_size<double>;
  table.panel[0] = kPanel<float>;
  table.panel[1] = kPanel<double>;
  table.matmul = typed(MatmulArgs, matmul);
  table.pack = typed(PackArgs, pack);
  table.column_sum = typed(ColumnSumArgs, column_sum);
  table.dense_backward = typed(DenseBackwardArgs, dense_backward);
}

}  // namespace ranvier::RANVIER_TIER
