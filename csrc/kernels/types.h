// What a kernel is. Each has a plain args struct in its family's header, and an entry in the table of kernels.h.
//
// A kernel does arithmetic on raw pointers. It does not throw, allocate or keep state, and knows neither Python nor
// threads: it is given a range of its chunks, and whoever calls it decides who does which. Chunks depend on shapes
// only and write disjoint outputs, so any split gives the same bits. "T" in the headers is float or double: the table
// holds both. All arrays are C-contiguous; shapes stand behind the pointers, outputs first.
#pragma once

#include <stdint.h>

namespace ranvier {

enum class DType : uint8_t { f32, f64, i32, i64, u8, i8, u16, i16, u32, u64 };

static inline constexpr int64_t bytes_of(DType dtype) {  // of one element
  switch (dtype) {
    case DType::u8:
    case DType::i8:
      return 1;
    case DType::u16:
    case DType::i16:
      return 2;
    case DType::f32:
    case DType::i32:
    case DType::u32:
      return 4;
    default:
      return 8;
  }
}

using Kernel = void (*)(const void* args, int64_t begin, int64_t end);

// One kernel, compiled for float and for double.
struct TypedKernel {
  Kernel f32, f64;
  Kernel operator[](DType dtype) const { return dtype == DType::f32 ? f32 : f64; }
};

constexpr int64_t kElements = 4096;  // elements in one chunk of an elementwise kernel
constexpr int64_t kColumns = 64;     // columns in one chunk of a kernel that walks columns
static inline constexpr int64_t chunks_of(int64_t n, int64_t size) {
  return (n + size - 1) / size;
}
constexpr int kAxes = 8;  // of an array, at most

}  // namespace ranvier
