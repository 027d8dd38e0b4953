// Functions of vectors: a shared tool of the kernel files, compiled into each tier.
//
// At most 2 units in the last place (ulp) from the true value in float and 4 in double, for every argument, as
// tests/test_functions.py checks; exact at 0, infinities and NaN. The engine has denormals count as 0 in kernels: so an
// argument below 1.2e-38 (double: 2.2e-308) is 0, and a result below it is. The polynomials are minimax fits by the
// Remez exchange in 50 digits, with the relative error of the function as their weight, rounded to T.
#pragma once

#include "kernels/loops.h"
#include "kernels/pieces.h"

namespace ranvier::RANVIER_TIER {
namespace {

// --- polynomials and their coefficients ------------------------------------------------------------------------------

// c[0] + c[1] x + ... by Horner.
template <class T, int n>
RANVIER_INLINE Vec<T> polynomial(const T (&c)[n], Vec<T> x) {
  Vec<T> y = splat<T>(c[n - 1]);
#pragma GCC unroll 32
  for (int k = n - 2; k >= 0; --k) y = fma(y, x, splat<T>(c[k]));
  return y;
}

// The same less c[0].
template <class T, int n>
RANVIER_INLINE Vec<T> without_first(const T (&c)[n], Vec<T> x) {
  Vec<T> y = splat<T>(c[n - 1]);
#pragma GCC unroll 32
  for (int k = n - 2; k >= 1; --k) y = fma(y, x, splat<T>(c[k]));
  return x * y;
}

template <class T>
struct Constants;
template <>
struct Constants<float> {
  static constexpr int kMantissa = 23, kBias = 127;
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  // Beyond these e^x is 0 or infinite; e^x - 1 is -1.
  static constexpr float kExpHigh = 89.0f, kExpLow = -105.0f, kExpm1Low = -18.0f, kSigmoidHigh = 88.0f;
  // (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2
  static constexpr float kExp[] = {0.5f, 0.166665196f, 0.0416662097f, 0.00836888142f, 0.00139501703f};
  // (Phi(x) - 1/2) / x in x^2 for |x| <= kTailLow
  static constexpr float kCentre[] = {0.398942292f, -0.0664903596f, 0.00997319724f, -0.00118461251f, 0.000106997686f};
  // z Phi(-z) e^(z^2 / 2) in (z - kTailB) / (z + kTailA) for kTailLow <= z <= kTailHigh, where z Phi(-z) is 0
  static constexpr float kTailLow = 0.65f, kTailHigh = 14.5f, kTailA = 4.0f, kTailB = 1.5f;
  static constexpr float kTail[] = {0.308670998f, 0.387055606f,  -0.747045457f,  0.854285479f,  -0.602674425f,
                                    0.215865985f, 0.0180803705f, -0.0484079383f, 0.0115282247f, 0.00165961275f};
  static constexpr uint32_t kUpper = 0xFFFFF000u;  // the upper half of the digits
};
template <>
struct Constants<double> {
  static constexpr int kMantissa = 52, kBias = 1023;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kExpHigh = 710.0, kExpLow = -747.0, kExpm1Low = -38.0, kSigmoidHigh = 709.0;
  static constexpr double kExp[] = {0.50000000000000122,    0.16666666666666699,    0.041666666666515459,
                                    0.0083333333333075067,  0.0013888888947007965,  0.00019841269916755366,
                                    2.4801489949680784e-05, 2.7557216838039636e-06, 2.763127777097606e-07,
                                    2.5117697421676893e-08};
  // erf x / x - 1 in x^2 for |x| <= 1
  static constexpr double kErf[] = {0.12837916709551259,     -0.37612638903183748,    0.11283791670954857,
                                    -0.026866170645072865,   0.0052239776247805462,   -0.00085483269787238437,
                                    0.00012055331036247225,  -1.4925593491760274e-05, 1.6460972583652353e-06,
                                    -1.6350022846035355e-07, 1.4657864480883743e-08,  -1.1365608844440628e-09,
                                    5.9451686813428143e-11};
  static constexpr double kCentre[] = {0.3989422804014327,     -0.0664903800669054,     0.0099735570100323578,
                                       -0.001187328215385192,  0.00011543468630051014,  -9.4446460400796358e-06,
                                       6.6592263755829965e-07, -4.1101818082634544e-08, 2.0921890595775212e-09};
  static constexpr double kTailLow = 0.65, kTailHigh = 38.6, kTailA = 4.0, kTailB = 4.0;
  static constexpr double kTail[] = {
      0.37764256520787576,    0.07369424422192968,     -0.11037962061483915,    0.10030777139128239,
      -0.06306264153433251,   0.026428192961940246,    -0.005509940667868255,   -0.0009244369515752415,
      0.0008820813969807676,  -4.8875348687106073e-05, -0.00011650170028590237, 1.6618469873820146e-05,
      1.793123376181749e-05,  -2.6028872347790494e-06, -3.2768742768313135e-06, 1.9923766464601638e-07,
      6.510613943417966e-07,  5.208176058896942e-08,   -1.2648326001627372e-07, -2.8387622983143523e-08,
      2.1856969437653207e-08, 5.432273516366786e-09,   -2.6996247478298847e-09};
  static constexpr uint64_t kUpper = 0xFFFFFFFFF8000000u;
};

// --- exponentials ----------------------------------------------------------------------------------------------------

// x + rest = n ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite, Software Manual for the Elementary Functions, 1980).
// Returns r; `shifted` holds n in its low bits.
template <class T>
RANVIER_INLINE Vec<T> reduce_exponent(Vec<T> x, Vec<T>& shifted) {
  using C = Constants<T>;
  shifted = fma(x, splat<T>(T(1.44269504088896340736)), splat<T>(C::kRound));
  const Vec<T> whole = shifted - C::kRound;
  return fma(whole, splat<T>(-C::kLn2Low), fma(whole, splat<T>(-C::kLn2High), x));
}
template <class T>
RANVIER_INLINE Vec<T> reduce_exponent(Vec<T> x, Vec<T>& shifted, Vec<T> rest) {
  using C = Constants<T>;
  shifted = fma(x, splat<T>(T(1.44269504088896340736)), splat<T>(C::kRound));
  const Vec<T> whole = shifted - C::kRound;
  return fma(whole, splat<T>(-C::kLn2High), x) + fma(whole, splat<T>(-C::kLn2Low), rest);
}

template <class T>
RANVIER_INLINE Vec<T> power_of_two(IVec<T> n) {
  return from_bits<T>((n + Constants<T>::kBias) << Constants<T>::kMantissa);
}

// y * 2^n, or y * 2^-n; 2^n itself may overflow where the product does not.
#if defined(__AVX512F__)
RANVIER_INLINE Vec<float> scale(Vec<float> y, Vec<float> shifted) {
  return (Vec<float>)_mm512_maskz_scalef_ps(0xFFFF, (__m512)y, (__m512)(shifted - Constants<float>::kRound));
}
RANVIER_INLINE Vec<double> scale(Vec<double> y, Vec<double> shifted) {
  return (Vec<double>)_mm512_maskz_scalef_pd(0xFF, (__m512d)y, (__m512d)(shifted - Constants<double>::kRound));
}
RANVIER_INLINE Vec<float> scale_back(Vec<float> y, Vec<float> shifted) {
  return (Vec<float>)_mm512_maskz_scalef_ps(0xFFFF, (__m512)y, (__m512)(Constants<float>::kRound - shifted));
}
RANVIER_INLINE Vec<double> scale_back(Vec<double> y, Vec<double> shifted) {
  return (Vec<double>)_mm512_maskz_scalef_pd(0xFF, (__m512d)y, (__m512d)(Constants<double>::kRound - shifted));
}
#else
template <class T>
RANVIER_INLINE Vec<T> scale_in_two_steps(Vec<T> y, IVec<T> n) {
  const IVec<T> half = n >> 1;
  return y * power_of_two<T>(half) * power_of_two<T>(n - half);
}
RANVIER_INLINE Vec<float> scale(Vec<float> y, Vec<float> shifted) {
  return scale_in_two_steps<float>(y, bits<float>(shifted) - bits<float>(splat<float>(Constants<float>::kRound)));
}
RANVIER_INLINE Vec<double> scale(Vec<double> y, Vec<double> shifted) {
  return scale_in_two_steps<double>(y, bits<double>(shifted) - bits<double>(splat<double>(Constants<double>::kRound)));
}
RANVIER_INLINE Vec<float> scale_back(Vec<float> y, Vec<float> shifted) {
  return scale_in_two_steps<float>(y, bits<float>(splat<float>(Constants<float>::kRound)) - bits<float>(shifted));
}
RANVIER_INLINE Vec<double> scale_back(Vec<double> y, Vec<double> shifted) {
  return scale_in_two_steps<double>(y, bits<double>(splat<double>(Constants<double>::kRound)) - bits<double>(shifted));
}
#endif

// c - 1 + e^r, rounded once, and e^r - 1, for |r| <= ln 2 / 2.
template <class T>
RANVIER_INLINE Vec<T> exp_reduced(Vec<T> r, Vec<T> c = splat<T>(T(1))) {
  if constexpr (!kFused) {
    const Vec<T> sum = c + r;  // and what it loses
    return sum + fma(r * r, polynomial<T>(Constants<T>::kExp, r), r - (sum - c));
  }
  return fma(fma(polynomial<T>(Constants<T>::kExp, r), r, splat<T>(T(1))), r, c);
}
template <class T>
RANVIER_INLINE Vec<T> expm1_reduced(Vec<T> r) {
  return fma(r * r, polynomial<T>(Constants<T>::kExp, r), r);
}

template <class T>
RANVIER_INLINE Vec<T> clamp_exponent(Vec<T> x) {
  return at_most<T>(at_least<T>(x, splat<T>(Constants<T>::kExpLow)), splat<T>(Constants<T>::kExpHigh));
}

template <class T>
RANVIER_INLINE Vec<T> exp(Vec<T> x) {
  Vec<T> n;
  const Vec<T> r = reduce_exponent<T>(clamp_exponent<T>(x), n);
  return scale(exp_reduced<T>(r), n);
}

// e^x - 1 without cancellation: 2^n * (e^r - 1) + (2^n - 1).
template <class T>
RANVIER_INLINE Vec<T> expm1(Vec<T> x) {
  using C = Constants<T>;
  Vec<T> shifted;
  const Vec<T> r =
      reduce_exponent<T>(at_most<T>(at_least<T>(x, splat<T>(C::kExpm1Low)), splat<T>(C::kExpHigh)), shifted);
  const IVec<T> n = bits<T>(shifted) - bits<T>(splat<T>(C::kRound));
  const IVec<T> over = n > C::kBias;  // -1 where 2^n itself overflows
  const Vec<T> power = power_of_two<T>(n + over);
  const Vec<T> y = fma(power, expm1_reduced<T>(r), power - T(1));
  const Vec<T> finite = over ? y + y : y;
  return x == T(0) ? T(0) * x : finite;  // -0 too
}

// --- sigmoid and tanh ------------------------------------------------------------------------------------------------

// a / (1 + e^-v) = a 2^-n / (2^-n + e^r) with -v = n ln 2 + r: e^-v may overflow where the result does not. For a that
// goes to 0 or is bounded where v does. v + rest is the exact argument.
template <class T>
RANVIER_INLINE Vec<T> times_sigmoid(Vec<T> a, Vec<T> v, Vec<T> rest) {
  using C = Constants<T>;
  // Below the bound the result is 0; above, a.
  constexpr T kLow = C::kExpLow, kHigh = T(40);
  Vec<T> n;
  const Vec<T> r = reduce_exponent<T>(-at_most<T>(at_least<T>(v, splat<T>(kLow)), splat<T>(kHigh)), n, -rest);
  const Vec<T> power = scale_back(splat<T>(T(1)), n), c = T(1) + power;
  return scale_back(at_least<T>(a, splat<T>(kLow)) / exp_reduced<T>(r + (power - (c - T(1))), c), n);
}

// 2^-n / (2^-n + e^r) with -x = n ln 2 + r
template <class T>
RANVIER_INLINE Vec<T> sigmoid(Vec<T> x) {
  using C = Constants<T>;
  Vec<T> n;
  const Vec<T> bounded = at_most<T>(at_least<T>(x, splat<T>(-C::kSigmoidHigh)), splat<T>(C::kSigmoidHigh));
  const Vec<T> r = reduce_exponent<T>(-bounded, n);
  // the low bits of kRound leave at the top
  const Vec<T> power = from_bits<T>(bits<T>(splat<T>(T(1))) - (bits<T>(n) << C::kMantissa));
  const Vec<T> c = T(1) + power;
  return power / exp_reduced<T>(r + (power - (c - T(1))), c);  // what c lost counts where r is small beside it
}

template <class T>
RANVIER_INLINE Vec<T> silu(Vec<T> x) {
  return times_sigmoid<T>(x, x, Vec<T>{});
}

// tanh|x| = t / (t + 2) with t = e^(2|x|) - 1.
RANVIER_INLINE Vec<double> tanh_of(Vec<double> x) {
  using C = Constants<double>;
  const Vec<double> z = at_most<double>(abs<double>(x), splat<double>(20.0));  // beyond, tanh rounds to 1
  Vec<double> n;
  const Vec<double> r = reduce_exponent<double>(z + z, n);
  // the low bits of kRound leave at the top
  const Vec<double> power = from_bits<double>((bits<double>(n) << C::kMantissa) + bits<double>(splat<double>(1.0)));
  const Vec<double> t = fma(power, expm1_reduced<double>(r), power - 1.0);
  return copysign<double>(t / (t + 2.0), x);
}
RANVIER_INLINE Vec<float> tanh_of(Vec<float> x) {
  static constexpr Table<7> kTable = table_of(kTanhPieces);
  const Vec<float> z = at_most<float>(abs<float>(x), splat<float>(9.25f));  // where tanh rounds to 1
  const Piece y = piece_at(kTable, bits<float>(z + 0.625f) >> 21, z);
  return copysign<float>(fma(y.slope, y.d, y.value), x);
}
template <class T>
RANVIER_INLINE Vec<T> tanh(Vec<T> x) {
  return tanh_of(x);
}

// --- logarithms ------------------------------------------------------------------------------------------------------

// log(1 + f) for sqrt(1/2) - 1 <= f <= sqrt(2) - 1, as f minus what is returned.
RANVIER_INLINE Vec<float> log1p_rest(Vec<float> f) {
  constexpr float kLog[] = {0.333333313f,  -0.250008225f, 0.200012252f,  -0.166233465f, 0.142017633f,
                            -0.131602407f, 0.127617106f,  -0.0763467327f};  // (log(1 + f) - f + f^2 / 2) / f^3
  return f * f * fma(-f, polynomial<float>(kLog, f), splat<float>(0.5f));
}
RANVIER_INLINE Vec<double> log1p_rest(Vec<double> f) {
  constexpr double kAtanh[] = {
      0.3333333333333367,  0.19999999999707305,  0.14285714371205246, 0.1111109928523515,
      0.09091782242366668, 0.076570229939746742, 0.073980004486549594};  // (atanh(s) / s - 1) / s^2
  const Vec<double> s = f / (f + 2.0), s2 = s * s;
  return s * (f - 2.0 * s2 * polynomial<double>(kAtanh, s2));  // log(1 + f) = 2 atanh(s)
}

// w = 2^e (1 + f) for a positive finite w.
template <class T>
RANVIER_INLINE Vec<T> split_exponent(Vec<T> w, Vec<T>& e) {
  using C = Constants<T>;
  const IVec<T> low = bits<T>(splat<T>(T(0.70710678118654752440)));
  const IVec<T> exponent = (bits<T>(w) - low) >> C::kMantissa;
  const Vec<T> round = splat<T>(C::kRound);
  e = from_bits<T>(exponent + bits<T>(round)) - round;
  return from_bits<T>(bits<T>(w) - (exponent << C::kMantissa)) - T(1);
}

// log of the argument w, which y is right for where w is positive and finite.
template <class T>
RANVIER_INLINE Vec<T> log_ends(Vec<T> w, Vec<T> y) {
  y = w == T(INFINITY) ? w : y;
  y = w == T(0) ? splat<T>(-T(INFINITY)) : y;
  return w >= T(0) ? y : splat<T>(T(NAN));
}

// log x = e ln 2 + log(1 + f)
template <class T>
RANVIER_INLINE Vec<T> log(Vec<T> x) {
  using C = Constants<T>;
  Vec<T> e;
  const Vec<T> f = split_exponent<T>(x, e);
  return log_ends<T>(x, fma(e, splat<T>(C::kLn2High), f - (log1p_rest(f) - e * C::kLn2Low)));
}

// log w + (1 + x - w) / w with w = 1 + x rounded
template <class T>
RANVIER_INLINE Vec<T> log1p(Vec<T> x) {
  using C = Constants<T>;
  const Vec<T> w = T(1) + x, lost = x - (w - T(1));
  Vec<T> e;
  const Vec<T> f = split_exponent<T>(w, e);
  const Vec<T> y = fma(e, splat<T>(C::kLn2High), f - (log1p_rest(f) - fma(e, splat<T>(C::kLn2Low), lost / w)));
  return log_ends<T>(w, x == T(0) ? T(0) * x : y);  // -0 too
}

// log(1 + e^x) = max(x, 0) + log(1 + u) with u = e^-|x| <= 1, and 1 + u = 2 (1 + (u - 1) / 2)
template <class T>
RANVIER_INLINE Vec<T> softplus(Vec<T> x) {
  const Vec<T> u = exp<T>(-abs<T>(x));
  const IVec<T> large = u > T(0.41421356237309504880);
  const Vec<T> f = large ? T(0.5) * (u - T(1)) : u;
  const Vec<T> y = f - log1p_rest(f);
  return at_least<T>(x, Vec<T>{}) + (large ? y + T(0.69314718055994530942) : y);
}

// --- gelu and erf ----------------------------------------------------------------------------------------------------

// a * b - p, where p is a * b rounded: what was lost (Dekker, 1971, where the tier has no fma).
template <class T>
RANVIER_INLINE Vec<T> lost_in_product(Vec<T> a, Vec<T> b, Vec<T> p) {
  if constexpr (kFused) return fma(a, b, -p);
  using Int = typename VecOf<T>::Int;
  const IVec<T> upper = IVec<T>{} + static_cast<Int>(Constants<T>::kUpper);
  const Vec<T> a1 = from_bits<T>(bits<T>(a) & upper), a2 = a - a1;
  const Vec<T> b1 = from_bits<T>(bits<T>(b) & upper), b2 = b - b1;
  return ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2;
}

// The normal distribution at z = |x|: z Phi(-z) = 2^n e^r R(z) from kTailLow on, with a polynomial R, so that its
// relative error stays small however far out; and (Phi(x) - 1/2) / x, a polynomial, up to there.
template <class T>
struct Normal {
  Vec<T> z, rise, r, n;  // R = kTail[0] + rise, and -z^2 / 2 = n ln 2 + r
  Vec<T> x2, centre;
};
template <class T>
RANVIER_INLINE Normal<T> normal(Vec<T> x) {
  using C = Constants<T>;
  Normal<T> y;
  y.z = at_most<T>(abs<T>(x), splat<T>(C::kTailHigh));
  y.rise = without_first<T>(C::kTail, (y.z - C::kTailB) / (y.z + C::kTailA));
  // z^2 to twice the digits: far out e^(-z^2 / 2) multiplies its error
  const Vec<T> z2 = y.z * y.z, rest = T(-0.5) * lost_in_product<T>(y.z, y.z, z2);
  y.r = reduce_exponent<T>(T(-0.5) * z2, y.n, rest);
  y.x2 = x * x;
  y.centre = polynomial<T>(C::kCentre, y.x2);
  return y;
}

// x Phi(x) = max(x, 0) - z Phi(-z)
RANVIER_INLINE Vec<double> gelu_of(Vec<double> x) {
  using C = Constants<double>;
  const Normal<double> y = normal<double>(x);
  const Vec<double> first = splat<double>(C::kTail[0]);
  const Vec<double> tail = scale(fma(first + y.rise, expm1_reduced<double>(y.r), y.rise) + first, y.n);
  return y.z < C::kTailLow ? x * fma(x, y.centre, splat<double>(0.5)) : at_least<double>(x, Vec<double>{}) - tail;
}
// Far below 0 only an exponential keeps the relative error small: z Phi(-z) = e^(-z^2 / 2) times a polynomial in 1 /
// z^2.
RANVIER_INLINE Vec<float> gelu_far_below(Vec<float> x) {
  constexpr float kFar[] = {0.398942292f, -0.398939312f, 1.19524407f, -5.79847145f, 32.3184586f, -119.31472f};
  const Vec<float> z = at_most<float>(-x, splat<float>(Constants<float>::kTailHigh)), z2 = z * z;
  const Vec<float> rest = -0.5f * lost_in_product<float>(z, z, z2), rise = without_first<float>(kFar, 1.0f / z2);
  Vec<float> n;
  const Vec<float> r = reduce_exponent<float>(-0.5f * z2, n, rest);
  return -scale(fma(kFar[0] + rise, expm1_reduced<float>(r), rise) + kFar[0], n);
}
RANVIER_INLINE Vec<float> gelu_of(Vec<float> x) {
  static constexpr Table<9> kTable = table_of(kGeluPieces);
  const Vec<float> z = at_most<float>(abs<float>(x), splat<float>(5.5f));
  const IVec<float> index = bits<float>(fma(z, splat<float>(1 / 0.37f), splat<float>(Constants<float>::kRound)));
  const Piece rest = piece_at(kTable, index, z);
  Vec<float> y = fma(-rest.slope, rest.d, at_least<float>(x, Vec<float>{}) - rest.value);
  if constexpr (!kFused) y = z < 2.4e-38f ? 0.5f * x : y;  // slope * d may be too small to be normal
  const IVec<float> far = x < -4.62f;                      // few are
  if (__builtin_expect(any(far), 0)) return far ? gelu_far_below(x) : y;
  return y;
}
template <class T>
RANVIER_INLINE Vec<T> gelu(Vec<T> x) {
  return gelu_of(x);
}
// Phi(x) + x phi(x); at -x it is 1 less that
template <class T>
RANVIER_INLINE Vec<T> gelu_slope(Vec<T> x) {
  const Normal<T> y = normal<T>(x);
  const Vec<T> e = scale(exp_reduced<T>(y.r), y.n), root = splat<T>(T(0.39894228040143267794));
  const Vec<T> left = e * fma(-root, y.z, (Constants<T>::kTail[0] + y.rise) / y.z);
  const Vec<T> outside = x < T(0) ? left : T(1) - left;
  return y.z < Constants<T>::kTailLow ? fma(x, fma(root, e, y.centre), splat<T>(T(0.5))) : outside;
}

// gelu's approximation x (1 + tanh u) / 2 = x sigmoid(2u), 2u = x (a + b x^2) with a = sqrt(8 / pi), b = 0.044715 a
// (Hendrycks and Gimpel, 2016). 2u is kept to twice the digits: far out e^2u multiplies its error.
template <class T>
struct GeluArgument {
  Vec<T> x, x2, u2, rest;
};
template <class T>
RANVIER_INLINE GeluArgument<T> gelu_argument(Vec<T> x_) {
  constexpr double kA = 1.59576912160573071, kB = 0.0713548162726002526;
  constexpr T a = T(kA), b = T(kB), kBound = sizeof(T) == 4 ? T(11) : T(24);
  constexpr T a_rest = sizeof(T) == 4 ? T(kA - double(a)) : T(-9.96930880911092e-17),
              b_rest = sizeof(T) == 4 ? T(kB - double(b)) : T(-6.175149918155315e-19);
  const Vec<T> x = at_most<T>(at_least<T>(x_, splat<T>(-kBound)), splat<T>(kBound)), x2 = x * x;
  const Vec<T> p = b * x2, p_rest = lost_in_product<T>(splat<T>(b), x2, p) +
                                    fma(splat<T>(b), lost_in_product<T>(x, x, x2), b_rest * x2);
  const Vec<T> w = a + p, kept = w - a;
  const Vec<T> w_rest = (a - (w - kept)) + (p - kept) + p_rest + a_rest;
  const Vec<T> u2 = x * w;
  return {x, x2, u2, fma(x, w_rest, lost_in_product<T>(x, w, u2))};
}
template <class T>
RANVIER_INLINE Vec<T> gelu_tanh(Vec<T> x) {
  const GeluArgument<T> g = gelu_argument<T>(x);
  return times_sigmoid<T>(x, g.u2, g.rest);
}
// s + x s (1 - s) (a + 3 b x^2) with s = sigmoid(2u)
template <class T>
RANVIER_INLINE Vec<T> gelu_tanh_slope(Vec<T> x) {
  const GeluArgument<T> g = gelu_argument<T>(x);
  const Vec<T> s = times_sigmoid<T>(splat<T>(T(1)), g.u2, g.rest);
  const Vec<T> inner = fma(g.x2, splat<T>(T(3 * 0.0713548162726002526)), splat<T>(T(1.59576912160573071)));
  return fma(g.x * (T(1) - s) * inner, s, s);
}

// erf x = 1 - 2 Phi(-z) with z = sqrt(2) |x|; below 1, x times a polynomial.
RANVIER_INLINE Vec<double> erf_of(Vec<double> x) {
  using C = Constants<double>;
  constexpr double kRoot = 1.41421356237309504880;
  const Vec<double> more = polynomial<double>(C::kErf, x * x);
  const Vec<double> below = kFused ? fma(x, more, x) : x * (1.0 + more);    // x * more may be too small to be normal
  const Vec<double> z = at_most<double>(abs<double>(x), splat<double>(6));  // where erf x rounds to 1
  const Vec<double> ratio = polynomial<double>(C::kTail, (z - C::kTailB / kRoot) / (z + C::kTailA / kRoot));
  const Vec<double> above = 1.0 - kRoot * ratio / z * exp<double>(-z * z);
  return z < 1.0 ? below : copysign<double>(above, x);
}
RANVIER_INLINE Vec<float> erf_of(Vec<float> x) {
  static constexpr Table<7> kTable = table_of(kErfPieces);
  const Vec<float> z = at_most<float>(abs<float>(x), splat<float>(kErfPieces.row[15][0]));  // where erf x rounds to 1
  const Piece y = piece_at(kTable, bits<float>(z + 1.5f) >> 20, z);
  return copysign<float>(fma(1.0f + y.slope, y.d, y.value), x);  // 0.128 has three digits more than 1.128
}
template <class T>
RANVIER_INLINE Vec<T> erf(Vec<T> x) {
  return erf_of(x);
}

// y = e^(x - top) of n elements, unless y is null; returns the sum.
template <class T>
RANVIER_INLINE T exponentials(T* y, const T* x, T top, int64_t n) {
  return sum<T>(n, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
    Vec<T> e = exp<T>(load_lanes(x + i, k) - top);
    if (k < kLanes<T>) e = first_lanes<T>(e, k, T(0));
    if (y) store_lanes(y + i, e, k);
    return e;
  });
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
