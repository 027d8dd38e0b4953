#include "engine/buffer.h"

#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace ranvier::engine {

int64_t size_of(const Shape& shape) {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

const char* name_of(DType dtype) {
  constexpr const char* kNames[] = {"float32", "float64", "int32", "int64",  "uint8",
                                    "int8",    "uint16",  "int16", "uint32", "uint64"};
  return kNames[static_cast<int>(dtype)];
}

std::string text_of(const Shape& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

namespace {

// Where `bytes` may begin: on a cache line, or on a huge page if they fill some.
int64_t alignment_of(int64_t bytes) {
  constexpr int64_t kLine = 64, kHuge = 2 << 20;
  return bytes >= 2 * kHuge ? kHuge : kLine;
}

void advise([[maybe_unused]] char* data, [[maybe_unused]] int64_t bytes) {
#if defined(__linux__)
  // Fewer pages to fault in, and to look up.
  if (alignment_of(bytes) > 64) madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#endif
}

char* line_aligned(int64_t bytes) {
  const int64_t alignment = alignment_of(bytes), size = (bytes / alignment + 1) * alignment;
  void* data = std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(size));
  if (!data) throw std::bad_alloc();
  advise(static_cast<char*>(data), size);
  return static_cast<char*>(data);
}

}  // namespace

// Zeros come from calloc: of a large block the system promises them, and gives memory where it is first touched.
Storage::Storage(int64_t bytes, bool zeroed) : bytes_(bytes) {
  if (!zeroed) {
    block_ = data_ = line_aligned(bytes);
    return;
  }
  const int64_t alignment = alignment_of(bytes);
  block_ = std::calloc(static_cast<size_t>(bytes + alignment), 1);
  if (!block_) throw std::bad_alloc();
  const auto address = reinterpret_cast<uintptr_t>(block_), step = static_cast<uintptr_t>(alignment);
  data_ = static_cast<char*>(block_) + ((address + step - 1) / step * step - address);
  advise(data_, bytes);
}
Storage::~Storage() {
  if (pool_) {
    pool_->give_back(data_, bytes_);
  } else {
    std::free(block_);
  }
}

Pool::~Pool() {
  for (const Block& block : free_) std::free(block.data);
}

std::shared_ptr<Storage> Pool::allocate(int64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Block block = {nullptr, bytes};
  auto best = free_.end();
  for (auto free = free_.begin(); free != free_.end(); ++free) {
    // Not one that is far too large: something large would soon need another.
    const bool fits = free->bytes >= bytes && free->bytes <= 2 * bytes + 4096;
    if (fits && (best == free_.end() || free->bytes <= best->bytes)) best = free;  // the last freed
  }
  if (best != free_.end()) {
    block = *best;
    free_.erase(best);
    free_bytes_ -= block.bytes;
  } else {
    block.data = line_aligned(bytes);
  }
  used_bytes_ += block.bytes;
  return std::make_shared<Storage>(block.data, block.bytes, shared_from_this());
}

void Pool::give_back(char* data, int64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  used_bytes_ -= bytes;
  free_bytes_ += bytes;
  free_.push_back({data, bytes});
  size_t freed = 0;  // the oldest first
  for (; free_bytes_ > idle_; ++freed) {
    free_bytes_ -= free_[freed].bytes;
    std::free(free_[freed].data);
  }
  free_.erase(free_.begin(), free_.begin() + static_cast<std::ptrdiff_t>(freed));
}

int64_t Pool::bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return free_bytes_ + used_bytes_;
}

Buffer::Buffer(Shape s, DType d) : shape(std::move(s)), dtype(d), storage(std::make_shared<Storage>(bytes())) {
  data = storage->data();
}
Buffer::Buffer(Shape s, DType d, std::shared_ptr<Storage> owner, char* at)
    : shape(std::move(s)), dtype(d), storage(std::move(owner)), data(at) {}

}  // namespace ranvier::engine
