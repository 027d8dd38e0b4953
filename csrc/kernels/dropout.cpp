// Dropout from a counter: element i is kept or not by (seed, counter, i) alone, so forward and backward agree, and so
// do any number of threads (Philox4x32-10: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011).
#include "kernels/dropout.h"

#include "kernels/loops.h"
#include "kernels/philox.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

void draw(const DrawArgs& a, int64_t, int64_t) {
  *a.key = *a.state;
  a.state->counter += 1;
}

// A run of elements is decided by the words of so many blocks, by 16 bits each: elements 16 h to 16 h + 15 of the run
// by half h of the words (low half of word 0, high half, low half of word 1, ...), an element a block.
constexpr int kBlocks = 16;
constexpr int kRun = 8 * kBlocks;

// The words of the blocks of a run: word w of block b.
RANVIER_INLINE void run_words(uint32_t (&words)[4][kBlocks], RandomState key, int64_t run) {
  constexpr int kPair = kVectorBytes / 4;  // two vectors of blocks: even numbers, and odd ones
  constexpr uint64_t kEven[8] = {0, 2, 4, 6, 8, 10, 12, 14};
  Blocks even;
  memcpy(&even, kEven, sizeof even);
  even += static_cast<uint64_t>(run) * kBlocks;
#pragma GCC unroll 4
  for (int b = 0; b < kBlocks; b += kPair) {
    const Words<Blocks> x = philox<Blocks>(key, even + b), y = philox<Blocks>(key, even + b + 1);
#pragma GCC unroll 4
    for (int w = 0; w < 4; ++w) {
      const Blocks both = (x.word[w] & kLow) | (y.word[w] << 32);
      memcpy(words[w] + b, &both, sizeof both);
    }
  }
}

template <class T>
void dropout(const DropoutArgs& a, int64_t begin, int64_t end) {
  static_assert(kElements % kRun == 0, "a chunk holds whole runs");
  const Range e = elements(begin, end, a.n);
  const T scale = static_cast<T>(1.0 / (1.0 - a.rate));
  const int32_t dropped = static_cast<int32_t>(::lrint(a.rate * 65536.0));  // of the 65536 values of 16 bits
  const RandomState key = *a.key;
  for (int64_t i = e.begin; i < e.end; i += kRun) {
    uint32_t words[4][kBlocks];
    run_words(words, key, i / kRun);
    const T* x = static_cast<const T*>(a.x) + i;
    T* y = static_cast<T*>(a.y) + i;
    // Between two runs there is much to calculate: memory is asked in time, since processors do not look as far ahead.
    for (int64_t line = 0; line < kRun; line += 64 / sizeof(T)) {
      __builtin_prefetch(x + 4 * kRun + line);
      ask_to_write(y + 4 * kRun + line);
    }
    for_lanes<T>(0, e.end - i < kRun ? e.end - i : kRun, [&](int64_t j, int64_t k) __attribute__((always_inline)) {
      const int64_t half = j / kBlocks;
      const IVec<T> draw = widen(T(0), words[half / 2] + j % kBlocks) >> half % 2 * 16 & 0xFFFF;
      store_lanes(y + j, draw >= dropped ? load_lanes(x + j, k) * scale : Vec<T>{}, k);
    });
  }
}

}  // namespace

void fill_dropout(KernelTable& table) {
  table.draw = entry<DrawArgs, draw>;
  table.dropout = typed(DropoutArgs, dropout);
}

}  // namespace ranvier::RANVIER_TIER
