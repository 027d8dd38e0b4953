// Dropout, and the state of random streams.
#pragma once

#include "kernels/types.h"

namespace ranvier {

// A place in the random stream: draw copies it to `key`, which forward and backward read, and moves on.
struct RandomState {
  uint64_t seed, counter;
};

struct DrawArgs {
  RandomState* key;
  RandomState* state;
};

// y = x / (1 - rate) where kept, else 0; the mask depends on the key and the element's index. Chunks: kElements.
struct DropoutArgs {
  void* y;        // T (n)
  const void* x;  // T (n)
  const RandomState* key;
  int64_t n;
  double rate;
};

}  // namespace ranvier
