// How the convolution cuts its work, and what it asks for ahead: a shared tool of conv2d.cpp and its rooms
// conv2d_thin.h and conv2d_kernel_gradient.h. All are one object file, so that the tiles of gemm.h are in it once.
#pragma once

#include "kernels/conv2d.h"
#include "kernels/gemm.h"

namespace ranvier::RANVIER_TIER {
namespace {

// How the pixels of all images are cut into blocks: some images, or some rows of one, or a part of a row.
struct PixelBlocks {
  int64_t images, down, across;  // how many parts
  int64_t count() const { return images * down * across; }
};
RANVIER_INLINE PixelBlocks pixel_blocks(int64_t batch, int64_t height, int64_t width, int64_t pixels) {
  PixelBlocks b;
  b.across = chunks_of(width, pixels);
  const int64_t columns = chunks_of(width, b.across), rows = clip(pixels / columns, 1, height);
  b.down = chunks_of(height, rows);
  b.images = chunks_of(batch, clip(pixels / (columns * rows), 1, INT64_MAX));
  if (b.count() % 2 == 0) return b;
  int64_t& finest = b.across > 1 ? b.across : b.down > 1 ? b.down : b.images;
  if (finest > 1) ++finest;  // even work for an even number of threads
  return b;
}

struct PixelBlock {
  Range images, rows, columns;
};
RANVIER_INLINE PixelBlock pixel_block(const PixelBlocks& b, int64_t block, int64_t batch, int64_t height,
                                      int64_t width) {
  return {part(batch, block / (b.down * b.across), b.images), part(height, block / b.across % b.down, b.down),
          part(width, block % b.across, b.across)};
}

template <class T>
RANVIER_INLINE int64_t panels_of(int64_t columns, int64_t groups) {
  return groups * chunks_of(columns / groups, kPanel<T>);
}

// What to ask for while other work goes on: lines of memory, some for each tile.
template <class T>
struct Ahead {
  const T* at;
  const T* end;
};
template <class T>
RANVIER_INLINE void ask_ahead(Ahead<T>& next, Tile<T>& t, int64_t steps) {
  constexpr int64_t kLine = 64 / sizeof(T);
  t.ahead = next.at < next.end ? next.at : nullptr;
  t.ahead_step = t.ahead ? kLine : 0;
  next.at += steps * kLine;
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
