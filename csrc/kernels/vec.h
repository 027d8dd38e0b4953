// Vectors and their mathematics: a shared tool of the kernel files, compiled into each tier.
//
// Vec<T> is the widest vector of the tier, as a GCC vector type: + - * / and comparisons work on it. All code here is
// of internal linkage: nothing of one tier may be picked by the linker for another. Only fma() fuses (the build turns
// contraction off), so AVX2 and AVX-512 give the same bits.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "kernels/kernels.h"

#define RANVIER_INLINE static inline __attribute__((always_inline))

namespace ranvier::RANVIER_TIER {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
struct VecOf;
template <>
struct VecOf<float> {
  typedef float Vec __attribute__((vector_size(kVectorBytes)));
  typedef int32_t IVec __attribute__((vector_size(kVectorBytes)));
  typedef int32_t Int;
};
template <>
struct VecOf<double> {
  typedef double Vec __attribute__((vector_size(kVectorBytes)));
  typedef int64_t IVec __attribute__((vector_size(kVectorBytes)));
  typedef int64_t Int;
};
template <class T>
using Vec = typename VecOf<T>::Vec;
template <class T>
using IVec = typename VecOf<T>::IVec;  // the same width in integers: masks and bit patterns
template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

// --- load, store, broadcast ------------------------------------------------------------------------------------------

template <class T>
RANVIER_INLINE Vec<T> splat(T x) {
  return x - Vec<T>{};  // x - 0 is x, for -0 too
}

template <class T>
RANVIER_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
RANVIER_INLINE void store(T* p, Vec<T> v) {
  memcpy(p, &v, sizeof v);
}

// The first n lanes (0 <= n <= lanes); the others are read as 0 and never touched in memory.
#if defined(__AVX512F__)
RANVIER_INLINE Vec<float> load_n(const float* p, int64_t n) {
  return (Vec<float>)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
RANVIER_INLINE Vec<double> load_n(const double* p, int64_t n) {
  return (Vec<double>)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
}
RANVIER_INLINE void store_n(float* p, Vec<float> v, int64_t n) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
}
RANVIER_INLINE void store_n(double* p, Vec<double> v, int64_t n) {
  _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
}
#elif defined(__AVX2__)
RANVIER_INLINE __m256i first(float, int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
RANVIER_INLINE __m256i first(double, int64_t n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
RANVIER_INLINE Vec<float> load_n(const float* p, int64_t n) {
  return (Vec<float>)_mm256_maskload_ps(p, first(0.0f, n));
}
RANVIER_INLINE Vec<double> load_n(const double* p, int64_t n) {
  return (Vec<double>)_mm256_maskload_pd(p, first(0.0, n));
}
RANVIER_INLINE void store_n(float* p, Vec<float> v, int64_t n) {
  _mm256_maskstore_ps(p, first(0.0f, n), (__m256)v);
}
RANVIER_INLINE void store_n(double* p, Vec<double> v, int64_t n) {
  _mm256_maskstore_pd(p, first(0.0, n), (__m256d)v);
}
#else
template <class T>
RANVIER_INLINE Vec<T> load_n(const T* p, int64_t n) {
  Vec<T> v = {};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
template <class T>
RANVIER_INLINE void store_n(T* p, Vec<T> v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}
#endif

// A store around the caches, of what is not read again soon, to an address that is a multiple of the vector. Before
// another thread may read what was stored: stream_end.
template <class T>
RANVIER_INLINE void stream(T* p, Vec<T> v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(reinterpret_cast<float*>(p), (__m512)v);
#else
  store(p, v);
#endif
}
RANVIER_INLINE void stream_end() {
#if defined(__AVX512F__)
  _mm_sfence();
#endif
}

// As many bytes as T has lanes, each as wide as T. (GCC 12 takes __builtin_convertvector to wider lanes one by one.)
#if defined(__AVX512F__)
RANVIER_INLINE IVec<float> widen(float, const uint8_t* p) {
  return (IVec<float>)_mm512_maskz_cvtepu8_epi32(0xFFFF, _mm_loadu_si128((const __m128i*)p));
}
RANVIER_INLINE IVec<double> widen(double, const uint8_t* p) {
  return (IVec<double>)_mm512_maskz_cvtepu8_epi64(0xFF, _mm_loadl_epi64((const __m128i*)p));
}
#elif defined(__AVX2__)
RANVIER_INLINE IVec<float> widen(float, const uint8_t* p) {
  return (IVec<float>)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p));
}
RANVIER_INLINE IVec<double> widen(double, const uint8_t* p) {
  int four;
  memcpy(&four, p, sizeof four);
  return (IVec<double>)_mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four));
}
#elif defined(__SSE4_1__)
RANVIER_INLINE IVec<float> widen(float, const uint8_t* p) {
  int four;
  memcpy(&four, p, sizeof four);
  return (IVec<float>)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four));
}
RANVIER_INLINE IVec<double> widen(double, const uint8_t* p) {
  return IVec<double>{p[0], p[1]};
}
#else
template <class T>
RANVIER_INLINE IVec<T> widen(T, const uint8_t* p) {
  IVec<T> v;
  for (int i = 0; i < kLanes<T>; ++i) v[i] = p[i];
  return v;
}
#endif

// v in the first n lanes, `other` in the rest.
template <class T>
RANVIER_INLINE Vec<T> first_lanes(Vec<T> v, int64_t n, T other) {
  IVec<T> lane;
  for (int i = 0; i < kLanes<T>; ++i) lane[i] = i;
  return lane < static_cast<typename VecOf<T>::Int>(n) ? v : splat<T>(other);
}

// --- arithmetic ------------------------------------------------------------------------------------------------------

// a * b + c, rounded once where the tier can.
#if defined(__AVX512F__)
RANVIER_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
RANVIER_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
RANVIER_INLINE Vec<float> sqrt(Vec<float> a) {
  return (Vec<float>)_mm512_maskz_sqrt_ps(0xFFFF, (__m512)a);
}
RANVIER_INLINE Vec<double> sqrt(Vec<double> a) {
  return (Vec<double>)_mm512_maskz_sqrt_pd(0xFF, (__m512d)a);
}
#elif defined(__AVX2__)
RANVIER_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
RANVIER_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
RANVIER_INLINE Vec<float> sqrt(Vec<float> a) {
  return (Vec<float>)_mm256_sqrt_ps((__m256)a);
}
RANVIER_INLINE Vec<double> sqrt(Vec<double> a) {
  return (Vec<double>)_mm256_sqrt_pd((__m256d)a);
}
#elif defined(__aarch64__)
RANVIER_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
RANVIER_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
RANVIER_INLINE Vec<float> sqrt(Vec<float> a) {
  return (Vec<float>)vsqrtq_f32((float32x4_t)a);
}
RANVIER_INLINE Vec<double> sqrt(Vec<double> a) {
  return (Vec<double>)vsqrtq_f64((float64x2_t)a);
}
#else
template <class V>
RANVIER_INLINE V fma(V a, V b, V c) {
  return a * b + c;
}
template <class V>
RANVIER_INLINE V sqrt(V a) {
  V y;
  for (unsigned i = 0; i < sizeof(V) / sizeof(a[0]); ++i) {
    y[i] = sizeof(a[0]) == 4 ? ::sqrtf(static_cast<float>(a[i])) : ::sqrt(a[i]);
  }
  return y;
}
#endif

// The templates below take T explicitly: a vector type does not tell it.
template <class T>
RANVIER_INLINE IVec<T> bits(Vec<T> x) {
  return (IVec<T>)x;
}
template <class T>
RANVIER_INLINE Vec<T> from_bits(IVec<T> x) {
  return (Vec<T>)x;
}
template <class T>
RANVIER_INLINE Vec<T> abs(Vec<T> x) {
  return from_bits<T>(bits<T>(x) & ~bits<T>(splat<T>(-T(0))));
}
template <class T>
RANVIER_INLINE Vec<T> copysign(Vec<T> magnitude, Vec<T> sign) {
  const IVec<T> top = bits<T>(splat<T>(-T(0)));
  return from_bits<T>((bits<T>(magnitude) & ~top) | (bits<T>(sign) & top));
}
// Both return x where x is NaN.
template <class T>
RANVIER_INLINE Vec<T> at_least(Vec<T> x, Vec<T> low) {
  return x < low ? low : x;
}
template <class T>
RANVIER_INLINE Vec<T> at_most(Vec<T> x, Vec<T> high) {
  return x > high ? high : x;
}

// --- reductions ------------------------------------------------------------------------------------------------------

template <int... lane>
struct Lanes {};
template <int n, int... lane>
struct FirstLanes : FirstLanes<n - 1, n - 1, lane...> {};
template <int... lane>
struct FirstLanes<0, lane...> {
  using Type = Lanes<lane...>;
};

template <class T, int by, int... l>
RANVIER_INLINE Vec<T> rotate(Vec<T> v, Lanes<l...>) {
  return __builtin_shufflevector(v, v, ((l + by) % kLanes<T>)...);
}
// Lane l of the result is lane (l + by) % lanes of v.
template <class T, int by>
RANVIER_INLINE Vec<T> rotate(Vec<T> v) {
  return rotate<T, by>(v, typename FirstLanes<kLanes<T>>::Type());
}

template <class T, int step, int... l>
RANVIER_INLINE Vec<T> exchange(Vec<T> a, Vec<T> b, bool high, Lanes<l...>) {
  if (high) return __builtin_shufflevector(a, b, (l & step ? kLanes<T> + l : l + step)...);
  return __builtin_shufflevector(a, b, (l & step ? kLanes<T> + l - step : l)...);
}
// One step of a transposition: of two rows, the halves that stay or that change places, in groups of `step` lanes.
template <class T>
RANVIER_INLINE Vec<T> exchange(Vec<T> a, Vec<T> b, int step, bool high) {
  using All = typename FirstLanes<kLanes<T>>::Type;
  if (step == 1) return exchange<T, 1>(a, b, high, All());
  if constexpr (kLanes<T> > 2) {
    if (step == 2) return exchange<T, 2>(a, b, high, All());
  }
  if constexpr (kLanes<T> > 4) {
    if (step == 4) return exchange<T, 4>(a, b, high, All());
  }
  if constexpr (kLanes<T> > 8) return exchange<T, 8>(a, b, high, All());
  return a;
}

// Folds n elements in one order on every tier: 64 bytes of running values, then a tree. term(i, k) gives elements
// i..i+k-1 (k <= lanes; any filler the fold ignores in the other lanes).
template <class T, class Term, class Fold>
RANVIER_INLINE T fold(int64_t n, T start, Term term, Fold combine) {
  constexpr int kParts = 64 / kVectorBytes, kWide = 64 / sizeof(T), kL = kLanes<T>;
  Vec<T> part[kParts];
  for (int p = 0; p < kParts; ++p) part[p] = splat<T>(start);
  int64_t i = 0;
  for (; i + kWide <= n; i += kWide) {
    for (int p = 0; p < kParts; ++p) part[p] = combine(part[p], term(i + p * kL, kL));
  }
  for (int p = 0; p < kParts && i < n; ++p, i += kL) {
    part[p] = combine(part[p], term(i, n - i < kL ? n - i : kL));
  }
  for (int width = kParts / 2; width > 0; width /= 2) {
    for (int p = 0; p < width; ++p) part[p] = combine(part[p], part[p + width]);
  }
  Vec<T> v = part[0];
  if constexpr (kL > 8) v = combine(v, rotate<T, 8>(v));
  if constexpr (kL > 4) v = combine(v, rotate<T, 4>(v));
  if constexpr (kL > 2) v = combine(v, rotate<T, 2>(v));
  return combine(v, rotate<T, 1>(v))[0];
}

// Long sums are taken block by block, and the blocks' sums added in double, so that the error does not grow with n.
template <class T, class Term>
RANVIER_INLINE T sum(int64_t n, Term term) {
  constexpr int64_t kBlock = 4096;
  double total = 0;
  for (int64_t start = 0; start < n; start += kBlock) {
    total += static_cast<double>(fold<T>(
        n - start < kBlock ? n - start : kBlock, T(0),
        [&](int64_t i, int64_t k) __attribute__((always_inline)) { return term(start + i, k); },
        [](Vec<T> a, Vec<T> b) __attribute__((always_inline)) { return a + b; }));
  }
  return static_cast<T>(total);
}

// The largest of n elements; NaN if there is one.
template <class T>
RANVIER_INLINE T largest(const T* x, int64_t n) {
  const T low = -T(INFINITY);
  return fold<T>(
      n, low,
      [=](int64_t i, int64_t k) __attribute__((always_inline)) {
        if (k == kLanes<T>) return load(x + i);
        return first_lanes<T>(load_n(x + i, k), k, low);
      },
      [](Vec<T> a, Vec<T> b) __attribute__((always_inline)) { return a < b ? b : (b != b ? b : a); });
}

// --- functions -------------------------------------------------------------------------------------------------------

template <class T>
struct Constants;
template <>
struct Constants<float> {
  static constexpr int kMantissa = 23, kBias = 127, kExpTerms = 7, kLogTerms = 5;
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  static constexpr float kExpHigh = 90.0f, kExpLow = -105.0f, kExpm1High = 88.0f, kExpm1Low = -18.0f, kTanhHigh = 10.0f;
};
template <>
struct Constants<double> {
  static constexpr int kMantissa = 52, kBias = 1023, kExpTerms = 13, kLogTerms = 11;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kExpHigh = 711.0, kExpLow = -747.0, kExpm1High = 709.0, kExpm1Low = -38.0, kTanhHigh = 20.0;
};

// x = n * ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite, Software Manual for the Elementary Functions, 1980).
template <class T>
RANVIER_INLINE Vec<T> reduce_exponent(Vec<T> x, IVec<T>& n) {
  using C = Constants<T>;
  const Vec<T> round = splat<T>(C::kRound);
  const Vec<T> shifted = fma(x, splat<T>(T(1.44269504088896340736)), round);
  n = bits<T>(shifted) - bits<T>(round);
  const Vec<T> whole = shifted - round;
  return fma(whole, splat<T>(-C::kLn2Low), fma(whole, splat<T>(-C::kLn2High), x));
}

template <class T>
RANVIER_INLINE Vec<T> power_of_two(IVec<T> n) {
  return from_bits<T>((n + Constants<T>::kBias) << Constants<T>::kMantissa);
}

// 1/1!, 1/2!, ... summed by Horner: q(r) with e^r = 1 + r * q(r).
template <class T>
RANVIER_INLINE Vec<T> exp_tail(Vec<T> r) {
  constexpr double kFactorial[] = {1.0,    1.0,     2.0,      6.0,       24.0,       120.0,       720.0,
                                   5040.0, 40320.0, 362880.0, 3628800.0, 39916800.0, 479001600.0, 6227020800.0};
  Vec<T> q = splat<T>(T(1.0 / kFactorial[Constants<T>::kExpTerms]));
#pragma GCC unroll 16
  for (int k = Constants<T>::kExpTerms - 1; k >= 1; --k) q = fma(q, r, splat<T>(T(1.0 / kFactorial[k])));
  return q;
}

template <class T>
RANVIER_INLINE Vec<T> exp(Vec<T> x) {
  using C = Constants<T>;
  IVec<T> n;
  const Vec<T> r = reduce_exponent<T>(at_most<T>(at_least<T>(x, splat<T>(C::kExpLow)), splat<T>(C::kExpHigh)), n);
  const Vec<T> y = fma(r, exp_tail<T>(r), splat<T>(T(1)));
  const IVec<T> half = n >> 1;  // in two steps: 2^n itself may overflow where the product does not
  return y * power_of_two<T>(half) * power_of_two<T>(n - half);
}

// e^x - 1 without cancellation: 2^n * (e^r - 1) + (2^n - 1). For x up to kExpm1High, which all callers keep to.
template <class T>
RANVIER_INLINE Vec<T> expm1(Vec<T> x) {
  using C = Constants<T>;
  IVec<T> n;
  const Vec<T> r = reduce_exponent<T>(at_most<T>(at_least<T>(x, splat<T>(C::kExpm1Low)), splat<T>(C::kExpm1High)), n);
  const Vec<T> scale = power_of_two<T>(n);
  return fma(scale, r * exp_tail<T>(r), scale - T(1));
}

template <class T>
RANVIER_INLINE Vec<T> sigmoid(Vec<T> x) {
  return T(1) / (T(1) + exp<T>(-x));
}

// tanh|x| = t / (t + 2) with t = e^(2|x|) - 1.
template <class T>
RANVIER_INLINE Vec<T> tanh(Vec<T> x) {
  const Vec<T> t = expm1<T>(T(2) * at_most<T>(abs<T>(x), splat<T>(Constants<T>::kTanhHigh)));
  return copysign<T>(t / (t + T(2)), x);
}

// log x = e * ln 2 + 2 atanh(s) with x = 2^e * m, sqrt(1/2) <= m < sqrt(2), s = (m - 1) / (m + 1).
template <class T>
RANVIER_INLINE Vec<T> log(Vec<T> x) {
  using C = Constants<T>;
  const IVec<T> low = bits<T>(splat<T>(T(0.70710678118654752440)));
  const IVec<T> exponent = (bits<T>(x) - low) >> C::kMantissa;
  const Vec<T> m = from_bits<T>(bits<T>(x) - (exponent << C::kMantissa));
  const Vec<T> round = splat<T>(C::kRound), e = from_bits<T>(exponent + bits<T>(round)) - round;
  const Vec<T> f = m - T(1), s = f / (m + T(1)), s2 = s * s;
  Vec<T> q = splat<T>(T(1.0 / (2 * C::kLogTerms + 1)));
#pragma GCC unroll 16
  for (int k = C::kLogTerms - 1; k >= 1; --k) q = fma(q, s2, splat<T>(T(1.0 / (2 * k + 1))));
  // 2 atanh(s) = f - s * (f - 2 s^2 q): exact in its leading term
  const Vec<T> tail = s * (f - T(2) * s2 * q);
  Vec<T> y = fma(e, splat<T>(C::kLn2High), f - (tail - e * C::kLn2Low));
  y = x > T(1e300 * (sizeof(T) == 8) + 3e38 * (sizeof(T) == 4)) ? (x - x == T(0) ? y : x) : y;  // inf
  y = x == T(0) ? splat<T>(-T(INFINITY)) : y;
  return x >= T(0) ? y : splat<T>(T(NAN));
}

// log(1 + x) for x >= 0, corrected for the rounding of 1 + x.
template <class T>
RANVIER_INLINE Vec<T> log1p(Vec<T> x) {
  const Vec<T> w = T(1) + x, lost = x - (w - T(1));
  const Vec<T> y = log<T>(w) + lost / w;
  return x - x == T(0) ? y : x;
}

template <class T>
RANVIER_INLINE Vec<T> softplus(Vec<T> x) {
  const Vec<T> y = log1p<T>(exp<T>(-abs<T>(x)));
  return at_least<T>(x, Vec<T>{}) + y;
}

// erf x = x * sum (-x^2)^k / (k! (2k + 1)) below 1; above, 1 - e^(-x^2) Q, where Q = erfc x * e^(x^2) is a polynomial
// in u = (1 / (1 + x / 2) - middle) / half, interpolated at Chebyshev points over [1, kErfHigh]; beyond, erf rounds
// to 1.
template <class T>
struct Erf;
template <>
struct Erf<float> {
  static constexpr int kTerms = 9, kDegree = 6;
  static constexpr double kHigh = 4, kMiddle = 0.5, kHalf = 1.0 / 6;
  static constexpr double kQ[] = {0.25539567631050575,    0.1423953299228289,    0.026850911280617798,
                                  0.0029247520788123972,  4.607866369061166e-05, -2.802938325549644e-05,
                                  -1.1494861984942571e-06};
};
template <>
struct Erf<double> {
  static constexpr int kTerms = 19, kDegree = 16;
  static constexpr double kHigh = 6, kMiddle = 11.0 / 24, kHalf = 5.0 / 24;
  static constexpr double kQ[] = {0.2214295402299318,     0.16189356804102495,    0.038560570425182426,
                                  0.005588816281841403,   0.00019713917772795885, -8.07922042879663e-05,
                                  -7.340517938287998e-06, 1.9795619759276e-06,    1.6349937383405805e-07,
                                  -7.005371793736792e-08, -5.886053299221601e-10, 2.625007492297143e-09,
                                  -2.68698518348558e-10,  -7.468711818050684e-11, 2.2135736614933752e-11,
                                  4.775776110782188e-13,  -9.369456032869593e-13};
};

template <class T>
RANVIER_INLINE Vec<T> erf(Vec<T> x) {
  using E = Erf<T>;
  constexpr double kInverse[] = {1.0,      1.0,      0.5,     1.0 / 3,  0.25,     0.2,      1.0 / 6,
                                 1.0 / 7,  0.125,    1.0 / 9, 0.1,      1.0 / 11, 1.0 / 12, 1.0 / 13,
                                 1.0 / 14, 1.0 / 15, 0.0625,  1.0 / 17, 1.0 / 18, 1.0 / 19};
  const Vec<T> z = at_most<T>(abs<T>(x), splat<T>(T(E::kHigh))), minus_z2 = -z * z;
  // Horner from the last term: 1 / (k! (2k + 1)) by its ratio to the one before
  Vec<T> series = splat<T>(T(1.0 / (2 * E::kTerms - 1)));
#pragma GCC unroll 20
  for (int k = E::kTerms - 1; k >= 1; --k) {
    series = fma(series * T(kInverse[k]), minus_z2, splat<T>(T(1.0 / (2 * k - 1))));
  }
  const Vec<T> below = T(1.12837916709551257390) * z * series;
  const Vec<T> u = (T(1) / (T(1) + T(0.5) * z) - T(E::kMiddle)) * T(1 / E::kHalf);
  Vec<T> q = splat<T>(T(E::kQ[E::kDegree]));
#pragma GCC unroll 20
  for (int k = E::kDegree - 1; k >= 0; --k) q = fma(q, u, splat<T>(T(E::kQ[k])));
  const Vec<T> above = T(1) - exp<T>(minus_z2) * q;
  return copysign<T>(z < T(1) ? below : above, x);
}

// --- loops -----------------------------------------------------------------------------------------------------------

// Runs body(i, k) over [begin, end): k lanes at i. The tail goes through the same vector code as the rest.
template <class T, class Body>
RANVIER_INLINE void for_lanes(int64_t begin, int64_t end, Body body) {
  int64_t i = begin;
  for (; i + kLanes<T> <= end; i += kLanes<T>) body(i, static_cast<int64_t>(kLanes<T>));
  if (i < end) body(i, end - i);
}
template <class T>
RANVIER_INLINE Vec<T> load_lanes(const T* p, int64_t k) {
  return k == kLanes<T> ? load(p) : load_n(p, k);
}
template <class T>
RANVIER_INLINE void store_lanes(T* p, Vec<T> v, int64_t k) {
  if (k == kLanes<T>) {
    store(p, v);
  } else {
    store_n(p, v, k);
  }
}

// The elements of chunks [begin, end) of n.
struct Elements {
  int64_t begin, end;
};
RANVIER_INLINE Elements elements(int64_t begin, int64_t end, int64_t n) {
  return {begin * kElements, end * kElements < n ? end * kElements : n};
}

// The table's form of a typed kernel.
template <class Args, void (*kernel)(const Args&, int64_t, int64_t)>
void entry(const void* args, int64_t begin, int64_t end) {
  kernel(*static_cast<const Args*>(args), begin, end);
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
