// Ranges of elements, rows or pixels: a shared tool of the kernel files.
#pragma once

#include "kernels/types.h"

#define RANVIER_INLINE static inline __attribute__((always_inline))

namespace ranvier::RANVIER_TIER {
namespace {

RANVIER_INLINE int64_t clip(int64_t a, int64_t low, int64_t high) {
  return a < low ? low : a > high ? high : a;
}

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// Part i of n of [0, size).
RANVIER_INLINE Range part(int64_t size, int64_t i, int64_t n) {
  return {size * i / n, size * (i + 1) / n};
}
// What of a is in b; if nothing is, an empty range in b.
RANVIER_INLINE Range common(Range a, Range b) {
  const int64_t begin = clip(a.begin, b.begin, b.end);
  return {begin, clip(a.end, begin, b.end)};
}
// The part of [first, first + size) that lies inside an image, counted from `first`; of no positive size if none does.
RANVIER_INLINE Range inside(int64_t first, int64_t size, int64_t image) {
  return {first < 0 ? -first : 0, image - first < size ? image - first : size};
}

// The elements of chunks [begin, end) of n.
RANVIER_INLINE Range elements(int64_t begin, int64_t end, int64_t n) {
  return {begin * kElements, end * kElements < n ? end * kElements : n};
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
