// Storage and shape: what layers pass to one another.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace ranvier::engine {

using Shape = std::vector<int64_t>;

int64_t size_of(const Shape& shape);  // the number of elements
int64_t bytes_of(DType dtype);        // of one element
const char* name_of(DType dtype);
std::string text_of(const Shape& shape);  // as Python prints it: (32, 10)

// Bytes aligned to a cache line, zero at first.
class Storage {
 public:
  explicit Storage(int64_t bytes);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  char* data() const { return data_; }

 private:
  char* data_;
};

// A C-contiguous array that the engine owns, and what the backward pass must know about it.
struct Buffer {
  Buffer(Shape shape, DType dtype);
  Buffer(Shape shape, DType dtype, std::shared_ptr<Storage> storage, char* data);
  virtual ~Buffer() = default;

  int64_t size() const { return size_of(shape); }
  int64_t bytes() const { return size() * bytes_of(dtype); }

  Shape shape;
  DType dtype;
  std::shared_ptr<Storage> storage;
  char* data;

  // No gradient is wanted: the batch, and what depends on nothing trainable.
  bool constant = false;
  // Of a variable: where this step's gradient is gathered (null: not trained), and whether anything is there yet.
  std::shared_ptr<Buffer> gradient;
  bool gradient_started = false;
  // Of an activation's output, where its backward pass or a fused loss needs it: what went in, and into which.
  std::shared_ptr<Buffer> preactivation;
  Activation activation = Activation::linear;
  // Of a gradient: it is already with respect to the preactivation (a loss fused with the activation made it).
  bool at_preactivation = false;
};

}  // namespace ranvier::engine
