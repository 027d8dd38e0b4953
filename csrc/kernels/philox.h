// Random numbers from a counter: Philox4x32-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011).
#pragma once

#include "kernels/dropout.h"
#include "kernels/vec.h"

namespace ranvier::RANVIER_TIER {
namespace {

struct Words {
  uint32_t word[4];
};

// Four random words that depend on the key and a block's number alone.
RANVIER_INLINE Words philox(RandomState key, uint64_t block) {
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32);
  uint32_t c2 = static_cast<uint32_t>(key.counter), c3 = static_cast<uint32_t>(key.counter >> 32);
  uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// A word as a number in [0, 1).
RANVIER_INLINE double unit(uint32_t word) {
  return static_cast<double>(word) * (1.0 / 4294967296.0);
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
