// Who does which chunks of a call that all threads share.
//
// Each thread has a part of its own, the same whenever the call is repeated: its cache may still hold what it did
// there. On equal cores it does the part at one go, since kernels pay for each beginning, a product with copies of A.
// But cores are not always equal, by their kind or by what else runs on them, and a call lasts as long as its slowest
// thread. So long calls tell how fast each thread was, and while one is slow the next are taken in pieces, half of what
// is left at a time; who has done its own part takes from who has most left (Blumofe and Leiserson, Scheduling
// Multithreaded Computations by Work Stealing, 1999). The bits are the same whoever does what.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace ranvier::engine {

// Calls that take one thread longer than this, in nanoseconds, may be cut into pieces: shorter ones are over before
// that helps. A test sets 0: all calls are, whatever the cores do.
inline double cut_above = 200e3;

class Shares {
 public:
  // A call of `chunks` chunks, for which one thread needs about `cost` nanoseconds; `pieces`: whether to cut parts.
  Shares(int64_t chunks, double cost, int team, bool pieces) : chunks_(chunks), parts_(static_cast<size_t>(team)) {
    const bool always = cut_above == 0;
    piece_ = always ? 1 : std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(chunks) * kPieceCost / cost));
    cut(pieces);
    for (int thread = 0; thread < team; ++thread) give(thread);
  }

  // Whether a call is long enough.
  static bool pay(int64_t chunks, double cost) { return cost > cut_above && chunks <= UINT32_MAX; }

  // Does what is left, as one thread of the team.
  void run(Kernel kernel, const void* args, int thread) {
    const auto begin = Clock::now();
    int64_t done = 0;
    for (Range range; take(thread, range);) {
      kernel(args, range.begin, range.end);
      done += range.end - range.begin;
    }
    const double took = std::chrono::duration<double>(Clock::now() - begin).count();
    part(thread).speed = static_cast<double>(done) / took;
  }

  // Whether the last run had a thread so much slower than another that pieces would have paid.
  bool uneven() const {
    double slowest = 0, fastest = 0;
    for (const Part& part : parts_) {
      if (part.speed == 0) continue;  // came when all was done
      slowest = slowest == 0 ? part.speed : std::min(slowest, part.speed);
      fastest = std::max(fastest, part.speed);
    }
    return slowest < kEven * fastest;
  }

  // Makes ready for another run: each thread its own part.
  void give(int thread) {
    const int64_t team = static_cast<int64_t>(parts_.size());
    part(thread).left.store(pack({chunks_ * thread / team, chunks_ * (thread + 1) / team}), kFree);
  }
  void cut(bool pieces) { pieces_ = pieces || cut_above == 0; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr double kPieceCost = 50e3;  // ns of a piece at least
  // Pieces cost 1-5 % (Zen 5: products of 512^3 1 %, all gradients of 8x56x56x128->256 5 %).
  static constexpr double kEven = 0.9;
  static constexpr std::memory_order kFree = std::memory_order_relaxed;  // threads meet before a call and after it

  struct Range {
    int64_t begin, end;
    int64_t size() const { return end - begin; }
  };
  struct alignas(64) Part {
    std::atomic<uint64_t> left{0};  // a Range, whose ends change together
    double speed = 0;               // of the last run, in chunks a second
  };
  Part& part(int thread) { return parts_[static_cast<size_t>(thread)]; }
  static uint64_t pack(Range r) { return static_cast<uint64_t>(r.begin) | static_cast<uint64_t>(r.end) << 32; }
  static Range unpack(uint64_t p) { return {static_cast<int64_t>(p & UINT32_MAX), static_cast<int64_t>(p >> 32)}; }

  bool take(int thread, Range& range) {
    if (take(part(thread), true, range)) return true;
    for (;;) {
      Part* from = nullptr;
      int64_t most = 0;
      for (Part& other : parts_) {
        const int64_t left = unpack(other.left.load(kFree)).size();
        if (left > most) {
          from = &other;
          most = left;
        }
      }
      if (!from) return false;
      if (take(*from, false, range)) return true;
    }
  }
  bool take(Part& from, bool front, Range& range) const {
    uint64_t seen = from.left.load(kFree);
    for (Range left = unpack(seen); left.size() > 0; left = unpack(seen)) {
      const int64_t size = pieces_ ? std::min(left.size(), std::max(piece_, (left.size() + 1) / 2)) : left.size();
      range = front ? Range{left.begin, left.begin + size} : Range{left.end - size, left.end};
      const Range rest = front ? Range{range.end, left.end} : Range{left.begin, range.begin};
      if (from.left.compare_exchange_weak(seen, pack(rest), kFree)) return true;
    }
    return false;
  }

  const int64_t chunks_;
  int64_t piece_;  // chunks
  bool pieces_;
  std::vector<Part> parts_;
};

}  // namespace ranvier::engine
