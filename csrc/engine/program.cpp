#include "engine/program.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
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

// Sharing one call: waking the other threads costs 5-50 us when they sleep and 0.4 us when they do not.
constexpr double kParallelCost = 12e3;
// Sharing a call of a running program, whose threads are awake: a barrier before and after.
constexpr double kSharedCost = 2.5e3;

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

namespace {

thread_local Program* recorded = nullptr;
thread_local bool stop_wanted = false;

void execute(Kernel kernel, const void* args, int64_t chunks, double cost) {
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

using Clock = std::chrono::steady_clock;

// Looks at the clock seldom enough to cost nothing, and often enough to stop in time.
class Deadline {
 public:
  explicit Deadline(double seconds) : end_(Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                                              std::chrono::duration<double>(seconds))) {}
  bool passed() {
    if (--countdown_ > 0) return false;
    const auto now = Clock::now();
    const auto took = now - last_;
    last_ = now;
    if (now >= end_) return true;
    interval_ = took < std::chrono::microseconds(100) ? std::min(interval_ * 2, 4096) : std::max(interval_ / 2, 1);
    countdown_ = interval_;
    return false;
  }

 private:
  Clock::time_point end_, last_ = Clock::now();
  int interval_ = 1, countdown_ = 1;
};

}  // namespace

Program* recording() { return recorded; }
void set_recording(Program* program) { recorded = program; }
void stop_run() { stop_wanted = true; }

std::shared_ptr<Storage> allocate(int64_t bytes) {
  return recorded ? recorded->pool()->allocate(bytes) : std::make_shared<Storage>(bytes, false);
}

void submit(Kernel kernel, const void* args, size_t size, int64_t chunks, double cost) {
  if (chunks <= 0) return;
  execute(kernel, args, chunks, cost);
  if (recorded) recorded->append(kernel, args, size, chunks, cost);
}

void Program::append(Kernel kernel, const void* args, size_t size, int64_t chunks, double cost) {
  constexpr size_t kUnit = sizeof(std::max_align_t);
  offsets_.push_back(args_.size());
  args_.resize(args_.size() + (size + kUnit - 1) / kUnit);
  std::memcpy(&args_[offsets_.back()], args, size);
  const bool shared = cost >= kSharedCost && chunks > 1;
  const bool after_shared = !calls_.empty() && calls_.back().shared;
  calls_.push_back({kernel, nullptr, chunks, shared, shared || after_shared});
  any_shared_ |= shared;
}

void Program::finish() {
  for (size_t i = 0; i < calls_.size(); ++i) calls_[i].args = &args_[offsets_[i]];
}

int64_t Program::run(int64_t steps, double seconds) {
  int64_t done = 0;
  const int team = any_shared_ ? threads() : 1;
  if (team > 1) {
    run_together(team, steps, seconds, done);
  } else {
    run_alone(steps, seconds, done);
  }
  return done;
}

void Program::run_alone(int64_t steps, double seconds, int64_t& done) {
  FlushDenormals flush;
  Deadline deadline(seconds);
  stop_wanted = false;
  const Call* const begin = calls_.data();
  const Call* const end = begin + calls_.size();
  while (done < steps) {
    for (const Call* call = begin; call != end; ++call) {
      call->kernel(call->args, 0, call->chunks);
      if (__builtin_expect(stop_wanted, 0)) return;
    }
    ++done;
    if (deadline.passed()) return;
  }
}

// All threads walk the calls. A shared call is cut by chunks; the first thread does the others by itself. A barrier
// stands before and after each shared call: only runs of unshared calls need none.
void Program::run_together(int team, int64_t steps, double seconds, int64_t& done) {
#if defined(_OPENMP)
  std::atomic<bool> go_on{steps > 0}, stopped{false};
#pragma omp parallel num_threads(team)
  {
    FlushDenormals flush;
    const int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
    Deadline deadline(seconds);
    stop_wanted = false;
    while (go_on.load(std::memory_order_acquire)) {
      for (const Call& call : calls_) {
        if (call.barrier) {
#pragma omp barrier
        }
        if (stopped.load(std::memory_order_relaxed)) continue;  // set before a barrier that all have passed
        if (call.shared) {
          call.kernel(call.args, call.chunks * me / all, call.chunks * (me + 1) / all);
        } else if (me == 0) {
          call.kernel(call.args, 0, call.chunks);
          if (stop_wanted) stopped.store(true, std::memory_order_relaxed);
        }
      }
      if (me == 0) {
        done += stopped.load(std::memory_order_relaxed) ? 0 : 1;
        if (stopped.load(std::memory_order_relaxed) || done >= steps || deadline.passed()) go_on.store(false, std::memory_order_release);
      }
#pragma omp barrier
    }
  }
#else
  run_alone(steps, seconds, done);
  (void)team;
#endif
}

}  // namespace ranvier::engine
