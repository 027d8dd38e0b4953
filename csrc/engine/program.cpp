#include "engine/program.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "engine/team.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace ranvier::engine {
namespace {

// Sharing one call: waking the other threads costs 5-50 us when they sleep and 0.1-0.5 when they do not.
constexpr double kParallelCost = 12e3;
// Sharing a call of a running program, whose threads are awake: a barrier before and after, and the operands come from
// another core's cache.
double shared_cost = 1.2e3;
// A run whose threads save less than this is over before they are awake.
constexpr double kWakeCost = 20e3;

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

thread_local Program* recorded = nullptr;
thread_local bool stop_wanted = false;
thread_local Mode mode = Mode::run_and_record;

void execute(Kernel kernel, const void* args, int64_t chunks, double cost) {
  const int team = cost < kParallelCost ? 1 : static_cast<int>(std::min<int64_t>(threads(), chunks));
  bool done = false;
  if (team > 1 && Shares::pay(chunks, cost)) {
    static thread_local bool uneven = false;
    Shares shares(chunks, cost, team, uneven);
    done = Team::run(team, [&](int thread) {
      FlushDenormals flush;
      shares.run(kernel, args, thread);
    });
    if (done) uneven = shares.uneven();
  } else if (team > 1) {
    done = Team::run(team, [=](int thread) {
      FlushDenormals flush;
      kernel(args, chunks * thread / team, chunks * (thread + 1) / team);
    });
  }
  if (done) return;
  FlushDenormals flush;
  kernel(args, 0, chunks);
}

using Clock = std::chrono::steady_clock;

// Looks at the clock seldom enough to cost nothing, and often enough to stop in time.
class Deadline {
 public:
  explicit Deadline(double seconds)
      : end_(Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds))) {}
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

Program* recording() {
  return recorded;
}
void set_recording(Program* program) {
  recorded = program;
}
void stop_run() {
  stop_wanted = true;
}

std::shared_ptr<Storage> allocate(int64_t bytes) {
  if (recorded) return recorded->pool()->allocate(bytes);
  // The system clears every page it gives, which takes longer than most kernels that then use it.
  constexpr int64_t kIdle = 64 << 20;
  static const auto& loose = *new std::shared_ptr<Pool>(std::make_shared<Pool>(kIdle));
  return loose->allocate(bytes);
}

void set_mode(Mode wanted) {
  mode = wanted;
}
void submit(Kernel kernel, const void* args, size_t size, int64_t chunks, double cost, Accesses accesses) {
  if (chunks <= 0) return;
  if (mode != Mode::record) execute(kernel, args, chunks, cost);
  if (recorded) recorded->append(kernel, args, size, chunks, cost, accesses);
}

double share_above(double nanoseconds) {
  return std::exchange(shared_cost, nanoseconds);
}

void Program::append(Kernel kernel, const void* args, size_t size, int64_t chunks, double cost, Accesses accesses) {
  constexpr size_t kUnit = sizeof(std::max_align_t);
  offsets_.push_back(args_.size());
  args_.resize(args_.size() + (size + kUnit - 1) / kUnit);
  std::memcpy(&args_[offsets_.back()], args, size);
  const size_t access_0 = accesses_.size();
  for (const Access& access : accesses) {
    if (access.data && access.bytes > 0) accesses_.push_back(access);
  }
  calls_.push_back({kernel, nullptr, chunks, cost, access_0, accesses_.size()});
  cost_ += cost;
}

void Program::finish() {
  for (size_t i = 0; i < calls_.size(); ++i) calls_[i].args = &args_[offsets_[i]];
}

bool Program::conflict(const Call& a, const Call& b) const {
  if (a.access_0 == a.access_end || b.access_0 == b.access_end) return true;  // might touch anything
  for (size_t i = a.access_0; i < a.access_end; ++i) {
    const Access& x = accesses_[i];
    for (size_t j = b.access_0; j < b.access_end; ++j) {
      const Access& y = accesses_[j];
      if (!x.written && !y.written) continue;
      const char *from_x = static_cast<const char*>(x.data), *from_y = static_cast<const char*>(y.data);
      if (from_x < from_y + y.bytes && from_y < from_x + x.bytes) return true;
    }
  }
  return false;
}

void Program::plan(int team) {
  struct Done {  // since the last barrier
    const Call* call;
    int owner;
  };
  constexpr int kNobody = -2;
  std::vector<Done> since;
  std::vector<double> load(static_cast<size_t>(team), 0.0);  // of each thread, since the last barrier
  turns_.clear();
  saved_ = 0;
  for (const Call& call : calls_) {
    const bool anything = call.access_0 == call.access_end;
    const bool shared = call.chunks > 1 && call.cost > shared_cost;
    int touched = kNobody;  // by whom, since the last barrier, what this call touches
    for (const Done& done : since) {
      if (conflict(call, *done.call)) touched = touched == kNobody || touched == done.owner ? done.owner : kAll;
    }
    // A call goes to the thread that did what it depends on, or else to the one that has least to do.
    int owner = touched;
    if (shared) {
      owner = kAll;
    } else if (anything || touched == kAll) {
      owner = 0;
    } else if (touched == kNobody) {
      owner = static_cast<int>(std::min_element(load.begin(), load.end()) - load.begin());
    }
    const bool barrier = touched != kNobody && (touched == kAll || touched != owner);
    if (barrier) {
      since.clear();
      std::fill(load.begin(), load.end(), 0.0);
    }
    since.push_back({&call, owner});
    if (shared) {
      saved_ += call.cost * (1 - 1.0 / team);
    } else {
      load[static_cast<size_t>(owner)] += call.cost;
    }
    Turn& turn = turns_.emplace_back(Turn{call.kernel, call.args, call.chunks, owner, barrier});
    if (shared && Shares::pay(call.chunks, call.cost)) {
      for (auto& shares : turn.shares) shares = std::make_unique<Shares>(call.chunks, call.cost, team, false);
    }
  }
  planned_team_ = team;
}

std::vector<Program::Planned> Program::planned() const {
  std::vector<Planned> list;
  for (size_t i = 0; i < turns_.size(); ++i) {
    list.push_back({calls_[i].cost, calls_[i].chunks, turns_[i].owner, turns_[i].barrier});
  }
  return list;
}

int64_t Program::run(int64_t steps, double seconds) {
  const int team = threads();
  if (team <= 1) return run_alone(steps, seconds);
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  int64_t done = 0;
  constexpr int64_t kMeasured = 3;
  if (measured_steps_ < kMeasured) {
    done = run_measured(std::min(steps, kMeasured - measured_steps_));
    planned_team_ = 0;
    if (stop_wanted || done >= steps) return done;
  }
  if (planned_team_ != team) plan(team);
  if (static_cast<double>(steps - done) * saved_ < kWakeCost) {
    return done + run_alone(steps - done, std::chrono::duration<double>(end - Clock::now()).count());
  }
  constexpr int64_t kShort = 16, kTrial = 4, kRetry = 10;
  constexpr double kTrialSeconds = 2e-3, kClear = 1.25, kWorth = 100;
  Choice& choice = choices_[steps >= kShort];
  while (done < steps) {
    const double left = std::chrono::duration<double>(end - Clock::now()).count();
    if (done > 0 && left <= 0) break;
    const int64_t* tries = choice.tries;
    const bool best = choice.step_seconds[1] < choice.step_seconds[0];
    const double fast = choice.step_seconds[best], slow = choice.step_seconds[!best];
    // Where a step takes milliseconds one says enough about a thread alone.
    const bool clear = best && tries[0] > 0 && fast > kTrialSeconds && slow > kClear * fast;
    const double trial_seconds = std::max(slow, std::min(kTrialSeconds, slow * static_cast<double>(steps - done)));
    const bool worth = choice.since_trial >= kWorth * trial_seconds * (1 - fast / slow);
    bool together = best;
    bool trial = true;
    if (!clear && (tries[0] < kTrial || tries[1] < kTrial)) {
      together = tries[1] <= tries[0];
    } else if ((tries[0] + tries[1]) % kRetry == 0 && worth) {
      together = !best;
      choice.since_trial = 0;
    } else {
      trial = false;
    }
    const int64_t ran = run_timed(together, team, steps - done, trial ? std::min(left, kTrialSeconds) : left);
    if (stop_wanted) return done + ran;
    done += ran;
  }
  return done;
}

int64_t Program::run_timed(bool together, int team, int64_t steps, double seconds) {
  Choice& choice = choices_[steps >= 16];
  const auto begin = Clock::now();
  const int64_t done = together ? run_together(team, steps, seconds) : run_alone(steps, seconds);
  const double took = std::chrono::duration<double>(Clock::now() - begin).count();
  if (done == 0) return 0;
  choice.since_trial += took;
  double& known = choice.step_seconds[together];
  const double now = took / static_cast<double>(done);
  // The first run of all warms the caches, and wakes the threads: not counted for long. What disturbs others' threads
  // for a while makes a run slower, never faster: so a better time is believed at once.
  known = choice.tries[together]++ <= 1 || now < known ? now : 0.75 * known + 0.25 * now;
  return done;
}

// Steps on one thread, each call timed, but for those long enough to be shared without asking.
int64_t Program::run_measured(int64_t steps) {
  FlushDenormals flush;
  constexpr double kLong = 100e3;
  stop_wanted = false;
  for (int64_t step = 0; step < steps; ++step) {
    for (Call& call : calls_) {
      if (call.cost > kLong && call.chunks > 1) {
        execute(call.kernel, call.args, call.chunks, call.cost);
      } else {
        const auto begin = Clock::now();
        call.kernel(call.args, 0, call.chunks);
        const double took = std::chrono::duration<double, std::nano>(Clock::now() - begin).count();
        // In the first step the system clears each page of memory as it is touched: that does not count.
        if (measured_steps_ > 0) call.cost = measured_steps_ == 1 ? took : std::min(call.cost, took);
      }
      if (stop_wanted) return step;
    }
    ++measured_steps_;
  }
  return steps;
}

int64_t Program::run_alone(int64_t steps, double seconds) {
  FlushDenormals flush;
  Deadline deadline(seconds);
  stop_wanted = false;
  int64_t done = 0;
  const Call* const begin = calls_.data();
  const Call* const end = begin + calls_.size();
  while (done < steps) {
    for (const Call* call = begin; call != end; ++call) {
      call->kernel(call->args, 0, call->chunks);
      if (__builtin_expect(stop_wanted, 0)) return done;
    }
    ++done;
    if (deadline.passed()) break;
  }
  return done;
}

// All threads walk the plan.
int64_t Program::run_together(int team, int64_t steps, double seconds) {
  int64_t done = 0;
  // Named, not told by a flag: without barriers within a step, the first thread may be a step ahead of the others.
  std::atomic<int64_t> last_step{INT64_MAX};
  std::atomic<bool> stopped{false};
  Barrier barrier(team);
  for (Turn& turn : turns_) {
    for (auto& shares : turn.shares) {
      for (int thread = 0; shares && thread < team; ++thread) shares->give(thread);
    }
  }
  stop_wanted = false;
  const auto walk = [&](int me) {
    FlushDenormals flush;
    Deadline deadline(seconds);
    for (int64_t step = 0; step <= last_step.load(std::memory_order_acquire); ++step) {
      for (const Turn& turn : turns_) {
        if (turn.barrier) barrier.wait();
        if (stopped.load(std::memory_order_relaxed)) continue;  // set before a barrier that all have passed
        if (turn.shares[0]) {
          turn.shares[step % 2]->run(turn.kernel, turn.args, me);
          // The other's last step is over for all threads, and its next one begins after they have met.
          Shares& next = *turn.shares[(step + 1) % 2];
          next.give(me);
          if (me == 0) next.cut(next.uneven());
        } else if (turn.owner == kAll) {
          turn.kernel(turn.args, turn.chunks * me / team, turn.chunks * (me + 1) / team);
        } else if (turn.owner == me) {
          turn.kernel(turn.args, 0, turn.chunks);
          // A call back into Python, which conflicts with everything: only the first thread makes it.
          if (me == 0 && stop_wanted) stopped.store(true, std::memory_order_relaxed);
        }
      }
      if (me == 0) {
        done += stopped.load(std::memory_order_relaxed) ? 0 : 1;
        if (stopped.load(std::memory_order_relaxed) || done >= steps || deadline.passed()) {
          last_step.store(step, std::memory_order_release);
        }
      }
      barrier.wait();
    }
  };
  return Team::run(team, walk) ? done : run_alone(steps, seconds);  // they work for another caller
}

}  // namespace ranvier::engine
