#include "engine/program.h"

#include <algorithm>
#include <mutex>

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace ranvier::engine {
namespace {

// Waking the other threads costs 5-50 us when they sleep and 0.4 us when they do not.
constexpr double kParallelCost = 12e3;

// Denormals make arithmetic a hundred times slower and matter to no model: they count as zero while this lives.
class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : saved_(_mm_getcsr()) {
    constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
    wanted_ = saved_ | kFlushToZero | kDenormalsAreZero;
    if (wanted_ != saved_) _mm_setcsr(wanted_);
  }
  ~FlushDenormals() {
    if (wanted_ != saved_) _mm_setcsr(saved_);
  }

 private:
  unsigned saved_, wanted_;
#elif defined(__aarch64__)
  FlushDenormals() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    __asm__ volatile("msr fpcr, %0" : : "r"(saved_ | (uint64_t{1} << 24)));
  }
  ~FlushDenormals() { __asm__ volatile("msr fpcr, %0" : : "r"(saved_)); }

 private:
  uint64_t saved_;
#endif
};

int thread_count = 0;  // 0: not asked for yet

void on_fork_child() { thread_count = 1; }

int default_threads() {
#if defined(_OPENMP)
  return omp_get_max_threads();
#else
  return 1;
#endif
}

}  // namespace

int threads() {
  static std::once_flag once;
  std::call_once(once, [] {
#if defined(__unix__) || defined(__APPLE__)
    pthread_atfork(nullptr, nullptr, on_fork_child);
#endif
    if (thread_count == 0) thread_count = default_threads();
  });
  return thread_count;
}

void set_threads(int count) {
  threads();
  thread_count = std::max(1, count);
}

void submit(Kernel kernel, const void* args, int64_t chunks, double cost) {
  if (chunks <= 0) return;
  const int64_t team = cost < kParallelCost ? 1 : std::min<int64_t>(threads(), chunks);
  if (team <= 1) {
    FlushDenormals flush;
    kernel(args, 0, chunks);
    return;
  }
#if defined(_OPENMP)
#pragma omp parallel num_threads(static_cast<int>(team))
  {
    FlushDenormals flush;
    const int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
    kernel(args, chunks * me / all, chunks * (me + 1) / all);
  }
#endif
}

}  // namespace ranvier::engine
