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
#include "kernels/pieces.h"
#include "kernels/ranges.h"

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

// v, in a register from here on: what uses it several times shall not read memory again each time.
template <class V>
RANVIER_INLINE V in_register(V v) {
#if defined(__x86_64__)
  __asm__("" : "+v"(v));
#elif defined(__aarch64__)
  __asm__("" : "+w"(v));
#endif
  return v;
}

// sum + x, in the register of sum and in the order of the source: without AVX an addition overwrites an operand, and
// the compiler might choose x and copy it back.
template <class V>
RANVIER_INLINE V add_in_place(V sum, V x) {
  sum += x;
#if defined(__x86_64__)
  __asm__ volatile("" : "+v"(sum) : "v"(x));
#endif
  return sum;
}
// p, but the compiler does not know that it is p: what is read there is read anew.
template <class T>
RANVIER_INLINE const T* elsewhere(const T* p) {
  __asm__("" : "+r"(p));
  return p;
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

#if defined(__FMA__) || defined(__aarch64__)
constexpr bool kFused = true;
#else
constexpr bool kFused = false;
#endif

// a * b + c, rounded once where the tier can (kFused).
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
// Both return x where x is NaN: so do the instructions, for their second operand.
#if defined(__AVX512F__)
RANVIER_INLINE Vec<float> larger(Vec<float> a, Vec<float> x) {
  return (Vec<float>)_mm512_maskz_max_ps(0xFFFF, (__m512)a, (__m512)x);
}
RANVIER_INLINE Vec<double> larger(Vec<double> a, Vec<double> x) {
  return (Vec<double>)_mm512_maskz_max_pd(0xFF, (__m512d)a, (__m512d)x);
}
RANVIER_INLINE Vec<float> smaller(Vec<float> a, Vec<float> x) {
  return (Vec<float>)_mm512_maskz_min_ps(0xFFFF, (__m512)a, (__m512)x);
}
RANVIER_INLINE Vec<double> smaller(Vec<double> a, Vec<double> x) {
  return (Vec<double>)_mm512_maskz_min_pd(0xFF, (__m512d)a, (__m512d)x);
}
#elif defined(__AVX2__)
RANVIER_INLINE Vec<float> larger(Vec<float> a, Vec<float> x) {
  return (Vec<float>)_mm256_max_ps((__m256)a, (__m256)x);
}
RANVIER_INLINE Vec<double> larger(Vec<double> a, Vec<double> x) {
  return (Vec<double>)_mm256_max_pd((__m256d)a, (__m256d)x);
}
RANVIER_INLINE Vec<float> smaller(Vec<float> a, Vec<float> x) {
  return (Vec<float>)_mm256_min_ps((__m256)a, (__m256)x);
}
RANVIER_INLINE Vec<double> smaller(Vec<double> a, Vec<double> x) {
  return (Vec<double>)_mm256_min_pd((__m256d)a, (__m256d)x);
}
#else
template <class V>
RANVIER_INLINE V larger(V a, V x) {
  return x < a ? a : x;
}
template <class V>
RANVIER_INLINE V smaller(V a, V x) {
  return x > a ? a : x;
}
#endif
template <class T>
RANVIER_INLINE Vec<T> at_least(Vec<T> x, Vec<T> low) {
  return larger(low, x);
}
template <class T>
RANVIER_INLINE Vec<T> at_most(Vec<T> x, Vec<T> high) {
  return smaller(high, x);
}

// Whether any lane of a mask is set.
#if defined(__AVX512F__)
RANVIER_INLINE bool any(IVec<float> mask) {
  return _mm512_movepi32_mask((__m512i)mask) != 0;
}
#elif defined(__AVX2__)
RANVIER_INLINE bool any(IVec<float> mask) {
  return _mm256_movemask_ps((__m256)mask) != 0;
}
#else
RANVIER_INLINE bool any(IVec<float> mask) {
  int64_t halves[2];
  memcpy(halves, &mask, sizeof halves);
  return (halves[0] | halves[1]) != 0;
}
#endif

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

// A square of a matrix in registers, turned over its diagonal: lane j of row i becomes lane i of row j.
template <class T>
RANVIER_INLINE void transpose_square(Vec<T> (&row)[kLanes<T>]) {
  constexpr int kL = kLanes<T>;
#pragma GCC unroll 4
  for (int step = 1; step < kL; step *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < kL; ++i) {
      if (i & step) continue;
      const int j = (i + step) % kL;  // i + step, and the compiler sees that it is in bounds
      const Vec<T> a = row[i], b = row[j];
      row[i] = exchange<T>(a, b, step, false);
      row[j] = exchange<T>(a, b, step, true);
    }
  }
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

// --- functions in pieces (pieces.h) ----------------------------------------------------------------------------------

#if defined(__AVX512F__) || defined(__AVX2__)
// The columns of the pieces' table: an index picks of each by a permutation.
template <int width>
struct Table {
  alignas(64) float column[width][16];
};
template <int width>
constexpr Table<width> table_of(const Pieces<width>& pieces) {
  Table<width> y = {};
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < width; ++k) y.column[k][(pieces.first + i) & 15] = pieces.row[i][k];
  }
  return y;
}

template <int width>
RANVIER_INLINE Vec<float> coefficient(const Table<width>& table, int k, IVec<float> index) {
  const float* column = table.column[k];
#if defined(__AVX512F__)
  return (Vec<float>)_mm512_maskz_permutexvar_ps(0xFFFF, (__m512i)index, _mm512_load_ps(column));
#else
  const __m256 low = _mm256_permutevar8x32_ps(_mm256_load_ps(column), (__m256i)index);
  const __m256 high = _mm256_permutevar8x32_ps(_mm256_load_ps(column + 8), (__m256i)index);
  return (Vec<float>)_mm256_blendv_ps(low, high, (__m256)(index << 28));
#endif
}
template <int width>
RANVIER_INLINE void coefficients(Vec<float> (&c)[width], const Table<width>& table, IVec<float> index) {
#pragma GCC unroll 16
  for (int k = 0; k < width; ++k) c[k] = coefficient(table, k, index);
}
#else
// The rows of the pieces' table: each lane reads its own, and four at a time are turned into columns.
template <int width>
struct Table {
  alignas(16) float row[16][(width + 3) / 4 * 4];
};
template <int width>
constexpr Table<width> table_of(const Pieces<width>& pieces) {
  Table<width> y = {};
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < width; ++k) y.row[(pieces.first + i) & 15][k] = pieces.row[i][k];
  }
  return y;
}

template <int width>
RANVIER_INLINE void coefficients(Vec<float> (&c)[width], const Table<width>& table, IVec<float> index) {
  index &= 15;
#pragma GCC unroll 4
  for (int k = 0; k < width; k += 4) {
    Vec<float> square[4];
#pragma GCC unroll 4
    for (int l = 0; l < 4; ++l) square[l] = load(table.row[index[l]] + k);
    transpose_square<float>(square);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      if (k + j < width) c[k + j] = square[j];
    }
  }
}
#endif

// f(z) = value + slope * d, by the piece whose index stands in the lowest four bits.
struct Piece {
  Vec<float> value, slope, d;
};
template <int width>
RANVIER_INLINE Piece piece_at(const Table<width>& table, IVec<float> index, Vec<float> z) {
  Vec<float> c[width];
  coefficients(c, table, index);
  const Vec<float> d = z - c[0];
  Vec<float> slope = c[width - 1];
#pragma GCC unroll 16
  for (int k = width - 2; k > 1; --k) slope = fma(slope, d, c[k]);
  return {c[1], slope, d};
}

// --- functions -------------------------------------------------------------------------------------------------------
//
// At most 2 units in the last place (ulp) from the true value in float and 4 in double, for every argument, as
// tests/test_functions.py checks; exact at 0, infinities and NaN. The engine has denormals count as 0 in kernels: so an
// argument below 1.2e-38 (double: 2.2e-308) is 0, and a result below it is. The polynomials are minimax fits by the
// Remez exchange in 50 digits, with the relative error of the function as their weight, rounded to T.

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

// Writes past the caches, to an aligned place: a large result would only push out what is needed sooner.
#if defined(__AVX512F__)
RANVIER_INLINE void store_past(float* p, Vec<float> v) {
  _mm512_stream_ps(p, (__m512)v);
}
RANVIER_INLINE void store_past(double* p, Vec<double> v) {
  _mm512_stream_pd(p, (__m512d)v);
}
#elif defined(__AVX2__)
RANVIER_INLINE void store_past(float* p, Vec<float> v) {
  _mm256_stream_ps(p, (__m256)v);
}
RANVIER_INLINE void store_past(double* p, Vec<double> v) {
  _mm256_stream_pd(p, (__m256d)v);
}
#elif defined(__x86_64__)
RANVIER_INLINE void store_past(float* p, Vec<float> v) {
  _mm_stream_ps(p, (__m128)v);
}
RANVIER_INLINE void store_past(double* p, Vec<double> v) {
  _mm_stream_pd(p, (__m128d)v);
}
#else
template <class T>
RANVIER_INLINE void store_past(T* p, Vec<T> v) {
  store(p, v);
}
#endif
RANVIER_INLINE void finish_stores_past() {  // what was written past the caches is there for other threads
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// y[0..n) = f(x[0..n)), with several vectors in flight: one alone waits for its own results. x may be y.
template <class T, class F>
RANVIER_INLINE void map_lanes(T* y, const T* x, int64_t n, F f) {
  constexpr int kFlight = 4;
  constexpr int64_t kStep = kFlight * kLanes<T>;
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    Vec<T> v[kFlight];
#pragma GCC unroll 4
    for (int j = 0; j < kFlight; ++j) v[j] = f(load(x + i + j * kLanes<T>));
#pragma GCC unroll 4
    for (int j = 0; j < kFlight; ++j) store(y + i + j * kLanes<T>, v[j]);
  }
  for_lanes<T>(i, n, [=](int64_t l, int64_t k) __attribute__((always_inline)) {
    store_lanes(y + l, f(load_lanes(x + l, k)), k);
  });
}
// The same for a y that no cache holds, nor should.
template <class T, class F>
RANVIER_INLINE void map_lanes_past(T* y, const T* x, int64_t n, F f) {
  constexpr int kFlight = 4;
  constexpr int64_t kStep = kFlight * kLanes<T>;
  const auto some = [=](int64_t l, int64_t k)
                        __attribute__((always_inline)) { store_lanes(y + l, f(load_lanes(x + l, k)), k); };
  const int64_t off = static_cast<int64_t>(reinterpret_cast<uintptr_t>(y) % kVectorBytes);
  int64_t i = off == 0 ? 0 : (kVectorBytes - off) / static_cast<int64_t>(sizeof(T));
  if (off % static_cast<int64_t>(sizeof(T)) != 0 || i > n) i = n;  // never aligned
  for_lanes<T>(0, i, some);
  for (; i + kStep <= n; i += kStep) {
    Vec<T> v[kFlight];
#pragma GCC unroll 4
    for (int j = 0; j < kFlight; ++j) v[j] = f(load(x + i + j * kLanes<T>));
#pragma GCC unroll 4
    for (int j = 0; j < kFlight; ++j) store_past(y + i + j * kLanes<T>, v[j]);
  }
  for_lanes<T>(i, n, some);
  finish_stores_past();
}

// The table's form of a typed kernel.
template <class Args, void (*kernel)(const Args&, int64_t, int64_t)>
void entry(const void* args, int64_t begin, int64_t end) {
  kernel(*static_cast<const Args*>(args), begin, end);
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
