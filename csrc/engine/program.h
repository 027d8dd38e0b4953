// How work reaches the kernels: every op calls submit, and nothing else calls a kernel.
//
// While a thread records, submit runs the call as always and appends it to a Program as well. A Program repeats its
// calls without Python: the same kernels on the same pointers, hence the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "engine/buffer.h"
#include "engine/shares.h"

namespace ranvier::engine {

// Bytes that a call reads or writes. In a running program, threads wait for one another only where two calls touch the
// same bytes and one of them writes. A call that tells none of its accesses might touch anything.
struct Access {
  const void* data;
  int64_t bytes;
  bool written;
};
using Accesses = std::initializer_list<Access>;

// Runs kernel(args) over `chunks` chunks. `cost` is about how many nanoseconds one thread needs: small work stays on
// one thread. `size` is the size of *args, which a recording copies. Inside, denormals count as zero; the caller's
// floating-point mode comes back.
void submit(Kernel kernel, const void* args, size_t size, int64_t chunks, double cost, Accesses accesses = {});

// A step of work, recorded once and repeated.
//
// Its first steps run on one thread and are timed, call by call. From that follows the plan for a team of threads:
// which calls all share, cut by chunks; who does each of the others, so that independent small calls run side by side;
// and where the threads must meet. The bits are the same whoever does what.
class Program {
 public:
  // Intermediate results live in `pool`. Programs that share a pool must not run at the same time.
  explicit Program(std::shared_ptr<Pool> pool) : pool_(std::move(pool)) {}

  void append(Kernel kernel, const void* args, size_t size, int64_t chunks, double cost, Accesses accesses);
  void keep(std::shared_ptr<void> what) { kept_.push_back(std::move(what)); }
  const std::shared_ptr<Pool>& pool() const { return pool_; }
  size_t length() const { return calls_.size(); }
  double cost() const { return cost_; }  // of a step, as submit was told
  // Of each call, in order: nanoseconds of one thread, its chunks, who does it (-1: all), whether threads meet before
  // it.
  struct Planned {
    double cost;
    int64_t chunks;
    int owner;
    bool barrier;
  };
  std::vector<Planned> planned() const;
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
    double cost;                  // nanoseconds of one thread: as submit was told, then as measured
    size_t access_0, access_end;  // in accesses_
  };
  struct Turn {  // of a call, in the plan
    Kernel kernel;
    const void* args;
    int64_t chunks;
    int owner;                               // the thread that does it; kAll: each does its part
    bool barrier;                            // threads wait for one another before it
    std::unique_ptr<Shares> shares[2] = {};  // of a long call that all share, for even steps and for odd ones
  };
  static constexpr int kAll = -1;
  void plan(int team);
  bool conflict(const Call& a, const Call& b) const;
  int64_t run_measured(int64_t steps);
  int64_t run_alone(int64_t steps, double seconds);
  int64_t run_together(int team, int64_t steps, double seconds);
  int64_t run_timed(bool together, int team, int64_t steps, double seconds);

  std::shared_ptr<Pool> pool_;
  std::vector<Call> calls_;
  std::vector<Access> accesses_;
  std::vector<size_t> offsets_;  // of each call's args
  std::vector<std::max_align_t> args_;
  std::vector<std::shared_ptr<void>> kept_;  // what the pointers point to
  double cost_ = 0;
  int64_t measured_steps_ = 0;

  std::vector<Turn> turns_;
  int planned_team_ = 0;
  double saved_ = 0;  // nanoseconds of a step that the plan takes off one thread

  // Whether threads pay is measured, apart for short and for long runs: the bits are the same either way. The loser is
  // tried again now and then, because other programs come and go; but not before a hundred times as long has been run
  // as that costs.
  struct Choice {
    double step_seconds[2] = {0, 0};  // alone, together
    int64_t tries[2] = {0, 0};
    double since_trial = 0;  // seconds
  };
  Choice choices_[2];
};

// While a thread records, calls are run as well, or only recorded.
enum class Mode { run_and_record, record };
void set_mode(Mode mode);
// Calls of a program that take one thread longer than this are shared; a test sets 0, to share all that can be. Returns
// what it was.
double share_above(double nanoseconds);

// The program that this thread records into; null: none.
Program* recording();
void set_recording(Program* program);

// Ends the run of this thread's program after the present step's remaining calls are skipped.
void stop_run();

// Memory for an op's result: from the recording's pool, else from one that keeps a little. Not zeroed.
std::shared_ptr<Storage> allocate(int64_t bytes);

}  // namespace ranvier::engine
