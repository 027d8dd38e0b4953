// Dropout from a counter: element i is kept or not by (seed, counter, i) alone, so forward and backward agree, and so
// do any number of threads (Philox4x32-10: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011).
#include "kernels/dropout.h"

#include "kernels/philox.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

void draw(const DrawArgs& a, int64_t, int64_t) {
  *a.key = *a.state;
  a.state->counter += 1;
}

constexpr int kBlocks = 16;        // counters in flight, one a vector lane
constexpr int kRun = 8 * kBlocks;  // elements decided by them: 16 random bits each

// 16 bits for each of kRun elements, of which the first has index `run` * kRun.
RANVIER_INLINE void random_bits(uint16_t* bits, RandomState key, int64_t run) {
  uint32_t x0[kBlocks], x1[kBlocks], x2[kBlocks], x3[kBlocks];
#pragma omp simd
  for (int b = 0; b < kBlocks; ++b) {
    const Words w = philox(key, static_cast<uint64_t>(run) * kBlocks + b);
    x0[b] = w.word[0], x1[b] = w.word[1], x2[b] = w.word[2], x3[b] = w.word[3];
  }
  const uint32_t* words[4] = {x0, x1, x2, x3};
  for (int w = 0; w < 4; ++w) {
    for (int b = 0; b < kBlocks; ++b) {
      bits[2 * w * kBlocks + b] = static_cast<uint16_t>(words[w][b]);
      bits[(2 * w + 1) * kBlocks + b] = static_cast<uint16_t>(words[w][b] >> 16);
    }
  }
}

template <class T>
void dropout(const DropoutArgs& a, int64_t begin, int64_t end) {
  static_assert(kElements % kRun == 0, "a chunk holds whole runs");
  const Range e = elements(begin, end, a.n);
  const T* x = static_cast<const T*>(a.x);
  T* y = static_cast<T*>(a.y);
  const T scale = static_cast<T>(1.0 / (1.0 - a.rate));
  const int32_t dropped = static_cast<int32_t>(::lrint(a.rate * 65536.0));  // of the 65536 values of 16 bits
  for (int64_t i = e.begin; i < e.end; i += kRun) {
    uint16_t bits[kRun];
    random_bits(bits, *a.key, i / kRun);
    const int64_t n = e.end - i < kRun ? e.end - i : kRun;
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) y[i + j] = bits[j] >= dropped ? x[i + j] * scale : T(0);
  }
}

}  // namespace

void fill_dropout(KernelTable& table) {
  table.draw = entry<DrawArgs, draw>;
  table.dropout = typed(DropoutArgs, dropout);
}

}  // namespace ranvier::RANVIER_TIER
