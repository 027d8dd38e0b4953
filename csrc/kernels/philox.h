// Random numbers from a counter: Philox4x32-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011).
#pragma once

#include "kernels/dropout.h"
#include "kernels/vec.h"

namespace ranvier::RANVIER_TIER {
namespace {

// Numbers of 64 bits, a block in each lane. A word of 32 bits is the low half of a lane; what stands above it is never
// read, so nothing has to clear it.
typedef uint64_t Blocks __attribute__((vector_size(kVectorBytes)));
constexpr uint64_t kLow = 0xFFFFFFFF;

// The product of the low halves of a and b.
RANVIER_INLINE uint64_t low_product(uint64_t a, uint64_t b) {
  return (a & kLow) * (b & kLow);
}
RANVIER_INLINE Blocks low_product(Blocks a, uint64_t b_) {
  const Blocks b = b_ - Blocks{};
#if defined(__AVX512F__)
  return (Blocks)_mm512_maskz_mul_epu32(0xFF, (__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Blocks)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__x86_64__)
  return (Blocks)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (Blocks)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
#endif
}

template <class U>
struct Words {
  U word[4];
};

// Four random words that depend on the key and a block's number alone; U is uint64_t, or Blocks for a block a lane.
template <class U>
RANVIER_INLINE Words<U> philox(RandomState key, U block) {
  U c0 = block, c1 = block >> 32, c2 = key.counter - U{}, c3 = (key.counter >> 32) - U{};
  uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const U p0 = low_product(c0, 0xD2511F53), p1 = low_product(c2, 0xCD9E8D57);
    c0 = (p1 >> 32) ^ c1 ^ uint64_t{k0};
    c2 = (p0 >> 32) ^ c3 ^ uint64_t{k1};
    c1 = p1;
    c3 = p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// A word as a number in [0, 1).
RANVIER_INLINE double unit(uint64_t word) {
  return static_cast<double>(word & kLow) * (1.0 / 4294967296.0);
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
