// Sine and cosine over the whole range: the argument less a multiple of pi/2, of a double kept to twice the digits.
#pragma once

#include "kernels/functions.h"

namespace ranvier::RANVIER_TIER {
namespace {

// Digits of 2/pi behind the point.
constexpr uint64_t kTwoOverPi[] = {0xa2f9836e4e441529, 0xfc2757d1f534ddc0, 0xdb6295993c439041, 0xfe5163abdebbc561,
                                   0xb7246e3a424dd2e0, 0x06492eea09d1921c, 0xfe1deb1cb129a73e, 0xe88235f52ebb4484,
                                   0xe99c7026b45f7e41, 0x3991d639835339f4, 0x9c845f8bbdf9283b, 0x1ff897ffde05980f,
                                   0xef2f118b5a0a6d1f, 0x6d367ecf27cb09b7, 0x4f463f669e5fea2d, 0x7527bac7ebe5f17b,
                                   0x3d0739f78a5292ea, 0x6bfb5fb11f8d5d08, 0x56033046fc7b6bab, 0xf0cfbc209af4361d};

// x = n pi/2 + high + low with |high| <= pi/4; of n the two lowest bits.
struct Angle {
  double high, low;
  int64_t n;
};

// 64 digits of 2/pi, beginning `skip` behind the point; 0 before it.
RANVIER_INLINE uint64_t two_over_pi(int skip) {
  if (skip <= -64) return 0;
  if (skip < 0) return kTwoOverPi[0] >> -skip;
  const int word = skip / 64, shift = skip % 64;
  return shift == 0 ? kTwoOverPi[word] : (kTwoOverPi[word] << shift) | (kTwoOverPi[word + 1] >> (64 - shift));
}

// Of a large or infinite x: the digits of x * 2/pi around the point, in integers (Payne and Hanek, 1983).
RANVIER_INLINE Angle reduce_large(double x) {
  uint64_t pattern;
  memcpy(&pattern, &x, sizeof x);
  const int exponent = static_cast<int>(pattern >> 52 & 0x7FF) - 1075;  // |x| = m 2^exponent
  if (exponent == 972) return {x - x, 0, 0};                            // infinite or NaN
  const uint64_t m = (pattern & 0xFFFFFFFFFFFFF) | uint64_t{1} << 52;
  // Digits of 2/pi with a place value of 4 or more, times m: multiples of 2 pi, and left out.
  const int skip = exponent - 2;
  using Wide = unsigned __int128;
  const Wide p0 = Wide{m} * two_over_pi(skip), p1 = Wide{m} * two_over_pi(skip + 64);
  const Wide p2 = Wide{m} * two_over_pi(skip + 128);
  // the fraction of |x| / (2 pi), in 128 binary digits
  Wide turn = (p0 << 64) + p1 + (p2 >> 64);
  int64_t n = static_cast<int64_t>(turn >> 126);
  turn <<= 2;
  const bool up = turn >> 127;  // to the nearest multiple: |fraction| <= 1/2
  if (up) {
    n += 1;
    turn = -turn;
  }
  const uint64_t top = static_cast<uint64_t>(turn >> 64);
  const int zeros = top ? __builtin_clzll(top) : 64 + __builtin_clzll(static_cast<uint64_t>(turn) | 1);
  turn <<= zeros;
  // 2^-53 and 2^-106: 53 digits each
  const double a = static_cast<double>(static_cast<int64_t>(turn >> 75)) * 0x1p-53;
  const double b = static_cast<double>(static_cast<int64_t>((turn >> 22) & ((uint64_t{1} << 53) - 1))) * 0x1p-106;
  double unit = 1;
  const uint64_t unit_bits = static_cast<uint64_t>(1023 - zeros) << 52;
  memcpy(&unit, &unit_bits, sizeof unit);
  // (a + b) * pi/2 with a in two halves, so that products are exact
  constexpr double kHigh = 0x1.921fb5p+0, kMiddle = 0x1.110b46p-26, kLow = 0x1.1a62633145c07p-54;
  const double a1 = static_cast<double>(static_cast<float>(a)), a2 = a - a1;
  const double first = a1 * kHigh, second = a2 * kHigh + a1 * kMiddle;
  const double rest = a2 * kMiddle + a * kLow + b * 1.57079632679489661923;
  const double sum = first + second;
  double low = (second - (sum - first)) + rest, high = sum + low;
  low = low - (high - sum);
  high *= unit;
  low *= unit;
  const bool minus = pattern >> 63;
  if (up != minus) high = -high, low = -low;
  return {high, low, minus ? -n : n};
}

// Up to which |x| the multiple's products with parts of pi/2 of 33 digits are exact.
constexpr double kLargest = 0x1p20;

// sin(x + quarters * pi/2)
RANVIER_INLINE Vec<double> sine(Vec<double> x, int quarters) {
  constexpr double kSin[] = {-0.16666666666666632,   0.0083333333333224149,   -0.00019841269829807984,
                             2.7557313691950856e-06, -2.5050758117328939e-08, 1.5896795640439832e-10};
  constexpr double kCos[] = {0.041666666666666602,    -0.0013888888888874138, 2.4801587289489123e-05,
                             -2.7557314354094001e-07, 2.087572348712337e-09,  -1.1359657831863923e-11};
  using C = Constants<double>;
  // x - n pi/2 with pi/2 in parts of 33 digits, whose products with n < 2^20 are exact
  const Vec<double> round = splat<double>(C::kRound), shifted = x * 0.63661977236758134308 + round;
  const Vec<double> n = shifted - round;
  const Vec<double> a = x - n * 0x1.921fb544p+0, b = n * 0x1.0b4611a6p-34, c = n * 0x1.3198a2ep-69;
  const Vec<double> d = a - b, d_kept = d - a, d_lost = (a - (d - d_kept)) - (b + d_kept);
  const Vec<double> e = d - c, e_kept = e - d, e_lost = (d - (e - e_kept)) - (c + e_kept);
  const Vec<double> tail = d_lost + e_lost - n * 0x1.b839a252049c1p-104;
  Vec<double> high = e + tail, low = tail - (high - e);
  IVec<double> quarter = bits<double>(shifted) - bits<double>(round);
  const IVec<double> out_of_range = ~(abs<double>(x) <= kLargest);
  if (__builtin_expect(any(out_of_range), 0)) {
    for (int l = 0; l < kLanes<double>; ++l) {
      if (!out_of_range[l]) continue;
      const Angle angle = reduce_large(x[l]);
      high[l] = angle.high;
      low[l] = angle.low;
      quarter[l] = angle.n;
    }
  }
  quarter += quarters;
  const Vec<double> t = high * high;
  // sin(h + l) = h + (h^3 S + l (1 - h^2 / 2)), cos(h + l) = 1 - h^2 / 2 + (h^4 C - h l)
  const Vec<double> half = 0.5 * t, sin_rest = fma(high * t, polynomial<double>(kSin, t), low - low * half);
  const Vec<double> top = 1.0 - half,
                    cos_rest = ((1.0 - top) - half) + fma(t * t, polynomial<double>(kCos, t), -high * low);
  const Vec<double> y = (quarter & 1) != 0 ? top + cos_rest : high + sin_rest;
  return (quarter & 2) != 0 ? -y : y;
}

// In double, rounded: shorter polynomials, and no second digits.
RANVIER_INLINE Vec<float> sine(Vec<float> x, int quarters) {
  constexpr double kSin[] = {-0.16666666640745967846, 0.0083333292988989641822, -0.00019839310349679803929,
                             2.7181032500266352331e-06};
  constexpr double kCos[] = {-0.49999999693865539353, 0.041666620288086980135, -0.0013886679463873098558,
                             2.4383361518743719536e-05};
  using C = Constants<double>;
  const IVec<float> out_of_range = ~(abs<float>(x) <= static_cast<float>(kLargest));
  const bool large = any(out_of_range);
  Vec<double> y[2];
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const Vec<double> wide = as_double(x, half), shifted = fma(wide, splat(0.63661977236758134308), splat(C::kRound));
    const Vec<double> n = shifted - C::kRound;
    Vec<double> r = fma(n, splat(-0x1.0b4611a626331p-34), fma(n, splat(-0x1.921fb544p+0), wide));
    IVec<double> quarter = bits<double>(shifted);
    if (__builtin_expect(large, 0)) {
      for (int l = 0; l < kLanes<double>; ++l) {
        if (!out_of_range[half * kLanes<double> + l]) continue;
        const Angle angle = reduce_large(wide[l]);
        r[l] = angle.high;
        quarter[l] = angle.n;
      }
    }
    quarter += quarters;
    const Vec<double> t = r * r;
    const Vec<double> sine = fma(r * t, polynomial<double>(kSin, t), r);
    const Vec<double> cosine = fma(t, polynomial<double>(kCos, t), splat(1.0));
    y[half] = from_bits<double>(bits<double>((quarter & 1) != 0 ? cosine : sine) ^ ((quarter & 2) << 62));
  }
  return as_float(y[0], y[1]);
}

template <class T>
RANVIER_INLINE Vec<T> sin(Vec<T> x) {
  const Vec<T> y = sine(x, 0);
  return x == T(0) ? T(0) * x : y;  // -0 too
}
template <class T>
RANVIER_INLINE Vec<T> cos(Vec<T> x) {
  return sine(x, 1);
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
