// What the machine can do at most.
#pragma once

#include "kernels/types.h"

namespace ranvier {

// y[chunk] = the mean of chains x = x * factor + offset, `steps` long, that start around `start`: peak_flops * steps
// flops a chunk. Chunks: one element of y.
struct PeakArgs {
  void* y;  // T (chunks)
  int64_t steps;
  double start, factor, offset;
};

// y = a + scale b, `passes` times. y may be a. Chunks: kElements.
struct TriadArgs {
  void* y;        // T (n)
  const void* a;  // T (n)
  const void* b;  // T (n)
  int64_t n, passes;
  double scale;
};

}  // namespace ranvier
