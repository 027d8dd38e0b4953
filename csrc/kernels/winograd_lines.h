// Winograd's transformations along one dimension: F(4, 3) makes 4 outputs of a line of 6 elements and 3 taps, F(2, 5)
// makes 2 of 6 and 5 taps, F(2, 3) makes 2 of 4. A line has as many points as elements.
//
// Row p of A^T's transpose is (1, p, p^2, ...), of G (1, p, p^2, ...) / N(p), as many as there are outputs and taps; of
// B^T it is the product of (z - q) over the other points q, in powers of z; N is that product at p. At infinity each
// row is the highest power alone. So B^T is the same for F(4, 3) and F(2, 5).
//
// Six points are 0, a, -a, infinity, b, -b, in this order, and the four of F(2, 3) the first of these. There, G would
// differ by its N; it stays the same, and B^T's rows are multiplied by N of F(4, 3) over N of F(2, 3): -b^2 at 0,
// a^2 - b^2 at a and -a. So both kinds of lines share the transformed kernel, and the sums that its gradient is made
// of.
//
// With a = 5/8 and b = 3/2 the constants are just as exact in binary as with the usual 1 and 2, and the largest error
// is four times smaller (measured; on better points: Alam et al., 2022, Winograd Convolution for Deep Neural Networks:
// Efficient Point Selection).
#pragma once

#include "kernels/vec.h"

namespace ranvier::RANVIER_TIER {
namespace {

constexpr double kA = 0.625, kB = 1.5, kA2 = kA * kA, kB2 = kB * kB, kA3 = kA2 * kA, kB3 = kB2 * kB;
constexpr double kA4 = kA2 * kA2, kB4 = kB2 * kB2;
constexpr int kLinePoints = 6;

template <class T>
RANVIER_INLINE Vec<T> fma(double a, Vec<T> b, Vec<T> c) {
  return fma(splat<T>(T(a)), b, c);
}

// t = B^T d
template <int points>
struct PatchLine;

template <>
struct PatchLine<6> {
  static constexpr int kFrom = 6, kTo = 6;
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* d, Vec<T>* t) {
    const Vec<T> even_a = fma<T>(-kB2, d[2], d[4]), odd_a = fma<T>(-kB2, d[1], d[3]);
    const Vec<T> even_b = fma<T>(-kA2, d[2], d[4]), odd_b = fma<T>(-kA2, d[1], d[3]);
    t[0] = fma<T>(kA2 * kB2, d[0], fma<T>(-(kA2 + kB2), d[2], d[4]));
    t[1] = fma<T>(kA, odd_a, even_a);
    t[2] = fma<T>(-kA, odd_a, even_a);
    t[3] = fma<T>(kA2 * kB2, d[1], fma<T>(-(kA2 + kB2), d[3], d[5]));
    t[4] = fma<T>(kB, odd_b, even_b);
    t[5] = fma<T>(-kB, odd_b, even_b);
  }
};

template <>
struct PatchLine<4> {
  static constexpr int kFrom = 4, kTo = 4;
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* d, Vec<T>* t) {
    const Vec<T> even = T(kA2 - kB2) * d[2];
    t[0] = fma<T>(kA2 * kB2, d[0], T(-kB2) * d[2]);
    t[1] = fma<T>(kA * (kA2 - kB2), d[1], even);
    t[2] = fma<T>(-kA * (kA2 - kB2), d[1], even);
    t[3] = fma<T>(-kA2, d[1], d[3]);
  }
};

// y = A^T m
template <int outputs, int taps>
struct OutputLine;

template <>
struct OutputLine<4, 3> {
  static constexpr int kFrom = 6, kTo = 4;
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* m, Vec<T>* y) {
    const Vec<T> even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[4] + m[5], odd_b = m[4] - m[5];
    y[0] = m[0] + even_a + even_b;
    y[1] = fma<T>(kB, odd_b, T(kA) * odd_a);
    y[2] = fma<T>(kB2, even_b, T(kA2) * even_a);
    y[3] = fma<T>(kB3, odd_b, fma<T>(kA3, odd_a, m[3]));
  }
};

template <>
struct OutputLine<2, 3> {
  static constexpr int kFrom = 4, kTo = 2;
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* m, Vec<T>* y) {
    y[0] = m[0] + (m[1] + m[2]);
    y[1] = fma<T>(kA, m[1] - m[2], m[3]);
  }
};

template <>
struct OutputLine<2, 5> {
  static constexpr int kFrom = 6, kTo = 2;
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* m, Vec<T>* y) {
    y[0] = m[0] + (m[1] + m[2]) + (m[4] + m[5]);
    y[1] = fma<T>(kB, m[4] - m[5], fma<T>(kA, m[1] - m[2], m[3]));
  }
};

// m = A dy
template <int outputs, int taps>
struct GradientLine;

template <>
struct GradientLine<4, 3> {
  static constexpr int kFrom = 4, kTo = 6;
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* y, Vec<T>* m) {
    const Vec<T> even_a = fma<T>(kA2, y[2], y[0]), odd_a = fma<T>(kA3, y[3], T(kA) * y[1]);
    const Vec<T> even_b = fma<T>(kB2, y[2], y[0]), odd_b = fma<T>(kB3, y[3], T(kB) * y[1]);
    m[0] = y[0];
    m[1] = even_a + odd_a;
    m[2] = even_a - odd_a;
    m[3] = y[3];
    m[4] = even_b + odd_b;
    m[5] = even_b - odd_b;
  }
};

template <>
struct GradientLine<2, 3> {
  static constexpr int kFrom = 2, kTo = 4;
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* y, Vec<T>* m) {
    m[0] = y[0];
    m[1] = fma<T>(kA, y[1], y[0]);
    m[2] = fma<T>(-kA, y[1], y[0]);
    m[3] = y[1];
  }
};

template <>
struct GradientLine<2, 5> {
  static constexpr int kFrom = 2, kTo = 6;
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* y, Vec<T>* m) {
    m[0] = y[0];
    m[1] = fma<T>(kA, y[1], y[0]);
    m[2] = fma<T>(-kA, y[1], y[0]);
    m[3] = y[1];
    m[4] = fma<T>(kB, y[1], y[0]);
    m[5] = fma<T>(-kB, y[1], y[0]);
  }
};

constexpr double kN0 = 1 / (kA2 * kB2), kNa = 1 / (2 * kA2 * (kA2 - kB2)), kNb = 1 / (2 * kB2 * (kB2 - kA2));

// u = G w
template <int taps>
struct KernelLine;

template <>
struct KernelLine<3> {
  static constexpr int kFrom = 3, kTo = 6;
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* w, Vec<T>* u) {
    const Vec<T> even_a = fma<T>(kNa * kA2, w[2], T(kNa) * w[0]), odd_a = T(kNa * kA) * w[1];
    const Vec<T> even_b = fma<T>(kNb * kB2, w[2], T(kNb) * w[0]), odd_b = T(kNb * kB) * w[1];
    u[0] = T(kN0) * w[0];
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = w[2];
    u[4] = even_b + odd_b;
    u[5] = even_b - odd_b;
  }
};

template <>
struct KernelLine<5> {
  static constexpr int kFrom = 5, kTo = 6;
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* w, Vec<T>* u) {
    const Vec<T> even_a = fma<T>(kNa * kA4, w[4], fma<T>(kNa * kA2, w[2], T(kNa) * w[0]));
    const Vec<T> even_b = fma<T>(kNb * kB4, w[4], fma<T>(kNb * kB2, w[2], T(kNb) * w[0]));
    const Vec<T> odd_a = fma<T>(kNa * kA3, w[3], T(kNa * kA) * w[1]);
    const Vec<T> odd_b = fma<T>(kNb * kB3, w[3], T(kNb * kB) * w[1]);
    u[0] = T(kN0) * w[0];
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = w[4];
    u[4] = even_b + odd_b;
    u[5] = even_b - odd_b;
  }
};

// dw = G^T du
template <int taps>
struct KernelGradientLine;

template <>
struct KernelGradientLine<3> {
  static constexpr int kFrom = 6, kTo = 3;
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* u, Vec<T>* w) {
    const Vec<T> even_a = u[1] + u[2], odd_a = u[1] - u[2], even_b = u[4] + u[5], odd_b = u[4] - u[5];
    w[0] = fma<T>(kNb, even_b, fma<T>(kNa, even_a, T(kN0) * u[0]));
    w[1] = fma<T>(kNb * kB, odd_b, T(kNa * kA) * odd_a);
    w[2] = fma<T>(kNb * kB2, even_b, fma<T>(kNa * kA2, even_a, u[3]));
  }
};

template <>
struct KernelGradientLine<5> {
  static constexpr int kFrom = 6, kTo = 5;
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* u, Vec<T>* w) {
    const Vec<T> even_a = u[1] + u[2], odd_a = u[1] - u[2], even_b = u[4] + u[5], odd_b = u[4] - u[5];
    w[0] = fma<T>(kNb, even_b, fma<T>(kNa, even_a, T(kN0) * u[0]));
    w[1] = fma<T>(kNb * kB, odd_b, T(kNa * kA) * odd_a);
    w[2] = fma<T>(kNb * kB2, even_b, T(kNa * kA2) * even_a);
    w[3] = fma<T>(kNb * kB3, odd_b, T(kNa * kA3) * odd_a);
    w[4] = fma<T>(kNb * kB4, even_b, fma<T>(kNa * kA4, even_a, u[3]));
  }
};

// Along both dimensions: columns first. at(i, j) gives an element, put(i, j, v) takes one.
template <class T, class Down, class Across, class At, class Put>
RANVIER_INLINE void both_ways(At at, Put put) {
  Vec<T> half[Down::kTo][Across::kFrom];
#pragma GCC unroll 6
  for (int j = 0; j < Across::kFrom; ++j) {
    Vec<T> in[Down::kFrom], out[Down::kTo];
#pragma GCC unroll 6
    for (int i = 0; i < Down::kFrom; ++i) in[i] = at(i, j);
    Down::template apply<T>(in, out);
#pragma GCC unroll 6
    for (int i = 0; i < Down::kTo; ++i) half[i][j] = out[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < Down::kTo; ++i) {
    Vec<T> out[Across::kTo];
    Across::template apply<T>(half[i], out);
#pragma GCC unroll 6
    for (int j = 0; j < Across::kTo; ++j) put(i, j, out[j]);
  }
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
