#include "engine/team.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace ranvier::engine {
namespace {

// The system may wake a thread on the processor of the one that woke it, and leave it there for a long while: they take
// turns then, and a barrier lasts milliseconds instead of a fraction of a microsecond. So a thread that finds itself
// where the first one is moves elsewhere. Afterwards it may go wherever it could before.
#if defined(__linux__)
int processor() {
  return sched_getcpu();
}
void leave(int processor) {
  if (processor < 0 || processor >= CPU_SETSIZE || sched_getcpu() != processor) return;
  cpu_set_t all;
  if (sched_getaffinity(0, sizeof all, &all) != 0 || CPU_COUNT(&all) < 2) return;
  cpu_set_t others = all;
  CPU_CLR(processor, &others);
  if (sched_setaffinity(0, sizeof others, &others) == 0) sched_setaffinity(0, sizeof all, &all);
}
#else
int processor() {
  return -1;
}
void leave(int) {}
#endif

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Waiting for another thread: some microseconds without the system, which knows of nothing better to do as long as all
// threads have processors of their own, then with it.
class Spin {
 public:
  void once() {
    if (++spins_ < kSpins) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }

 private:
  static constexpr int kSpins = 2000;
  int spins_ = 0;
};

// How long a thread without work spins. Waking it takes 5-50 us; a training loop in Python asks again within a
// millisecond; and whoever asks seldom should not have a processor kept busy.
constexpr std::chrono::milliseconds kAwake{1};

using Call = void (*)(const void* job, int thread);

// A thread that does the jobs it is given. Each job has the next number.
class Worker {
 public:
  // Only the caller who is served gives jobs and waits for them. All are given first, and then the sleepers woken.
  void give(Call call, const void* job, int thread, int caller) {
    call_ = call;
    job_ = job;
    thread_ = thread;
    caller_ = caller;
    given_.store(given_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }
  // After a fence: either the worker, before it sleeps, sees the job, or this sees that it sleeps.
  void wake() {
    if (!asleep_.load(std::memory_order_relaxed)) return;
    {
      std::lock_guard lock(mutex_);
    }
    wake_.notify_one();
  }
  void wait() {
    const unsigned number = given_.load(std::memory_order_relaxed);
    for (Spin spin; done_.load(std::memory_order_acquire) != number;) spin.once();
  }

  [[noreturn]] void work() {
    for (unsigned number = 1;; ++number) {
      await(number);
      leave(caller_);
      call_(job_, thread_);
      done_.store(number, std::memory_order_release);
    }
  }

 private:
  void await(unsigned number) {
    using Clock = std::chrono::steady_clock;
    constexpr int kLook = 64;  // at the clock
    Spin spin;
    for (const auto end = Clock::now() + kAwake; Clock::now() < end;) {
      for (int i = 0; i < kLook; ++i) {
        if (given_.load(std::memory_order_acquire) == number) return;
        spin.once();
      }
    }
    std::unique_lock lock(mutex_);
    asleep_.store(true, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    wake_.wait(lock, [&] { return given_.load(std::memory_order_acquire) == number; });
    asleep_.store(false, std::memory_order_relaxed);
  }

  alignas(64) std::atomic<unsigned> given_{0};
  Call call_ = nullptr;
  const void* job_ = nullptr;
  int thread_ = 0, caller_ = -1;  // the caller's processor
  std::atomic<bool> asleep_{false};
  alignas(64) std::atomic<unsigned> done_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
};

class Workers {
 public:
  bool run(int size, Call call, const void* job) {
    if (busy_.exchange(true, std::memory_order_acquire)) return false;
    const size_t count = static_cast<size_t>(size) - 1;
    const bool enough = have(count);
    if (enough) {
      const int caller = processor();
      for (size_t i = 0; i < count; ++i) all_[i]->give(call, job, static_cast<int>(i) + 1, caller);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      for (size_t i = 0; i < count; ++i) all_[i]->wake();
      call(job, 0);
      for (size_t i = 0; i < count; ++i) all_[i]->wait();
    }
    busy_.store(false, std::memory_order_release);
    return enough;
  }

 private:
  bool have(size_t count) {
    if (all_.size() >= count) return true;
    pthread_attr_t options;
    if (pthread_attr_init(&options) != 0) return false;
    pthread_attr_setdetachstate(&options, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&options, kStack);
    sigset_t every, before;  // signals are for the interpreter's threads
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    all_.reserve(count);
    while (all_.size() < count) {
      auto worker = std::make_unique<Worker>();
      const auto work = [](void* self) -> void* { static_cast<Worker*>(self)->work(); };
      pthread_t thread;
      if (pthread_create(&thread, &options, work, worker.get()) != 0) break;  // the system has no more to give
      all_.push_back(std::move(worker));
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&options);
    return all_.size() >= count;
  }

  // Products keep their copies there, more than a megabyte. Systems give new threads from 128 KB to 8 MB.
  static constexpr size_t kStack = 8 << 20;
  std::atomic<bool> busy_{false};
  std::vector<std::unique_ptr<Worker>> all_;
};

// Never destroyed: its threads live as long as the process.
alignas(Workers) unsigned char memory[sizeof(Workers)];
Workers& workers() {
  static Workers& only = []() -> Workers& {
    pthread_atfork(nullptr, nullptr, [] { new (memory) Workers; });
    return *new (memory) Workers;
  }();
  return only;
}

// OpenMP's variable, so that one setting serves all libraries; else the processors that this process may use.
int default_threads() {
  const char* text = std::getenv("OMP_NUM_THREADS");  // perhaps a list, of which the first is for the outermost level
  if (const long count = text ? std::strtol(text, nullptr, 10) : 0; count > 0) {
    return static_cast<int>(std::min(count, 1024L));
  }
#if defined(__linux__)
  if (cpu_set_t all; sched_getaffinity(0, sizeof all, &all) == 0) return CPU_COUNT(&all);
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

std::atomic<int>& thread_count() {
  static std::atomic<int> count{default_threads()};
  return count;
}

}  // namespace

int threads() {
  return thread_count().load(std::memory_order_relaxed);
}

void set_threads(int count) {
  thread_count().store(std::max(1, count), std::memory_order_relaxed);
}

bool Team::run(int size, Call call, const void* job) {
  return workers().run(size, call, job);
}

void Barrier::wait() {
  const int phase = phase_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == team_) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    return;
  }
  for (Spin spin; phase_.load(std::memory_order_acquire) == phase;) spin.once();
}

}  // namespace ranvier::engine
