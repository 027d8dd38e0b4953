// A matrix turned over its diagonal: a shared tool of products and of axes in another order.
#pragma once

#include "kernels/loops.h"

namespace ranvier::RANVIER_TIER {
namespace {

// y (rows, columns), its rows y_step apart, from x (columns, rows), its rows x_step apart. Squares of vectors bring
// whole lines; some lines of a row of y follow one another, since rows that lie a power of two apart compete for the
// same lines of the cache (1024x1024: 0.20 ms by 256 columns, 0.31 by all).
template <class T>
void turn(T* y, const T* x, int64_t rows, int64_t columns, int64_t y_step, int64_t x_step) {
  constexpr int64_t kL = kLanes<T>, kColumnsAtOnce = 256;
  if (4 * rows <= kL) {  // squares would be empty
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) y[r * y_step + c] = x[r + c * x_step];
    }
    return;
  }
  for (int64_t c_0 = 0; c_0 < columns; c_0 += kColumnsAtOnce) {
    const int64_t c_1 = c_0 + kColumnsAtOnce < columns ? c_0 + kColumnsAtOnce : columns;
    for_lanes<T>(0, rows, [=](int64_t r, int64_t down) __attribute__((always_inline)) {
      for_lanes<T>(c_0, c_1, [=](int64_t c, int64_t across) __attribute__((always_inline)) {
        Vec<T> square[kL];
#pragma GCC unroll 16
        for (int64_t i = 0; i < kL; ++i) square[i] = i < across ? load_lanes(x + (c + i) * x_step + r, down) : Vec<T>{};
        transpose_square<T>(square);
        for (int64_t i = 0; i < down; ++i) store_lanes(y + (r + i) * y_step + c, square[i], across);
      });
    });
  }
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
