// Vectors: a shared tool of the kernel files, compiled into each tier. Their mathematics: functions.h.
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
// Lane by lane, with lanes that the compiler knows: others go through memory.
RANVIER_INLINE Vec<float> load_n(const float* p, int64_t n) {
  if (n >= 4) return load(p);
  if (n == 3) return Vec<float>{p[0], p[1], p[2], 0};
  if (n == 2) return Vec<float>{p[0], p[1], 0, 0};
  return n == 1 ? Vec<float>{p[0], 0, 0, 0} : Vec<float>{};
}
RANVIER_INLINE Vec<double> load_n(const double* p, int64_t n) {
  if (n >= 2) return load(p);
  return n == 1 ? Vec<double>{p[0], 0} : Vec<double>{};
}
template <class T>
RANVIER_INLINE void store_n(T* p, Vec<T> v, int64_t n) {
#pragma GCC unroll 4
  for (int i = 0; i < kLanes<T>; ++i) {
    if (i < n) p[i] = v[i];
  }
}
#endif

// The first k lanes, often all of them.
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

// A line of memory that will be written: without, each store would first wait for it.
RANVIER_INLINE void ask_to_write(const void* p) {
#if defined(__x86_64__)
  __asm__ volatile("prefetchw %0" : : "m"(*static_cast<const char*>(p)));  // the compiler's needs a flag
#else
  __builtin_prefetch(p, 1);
#endif
}

// A store around the caches, to an address that is a multiple of the vector: a large result would only push out what is
// needed sooner. Before another thread may read what was stored: stream_end.
#if defined(__AVX512F__)
RANVIER_INLINE void stream(float* p, Vec<float> v) {
  _mm512_stream_ps(p, (__m512)v);
}
RANVIER_INLINE void stream(double* p, Vec<double> v) {
  _mm512_stream_pd(p, (__m512d)v);
}
#elif defined(__AVX2__)
RANVIER_INLINE void stream(float* p, Vec<float> v) {
  _mm256_stream_ps(p, (__m256)v);
}
RANVIER_INLINE void stream(double* p, Vec<double> v) {
  _mm256_stream_pd(p, (__m256d)v);
}
#elif defined(__x86_64__)
RANVIER_INLINE void stream(float* p, Vec<float> v) {
  _mm_stream_ps(p, (__m128)v);
}
RANVIER_INLINE void stream(double* p, Vec<double> v) {
  _mm_stream_pd(p, (__m128d)v);
}
#else
template <class T>
RANVIER_INLINE void stream(T* p, Vec<T> v) {
  store(p, v);
}
#endif
RANVIER_INLINE void stream_end() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}
// Whether y, rows of so many columns, goes around the caches: where it is too large for them, reading its lines before
// writing them would cost as much again. A vector must be a line of the cache.
constexpr bool kStreams = kVectorBytes == 64;
template <class T>
RANVIER_INLINE bool streams(const void* y, int64_t rows, int64_t columns, int64_t large = 16 << 20) {
  const int64_t row = columns * static_cast<int64_t>(sizeof(T));
  return kStreams && row % kVectorBytes == 0 && reinterpret_cast<uintptr_t>(y) % kVectorBytes == 0 &&
         rows * row >= large;
}

// As many bytes or words of 32 bits as T has lanes, each as wide as T. (GCC 12 takes __builtin_convertvector to wider
// lanes one by one.)
#if defined(__AVX512F__)
RANVIER_INLINE IVec<float> widen(float, const uint8_t* p) {
  return (IVec<float>)_mm512_maskz_cvtepu8_epi32(0xFFFF, _mm_loadu_si128((const __m128i*)p));
}
RANVIER_INLINE IVec<double> widen(double, const uint8_t* p) {
  return (IVec<double>)_mm512_maskz_cvtepu8_epi64(0xFF, _mm_loadl_epi64((const __m128i*)p));
}
RANVIER_INLINE IVec<double> widen(double, const uint32_t* p) {
  return (IVec<double>)_mm512_maskz_cvtepu32_epi64(0xFF, _mm256_loadu_si256((const __m256i*)p));
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
RANVIER_INLINE IVec<double> widen(double, const uint32_t* p) {
  return (IVec<double>)_mm256_cvtepu32_epi64(_mm_loadu_si128((const __m128i*)p));
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
RANVIER_INLINE IVec<double> widen(double, const uint32_t* p) {
  return (IVec<double>)_mm_cvtepu32_epi64(_mm_loadl_epi64((const __m128i*)p));
}
#else
template <class T>
RANVIER_INLINE IVec<T> widen(T, const uint8_t* p) {
  IVec<T> v;
  for (int i = 0; i < kLanes<T>; ++i) v[i] = p[i];
  return v;
}
RANVIER_INLINE IVec<double> widen(double, const uint32_t* p) {
  return IVec<double>{p[0], p[1]};
}
#endif
RANVIER_INLINE IVec<float> widen(float, const uint32_t* p) {
  IVec<float> v;
  memcpy(&v, p, sizeof v);
  return v;
}

// The lower or upper half of x's lanes in double, and back.
#if defined(__AVX512F__)
RANVIER_INLINE Vec<double> as_double(Vec<float> x, int half) {
  const __m512d all = (__m512d)x;
  const __m256d part = half == 0 ? _mm512_castpd512_pd256(all) : _mm512_maskz_extractf64x4_pd(0xF, all, 1);
  return (Vec<double>)_mm512_maskz_cvtps_pd(0xFF, _mm256_castpd_ps(part));
}
RANVIER_INLINE Vec<float> as_float(Vec<double> low, Vec<double> high) {
  const __m256 a = _mm512_maskz_cvtpd_ps(0xFF, (__m512d)low), b = _mm512_maskz_cvtpd_ps(0xFF, (__m512d)high);
  const __m512d first = _mm512_castpd256_pd512(_mm256_castps_pd(a));
  return (Vec<float>)_mm512_maskz_insertf64x4(0xFF, first, _mm256_castps_pd(b), 1);
}
#elif defined(__AVX2__)
RANVIER_INLINE Vec<double> as_double(Vec<float> x, int half) {
  const __m256 all = (__m256)x;
  return (Vec<double>)_mm256_cvtps_pd(half == 0 ? _mm256_castps256_ps128(all) : _mm256_extractf128_ps(all, 1));
}
RANVIER_INLINE Vec<float> as_float(Vec<double> low, Vec<double> high) {
  return (Vec<float>)_mm256_set_m128(_mm256_cvtpd_ps((__m256d)high), _mm256_cvtpd_ps((__m256d)low));
}
#elif defined(__x86_64__)
RANVIER_INLINE Vec<double> as_double(Vec<float> x, int half) {
  const __m128 all = (__m128)x;
  return (Vec<double>)_mm_cvtps_pd(half == 0 ? all : _mm_movehl_ps(all, all));
}
RANVIER_INLINE Vec<float> as_float(Vec<double> low, Vec<double> high) {
  return (Vec<float>)_mm_movelh_ps(_mm_cvtpd_ps((__m128d)low), _mm_cvtpd_ps((__m128d)high));
}
#else
RANVIER_INLINE Vec<double> as_double(Vec<float> x, int half) {
  const int l = 2 * half;
  return Vec<double>{x[l], x[l + 1]};
}
RANVIER_INLINE Vec<float> as_float(Vec<double> low, Vec<double> high) {
  return Vec<float>{static_cast<float>(low[0]), static_cast<float>(low[1]), static_cast<float>(high[0]),
                    static_cast<float>(high[1])};
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

// A mask's lanes as bits.
#if defined(__AVX512F__)
RANVIER_INLINE unsigned lane_bits(IVec<float> mask) {
  return _mm512_movepi32_mask((__m512i)mask);
}
#elif defined(__AVX2__)
RANVIER_INLINE unsigned lane_bits(IVec<float> mask) {
  return static_cast<unsigned>(_mm256_movemask_ps((__m256)mask));
}
#elif defined(__x86_64__)
RANVIER_INLINE unsigned lane_bits(IVec<float> mask) {
  return static_cast<unsigned>(_mm_movemask_ps((__m128)mask));
}
#else
RANVIER_INLINE unsigned lane_bits(IVec<float> mask) {
  return vaddvq_u32((uint32x4_t)(mask & IVec<float>{1, 2, 4, 8}));
}
#endif
// Whether any lane of a mask is set; the first that is, where one is.
template <class M>
RANVIER_INLINE bool any(M mask) {
  return lane_bits((IVec<float>)mask) != 0;
}
template <class T>
RANVIER_INLINE int first_lane(IVec<T> mask) {
  return __builtin_ctz(lane_bits((IVec<float>)mask)) / static_cast<int>(sizeof(T) / sizeof(float));
}

// --- lanes that change places ----------------------------------------------------------------------------------------

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

}  // namespace
}  // namespace ranvier::RANVIER_TIER
