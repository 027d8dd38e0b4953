// How work reaches the kernels: every op calls submit, and nothing else calls a kernel.
//
// While a thread records, submit runs the call as always and appends it to a Program as well. A Program repeats its
// calls without Python: the same kernels on the same pointers, hence the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "engine/buffer.h"
#include "kernels/kernels.h"

namespace ranvier::engine {

// Runs kernel(args) over `chunks` chunks. `cost` is about how many nanoseconds one thread needs: small work stays on
// one thread. `size` is the size of *args, which a recording copies. Inside, denormals count as zero; the caller's
// floating-point mode comes back.
void submit(Kernel kernel, const void* args, size_t size, int64_t chunks, double cost);

// How many threads large work is shared among; at first what OpenMP offers (OMP_NUM_THREADS). A forked child gets 1:
// the runtime's threads do not survive a fork.
int threads();
void set_threads(int count);

// A step of work, recorded once and repeated.
class Program {
 public:
  // Intermediate results live in `pool`. Programs that share a pool must not run at the same time.
  explicit Program(std::shared_ptr<Pool> pool) : pool_(std::move(pool)) {}

  void append(Kernel kernel, const void* args, size_t size, int64_t chunks, double cost);
  void keep(std::shared_ptr<void> what) { kept_.push_back(std::move(what)); }
  const std::shared_ptr<Pool>& pool() const { return pool_; }
  size_t length() const { return calls_.size(); }
  double cost() const { return cost_; }  // of a step, as submit was told
  // Seconds a step, as measured in long runs: by one thread, by all (0: not tried).
  std::pair<double, double> measured() const { return {choices_[1].step_seconds[0], choices_[1].step_seconds[1]}; }

  // Ends the recording: from now on it can run.
  void finish();

  // Repeats the step up to `steps` times, but begins none after `seconds`. Returns how many were done: each is whole.
  int64_t run(int64_t steps, double seconds);

 private:
  struct Call {
    Kernel kernel;
    const void* args;
    int64_t chunks;
    bool shared;   // by all threads, else the first does it
    bool barrier;  // threads wait for one another before it
  };
  int64_t run_alone(int64_t steps, double seconds);
  int64_t run_together(int team, int64_t steps, double seconds);
  int64_t run_timed(bool together, int team, int64_t steps, double seconds);

  std::shared_ptr<Pool> pool_;
  std::vector<Call> calls_;
  std::vector<size_t> offsets_;  // of each call's args
  std::vector<std::max_align_t> args_;
  std::vector<std::shared_ptr<void>> kept_;  // what the pointers point to
  bool any_shared_ = false;
  double cost_ = 0, shared_cost_ = 0;

  // Whether threads pay is measured, apart for short and for long runs: the bits are the same either way. The loser is
  // tried again now and then, because other programs come and go.
  struct Choice {
    double step_seconds[2] = {0, 0};  // alone, together
    int64_t tries[2] = {0, 0};
  };
  Choice choices_[2];
};

// While a thread records, a call can be run alone, or recorded alone: where the recorded step does something earlier
// than the composed one, which must change nothing before all of it is known to work.
enum class Mode { run_and_record, run, record };
void set_mode(Mode mode);
// Runs a call with one args and records it with another.
void submit_as(Kernel kernel, const void* run_args, const void* record_args, size_t size, int64_t chunks, double cost);

// The program that this thread records into; null: none.
Program* recording();
void set_recording(Program* program);

// Ends the run of this thread's program after the present step's remaining calls are skipped.
void stop_run();

// Memory for an op's result: from the recording's pool, else from one that keeps a little. Not zeroed.
std::shared_ptr<Storage> allocate(int64_t bytes);

}  // namespace ranvier::engine
