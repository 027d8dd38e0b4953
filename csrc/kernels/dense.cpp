// The dense layer's products. Forward: y = f(x w + b). Backward, with dz = dy * f'(z) (activation.cpp):
//   dw = x^T dz   the same product with x read by columns
//   db = sum of dz's rows
//   dx = dz w^T   the same product with w packed by columns
// A small layer does all of it in one call, without a transposed copy: there the calls would cost more than the work.
#include "kernels/dense.h"

#include "kernels/gemm.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

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
    for (int64_t p = 0; p < k; ++p) {
      for_lanes<T>(0, n, [=](int64_t c, int64_t lanes) __attribute__((always_inline)) {
        Vec<T> total = {};
        for (int64_t i = 0; i < m; ++i) total = fma(splat<T>(x[i * k + p]), load_lanes(dz + i * n + c, lanes), total);
        if (a.add_dw) total += load_lanes(dw + p * n + c, lanes);
        store_lanes(dw + p * n + c, total, lanes);
      });
    }
  }
  if (T* db = static_cast<T*>(a.db)) {
    for_lanes<T>(0, n, [=](int64_t c, int64_t lanes) __attribute__((always_inline)) {
      Vec<T> total = {};
      for (int64_t i = 0; i < m; ++i) total += load_lanes(dz + i * n + c, lanes);
      if (a.add_db) total += load_lanes(db + c, lanes);
      store_lanes(db + c, total, lanes);
    });
  }
  if (T* dx = static_cast<T*>(a.dx)) {
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t p = 0; p < k; ++p) {
        const T* row = dz + i * n;
        const T* column = w + p * n;
        dx[i * k + p] = sum<T>(n, [=](int64_t c, int64_t lanes) __attribute__((always_inline)) {
          return load_lanes(row + c, lanes) * load_lanes(column + c, lanes);
        });
      }
    }
  }
}

}  // namespace

void fill_dense(KernelTable& table) {
  table.matmul_chunks[0] = matmul_chunks<float>;
  table.matmul_chunks[1] = matmul_chunks<double>;
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
