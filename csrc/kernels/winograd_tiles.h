// Winograd's tiles: a shared tool of winograd.cpp and its rooms winograd_outputs.h and winograd_gradient.h. Which tiles
// there are and where, how they lie in scratch, the patches they read of an image, or of one that is the largest of
// each window, and how these are transformed. All are one object file, so that the tiles of gemm.h are in it once.
#pragma once

#include "kernels/places.h"
#include "kernels/winograd.h"
#include "kernels/winograd_lines.h"

namespace ranvier::RANVIER_TIER {
namespace {

constexpr int64_t kTilesAhead = 2;  // whose patches are asked for
template <class T>
constexpr int64_t kLine = 64 / sizeof(T);  // of the cache
constexpr int kPoints = kLinePoints * kLinePoints;

// Along an axis, outputs are taken by 7 - taps, with 6 points, and a rest of up to 5 - taps with 4. So there are four
// kinds of tiles, but with 5 taps all are whole: all of a kind through the batch, then those of the next. In this
// order, the tiles that have a given point are neighbours.
enum Kind : int { kCorner, kRight, kWhole, kBottom };
constexpr int kKinds = 4;
RANVIER_INLINE bool tall(int kind) {  // six points down
  return kind == kRight || kind == kWhole;
}
RANVIER_INLINE bool wide(int kind) {  // six points across
  return kind == kWhole || kind == kBottom;
}
RANVIER_INLINE int64_t points_of(int kind) {
  return (tall(kind) ? 6 : 4) * (wide(kind) ? 6 : 4);
}

struct Tiles {
  int64_t out;                            // outputs of a whole one in a direction
  int64_t starts[kKinds + 1];             // the first tile of each kind
  int64_t count, work;                    // tiles; points of all of them
  int64_t rows[kKinds], columns[kKinds];  // of the tiles of a kind in an image
};
RANVIER_INLINE Tiles tiles_of(const ConvGeometry& s) {
  Tiles t;
  t.out = 7 - s.kernel_height;
  const int64_t out = t.out, most = 5 - s.kernel_height;
  const auto whole = [=](int64_t outputs) { return outputs / out + (outputs % out > most); };
  const auto rest = [=](int64_t outputs) { return outputs % out > 0 && outputs % out <= most; };
  t.count = t.work = 0;
  for (int kind = 0; kind < kKinds; ++kind) {
    t.starts[kind] = t.count;
    t.rows[kind] = tall(kind) ? whole(s.out_height) : rest(s.out_height);
    t.columns[kind] = wide(kind) ? whole(s.out_width) : rest(s.out_width);
    const int64_t tiles = s.batch * t.rows[kind] * t.columns[kind];
    t.count += tiles;
    t.work += tiles * points_of(kind);
  }
  t.starts[kKinds] = t.count;
  return t;
}

// Part i of `parts` of the tiles begins here: parts are of even work.
RANVIER_INLINE int64_t cut(const Tiles& t, int64_t i, int64_t parts) {
  int64_t work = t.work * i / parts;
  for (int kind = 0; kind < kKinds; ++kind) {
    const int64_t tiles = t.starts[kind + 1] - t.starts[kind], points = points_of(kind);
    if (work <= tiles * points) return t.starts[kind] + chunks_of(work, points);
    work -= tiles * points;
  }
  return t.count;
}
// Tiles of the largest of so many parts.
RANVIER_INLINE int64_t most_tiles(const Tiles& t, int64_t parts) {
  int64_t least = kPoints;
  for (int kind = 0; kind < kKinds; ++kind) {
    if (t.starts[kind] < t.starts[kind + 1] && points_of(kind) < least) least = points_of(kind);
  }
  return parts ? chunks_of(chunks_of(t.work, parts), least) : 0;
}

struct Place {
  int64_t image, row, column;  // of the tile's first output
  int kind;
};
RANVIER_INLINE void find_places(const Tiles& t, Range group, Place* places) {
  for (int kind = 0; kind < kKinds; ++kind) {
    const Range tiles = common(group, {t.starts[kind], t.starts[kind + 1]});
    if (tiles.size() == 0) continue;
    const int64_t i = tiles.begin - t.starts[kind], line = i / t.columns[kind];
    int64_t image = line / t.rows[kind], row = line - image * t.rows[kind], column = i - line * t.columns[kind];
    for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
      *places++ = {image, (tall(kind) ? row : t.rows[kWhole]) * t.out,
                   (wide(kind) ? column : t.columns[kWhole]) * t.out, kind};
      if (++column < t.columns[kind]) continue;
      column = 0;
      if (++row < t.rows[kind]) continue;
      row = 0;
      ++image;
    }
  }
}

// The tiles of a group that have a point, counted from the group's first.
RANVIER_INLINE Range tiles_with(const Tiles& t, int point, Range group) {
  const bool needs_tall = point / kLinePoints >= 4, needs_wide = point % kLinePoints >= 4;
  const Range tiles = common(group, {needs_wide   ? t.starts[kWhole]
                                     : needs_tall ? t.starts[kRight]
                                                  : 0,
                                     needs_tall ? t.starts[kBottom] : t.count});
  return {tiles.begin - group.begin, tiles.end - group.begin};
}

template <class T>
struct Image {
  const T* data;         // (batch, height, width, channels), or with `where` of each 2x2 pixels the one that is not 0
  const uint8_t* where;  // in them, as data; or null
  int64_t height, width, channels;
  int64_t up, left;  // from a tile's first output to its patch's first element
  int64_t step;      // from tile to tile
};
template <class T>
RANVIER_INLINE Image<T> image_of(const void* data, const uint8_t* where, int64_t height, int64_t width,
                                 int64_t channels, int64_t up, int64_t left, const Tiles& t) {
  if (where) {  // an odd row or column is in no window
    height -= height % 2;
    width -= width % 2;
  }
  return {static_cast<const T*>(data), where, height, width, channels, up, left, t.out};
}

// A call works in scratch of its own, with a place for each chunk, because a thread's chunks all use that of the first.
// Calls ask for the same size if it is enough: so they share the memory, and a thread finds what it wrote in the call
// before in its caches.
struct Scratch {
  int64_t step, size;  // elements: from chunk to chunk, and of all
};
template <class T>
RANVIER_INLINE Scratch scratch_of(int64_t chunks, int64_t own) {
  constexpr int64_t kShared = (32 << 20) / sizeof(T);
  if (chunks == 0 || chunks * own > kShared) return {own, chunks * own};
  return {kShared / chunks / kLine<T> * kLine<T>, kShared};
}

// How a group's tiles lie in scratch: (36, tiles, columns).
struct Points {
  int64_t step, row;  // elements from point to point, from tile to tile
};
template <class T>
RANVIER_INLINE int64_t whole_vectors(int64_t n) {
  return chunks_of(n, kLanes<T>) * kLanes<T>;
}

// Where a vector of channels of a patch lies: its pixels one after the other, or in windows.
template <class T>
struct Pixels {
  const T* data;
  int64_t row, column;  // steps
  __attribute__((always_inline)) Vec<T> at(int i, int j) const { return load(data + i * row + j * column); }
};
template <class T>
struct Windows {
  const T* data;
  const uint8_t* where;
  int64_t down[kLinePoints], across[kLinePoints];  // steps to the window of a pixel: their sum
  typename VecOf<T>::Int place[kLinePoints][8];    // of a pixel in its window; of one outside the image none
  __attribute__((always_inline)) Vec<T> at(int i, int j, int64_t lanes = kLanes<T>) const {
    const int64_t step = down[i] + across[j];
    const IVec<T> here = load_places<T>(where + step, lanes) == splat_place<T>(place[i][j]);
    return here ? load_lanes(data + step, lanes) : Vec<T>{};
  }
};

// One patch and a vector of channels; returns the sum of the patch, if asked for. Not inline: in a loop, the compiler
// would keep 72 offsets on the stack.
template <class T, class Down, class Across, bool sums, class Patch>
__attribute__((noinline)) Vec<T> transform_patch(T* to, int64_t step, const Patch& from) {
  Vec<T> sum = {};
  both_ways<T, Down, Across>(
      [&](int i, int j) __attribute__((always_inline)) {
        const Vec<T> d = from.at(i, j);
        if constexpr (sums) sum += d;
        return d;
      },
      [=](int i, int j, Vec<T> v) __attribute__((always_inline)) { store(to + (i * kLinePoints + j) * step, v); });
  return sum;
}
template <class T, class Whole, class Rest, bool sums, class Patch>
RANVIER_INLINE Vec<T> transform_patch_of(int kind, T* to, int64_t step, const Patch& from) {
  switch (kind) {
    case kCorner:
      return transform_patch<T, Rest, Rest, sums>(to, step, from);
    case kRight:
      return transform_patch<T, Whole, Rest, sums>(to, step, from);
    case kBottom:
      return transform_patch<T, Rest, Whole, sums>(to, step, from);
    default:
      return transform_patch<T, Whole, Whole, sums>(to, step, from);
  }
}

// Asks for what tile p's patch has and the tiles before it and above it have not.
template <class T>
RANVIER_INLINE void fetch(const Image<T>& x, const Place& p, int64_t size, int64_t first, int64_t columns) {
  const int64_t skip = size - x.step, by = x.where ? 2 : 1, height = x.height / by, width = x.width / by;
  const int64_t i0 = chunks_of(p.row - x.up + skip, by), j0 = chunks_of(p.column - x.left + skip, by);
  for (int64_t i = i0; i < i0 + x.step / by && i < height; ++i) {
    int64_t at = ((p.image * height + i) * width + j0) * x.channels + first;
    for (int64_t j = 0; j < x.step / by; ++j, at += x.channels) {
      for (int64_t c = 0; c < columns; c += kLine<T>) __builtin_prefetch(x.data + at + c);
      if (x.where) __builtin_prefetch(x.where + at);
    }
  }
}

// Of a patch that begins at pixel i, j of an image, and is that large.
template <int size, class T>
RANVIER_INLINE void find_windows(Windows<T>& w, const Image<T>& x, int64_t image, int64_t i, int64_t j) {
  constexpr typename VecOf<T>::Int kOutside = 256;  // no byte
  const int64_t height = x.height / 2, width = x.width / 2;
  typename VecOf<T>::Int across[8] = {};
  for (int k = 0; k < size; ++k) {
    const bool in = j + k >= 0 && j + k < x.width;
    w.across[k] = in ? (j + k) / 2 * x.channels : 0;
    across[k] = in ? (j + k) % 2 : kOutside;
  }
  for (int k = 0; k < size; ++k) {
    const bool in = i + k >= 0 && i + k < x.height;
    w.down[k] = (image * height + (in ? (i + k) / 2 : 0)) * width * x.channels;
    for (int l = 0; l < 8; ++l) w.place[k][l] = across[l] + (in ? (i + k) % 2 * 2 : kOutside);
  }
}

// to (36, tiles, columns) = the transformed patches of tiles at these places, channels [first, first + columns);
// columns is a multiple of a vector. There are zeros around the image and in channels past the last. sums (columns) +=
// all of x that is in the patches. Whole is the transformation along a line of 6 points, Rest of 4.
template <class T, class Whole, class Rest, bool with_sums = false>
void transform_tiles(T* to, Points at, const Image<T>& x, const Place* places, int64_t count, int64_t first,
                     int64_t columns, T* sums = nullptr) {
  constexpr int kMost = Whole::kFrom, kL = kLanes<T>;
  const int64_t column = x.channels, row = x.width * column;
  alignas(64) T copy[kMost * kMost * kL];  // with its zeros
  for (int64_t tile = 0; tile < count; ++tile, to += at.row) {
    if (tile + kTilesAhead < count) fetch(x, places[tile + kTilesAhead], kMost, first, columns);
    const Place& p = places[tile];
    const int64_t down = tall(p.kind) ? kMost : Rest::kFrom, across = wide(p.kind) ? kMost : Rest::kFrom;
    const int64_t i = p.row - x.up, j = p.column - x.left;
    const Range rows = inside(i, down, x.height), cols = inside(j, across, x.width);
    const bool inner = rows.size() == down && cols.size() == across;
    Windows<T> windows;
    if (x.where) {
      find_windows<kMost>(windows, x, p.image, i, j);
    } else if (!inner) {
      for (int64_t k = 0; k < down * across; ++k) store(copy + k * kL, Vec<T>{});
    }
    for (int64_t c = 0; c < columns; c += kL) {
      const int64_t channel = first + c, left = x.channels - channel, lanes = left < kL ? (left < 0 ? 0 : left) : kL;
      const auto transform = [&](const auto& patch) __attribute__((always_inline)) {
        const Vec<T> sum = transform_patch_of<T, Whole, Rest, with_sums>(p.kind, to + c, at.step, patch);
        if constexpr (with_sums) store(sums + c, load(sums + c) + sum);
      };
      if (x.where) {
        windows.data = x.data + channel;
        windows.where = x.where + channel;
        if (lanes == kL) {
          transform(windows);
          continue;
        }
        for (int64_t k = 0; k < down * across; ++k) store(copy + k * kL, windows.at(k / across, k % across, lanes));
      } else {
        const T* from = x.data + ((p.image * x.height + i) * x.width + j) * column + channel;
        if (inner && lanes == kL) {
          transform(Pixels<T>{from, row, column});
          continue;
        }
        for (int64_t k = rows.begin; k < rows.end; ++k) {
          for (int64_t l = cols.begin; l < cols.end; ++l) {
            store(copy + (k * across + l) * kL, load_lanes(from + k * row + l * column, lanes));
          }
        }
      }
      transform(Pixels<T>{copy, across * kL, kL});
    }
  }
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
