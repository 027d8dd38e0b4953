// Storage and shape: what layers pass to one another.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/activation.h"
#include "kernels/data.h"
#include "kernels/optimizers.h"

namespace ranvier::engine {

using Shape = std::vector<int64_t>;

int64_t size_of(const Shape& shape);  // the number of elements
const char* name_of(DType dtype);
std::string text_of(const Shape& shape);  // as Python prints it: (32, 10)

class Pool;

// Bytes aligned to a cache line.
class Storage {
 public:
  explicit Storage(int64_t bytes, bool zeroed = true);
  Storage(char* data, int64_t bytes, std::shared_ptr<Pool> pool)
      : data_(data), bytes_(bytes), block_(data), pool_(std::move(pool)) {}
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  char* data() const { return data_; }
  const Pool* pool() const { return pool_.get(); }

 private:
  char* data_;
  int64_t bytes_;
  void* block_;                 // what was allocated: the data begin in it
  std::shared_ptr<Pool> pool_;  // where the bytes go back to; null: they are freed
};

// The memory of a model's programs. What a recording no longer refers to is given to what it asks for next, so results
// whose lives do not meet share bytes: Python's reference counts are the liveness analysis. Programs run one at a time,
// and nothing in a pool outlives a step unless somebody holds it, so all programs of a model share one.
class Pool : public std::enable_shared_from_this<Pool> {
 public:
  // Of what is free, at most `idle` bytes are kept.
  explicit Pool(int64_t idle = INT64_MAX) : idle_(idle) {}
  ~Pool();
  std::shared_ptr<Storage> allocate(int64_t bytes);
  void give_back(char* data, int64_t bytes);
  int64_t bytes() const;  // in use and free

 private:
  struct Block {
    char* data;
    int64_t bytes;
  };
  const int64_t idle_;
  mutable std::mutex mutex_;
  std::vector<Block> free_;
  int64_t free_bytes_ = 0, used_bytes_ = 0;
};

// A batch that lies in the user's array still. Who can read it there does; for all others it is gathered (ops::settle).
struct Unread {
  const Source* source;
  const Feed* feed;
  char* data;  // where it is gathered to
  int64_t rows, columns;
  DType dtype;
  bool gathered = false;
};

// A C-contiguous array that the engine owns, and what the backward pass must know about it.
struct Buffer {
  Buffer(Shape shape, DType dtype);  // of its own, zeroed
  Buffer(Shape shape, DType dtype, std::shared_ptr<Storage> storage, char* data);
  virtual ~Buffer() = default;

  int64_t size() const { return size_of(shape); }
  int64_t bytes() const { return size() * bytes_of(dtype); }

  Shape shape;
  DType dtype;
  std::shared_ptr<Storage> storage;
  char* data;

  // Of a batch: it is not here yet. Shared by all shapes of it.
  std::shared_ptr<Unread> unread;
  // No gradient is wanted: the batch, and what depends on nothing trainable.
  bool constant = false;
  // Of a variable: where this step's gradient is gathered (null: not trained), and whether anything is there yet.
  std::shared_ptr<Buffer> gradient;
  bool gradient_started = false;
  // Of a variable: its optimizer's step, to be taken by the op that completes its gradient, if the variable was used
  // only once in this step; and whether it was taken.
  std::shared_ptr<UpdateArgs> update;
  int uses = 0;
  bool updated = false;
  // Of an activation's output: which one, and what went in, where its backward pass or a fused loss needs it. An op
  // that takes a gradient back to this buffer may take it through the activation too (at_preactivation).
  std::shared_ptr<Buffer> preactivation;
  Activation activation = Activation::linear;
  double alpha = 0;
  // Of a gradient: it is already with respect to the preactivation.
  bool at_preactivation = false;
};

}  // namespace ranvier::engine
