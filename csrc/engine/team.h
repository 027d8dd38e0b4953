// Threads that do one job together and then wait for the next: the only place where threads begin.
#pragma once

#include <atomic>

namespace ranvier::engine {

// How many threads large work is shared among; at first OMP_NUM_THREADS, else the processors this process may use.
int threads();
void set_threads(int count);

// The threads are made when first needed, and serve one caller at a time: whoever asks meanwhile is told so and works
// alone, since more threads than processors are slower. Between two jobs they spin for a moment, because waking them
// takes longer than many a call, then sleep. A forked child makes its own.
//
// Not OpenMP's: an empty region of GNU's costs 0.4-1 us where this costs 0.1-0.5, a tenth of a small product; its
// threads spin for milliseconds, and hang in a forked child; and several runtimes in one process disturb each other.
class Team {
 public:
  // Runs job(0) here and job(1) to job(size - 1) on other threads, and returns when all are done. If those are busy or
  // cannot be had, returns false and has done nothing.
  template <class Job>
  static bool run(int size, const Job& job) {
    return run(size, [](const void* job, int thread) { (*static_cast<const Job*>(job))(thread); }, &job);
  }

 private:
  static bool run(int size, void (*call)(const void*, int), const void* job);
};

// Threads of a team meet here. They spin for some microseconds, then let others have the processor.
class Barrier {
 public:
  explicit Barrier(int team) : team_(team) {}
  void wait();

 private:
  const int team_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> phase_{0};
};

}  // namespace ranvier::engine
