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

char* line_aligned(int64_t bytes) {
  constexpr int64_t kLine = 64, kHuge = 2 << 20;
  const int64_t alignment = bytes >= 2 * kHuge ? kHuge : kLine;
  const auto size = static_cast<size_t>((bytes / alignment + 1) * alignment);
  void* data = std::aligned_alloc(static_cast<size_t>(alignment), size);
  if (!data) throw std::bad_alloc();
#if defined(__linux__)
  if (alignment == kHuge) madvise(data, size, MADV_HUGEPAGE);  // fewer pages to fault in, and to look up
#endif
  return static_cast<char*>(data);
}

}  // namespace

Storage::Storage(int64_t bytes, bool zeroed) {
  constexpr int64_t kLarge = 64 << 20, kLine = 64;
  if (zeroed && bytes >= kLarge) {
    // The system's own zeros, which take no memory before they are written: gradients that are used up tile by tile
    // never are.
    block_ = static_cast<char*>(std::calloc(static_cast<size_t>(bytes + kLine), 1));
    if (!block_) throw std::bad_alloc();
    data_ = block_ + (kLine - reinterpret_cast<intptr_t>(block_) % kLine) % kLine;
    return;
  }
  data_ = block_ = line_aligned(bytes);
  if (zeroed) std::memset(data_, 0, static_cast<size_t>(bytes));
}
Storage::~Storage() {
  if (pool_) {
    pool_->give_back(data_);
  } else {
    std::free(block_);
  }
}

Pool::~Pool() {
  for (const Block& block : blocks_) std::free(block.data);
}

std::shared_ptr<Storage> Pool::allocate(int64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Block* best = nullptr;
  for (Block& block : blocks_) {
    // Not one that is far too large: something large would soon need another.
    const bool fits = block.bytes >= bytes && block.bytes <= 2 * bytes + 4096;
    if (block.free && fits && (!best || block.bytes < best->bytes)) best = &block;
  }
  if (!best) {
    blocks_.push_back({line_aligned(bytes), bytes, true});
    best = &blocks_.back();
  }
  best->free = false;
  return std::make_shared<Storage>(best->data, shared_from_this());
}

void Pool::give_back(char* data) {
  const std::lock_guard<std::mutex> lock(mutex_);
  int64_t idle = 0;
  for (Block& block : blocks_) {
    if (block.data == data) block.free = true;
    if (block.free) idle += block.bytes;
  }
  for (auto block = blocks_.begin(); idle > idle_ && block != blocks_.end();) {
    if (!block->free) {
      ++block;
      continue;
    }
    idle -= block->bytes;
    std::free(block->data);
    block = blocks_.erase(block);
  }
}

int64_t Pool::bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  int64_t total = 0;
  for (const Block& block : blocks_) total += block.bytes;
  return total;
}

Buffer::Buffer(Shape s, DType d) : shape(std::move(s)), dtype(d), storage(std::make_shared<Storage>(bytes())) {
  data = storage->data();
}
Buffer::Buffer(Shape s, DType d, std::shared_ptr<Storage> owner, char* at)
    : shape(std::move(s)), dtype(d), storage(std::move(owner)), data(at) {}

}  // namespace ranvier::engine
