// How work reaches the kernels: every op calls submit, and nothing else calls a kernel.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace ranvier::engine {

// Runs kernel(args) over `chunks` chunks. `cost` is about how many nanoseconds one thread needs: small work stays on
// the calling thread. Inside, denormals count as zero; the caller's floating-point mode comes back.
void submit(Kernel kernel, const void* args, int64_t chunks, double cost);

// How many threads large work is shared among; at first what OpenMP offers (OMP_NUM_THREADS). A forked child gets 1:
// the runtime's threads do not survive a fork.
int threads();
void set_threads(int count);

}  // namespace ranvier::engine
