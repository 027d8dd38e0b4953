// What this machine can do at most: the yardsticks that benchmarks measure everything else with.
#include "kernels/yardstick.h"

#include "kernels/loops.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

// Chains of multiply-adds, each of which waits for its own last result only. Two ports with a latency of 4 need 8 of
// them, four ports (AArch64) 16; with the factor and the offset they fit the registers.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kChains = 24;
#else
constexpr int kChains = 14;
#endif

template <class T>
void peak(const PeakArgs& a, int64_t begin, int64_t end) {
  const Vec<T> factor = splat<T>(T(a.factor)), offset = splat<T>(T(a.offset));
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    Vec<T> x[kChains];  // in registers: nothing below touches memory
#pragma GCC unroll 32
    for (int c = 0; c < kChains; ++c) x[c] = splat<T>(T(a.start + (c - 0.5 * (kChains - 1))));
    for (int64_t s = 0; s < a.steps; ++s) {
#pragma GCC unroll 32
      for (int c = 0; c < kChains; ++c) {
        // products and sums by turns: they have ports of their own
        x[c] = kFused ? fma(x[c], factor, offset) : add_in_place(x[c] * factor, offset);
      }
    }
    Vec<T> total = {};
#pragma GCC unroll 32
    for (int c = 0; c < kChains; ++c) total += x[c];
    T sum = 0;
    for (int lane = 0; lane < kLanes<T>; ++lane) sum += total[lane];
    static_cast<T*>(a.y)[chunk] = sum / T(kChains * kLanes<T>);
  }
}

template <class T>
void triad(const TriadArgs& t, int64_t begin, int64_t end) {
  T* y = static_cast<T*>(t.y);
  const T* a = static_cast<const T*>(t.a);
  const T* b = static_cast<const T*>(t.b);
  const Vec<T> scale = splat<T>(T(t.scale));
  const Range range = elements(begin, end, t.n);
  for (int64_t pass = 0; pass < t.passes; ++pass) {
    constexpr int64_t kWide = 4 * kLanes<T>;
    int64_t i = range.begin;
    for (; i + kWide <= range.end; i += kWide) {
      Vec<T> v[4];
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) v[k] = fma(scale, load(b + i + k * kLanes<T>), load(a + i + k * kLanes<T>));
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) store(y + i + k * kLanes<T>, v[k]);
    }
    for_lanes<T>(i, range.end, [=](int64_t j, int64_t k) __attribute__((always_inline)) {
      store_lanes(y + j, fma(scale, load_lanes(b + j, k), load_lanes(a + j, k)), k);
    });
    __asm__ volatile("" ::: "memory");  // no two passes may become one
  }
}

}  // namespace

void fill_yardstick(KernelTable& table) {
  table.peak_flops[0] = 2 * kChains * kLanes<float>;
  table.peak_flops[1] = 2 * kChains * kLanes<double>;
  table.peak = typed(PeakArgs, peak);
  table.triad = typed(TriadArgs, triad);
}

}  // namespace ranvier::RANVIER_TIER
