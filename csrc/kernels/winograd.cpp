// Convolution with kernels of 3x3 and 5x5 by Winograd's minimal filtering F(4x4, 3x3) and F(2x2, 5x5) (Winograd,
// Arithmetic Complexity of Computations, 1980; Lavin and Gray, Fast Algorithms for Convolutional Neural Networks,
// 2016). A tile of 4x4 or 2x2 outputs is a polynomial product evaluated at 6 points in both directions:
//   y  = A^T [ (G w G^T) * (B^T x B) ] A         36 multiplications a tile, channel and filter instead of 144 or 100
//   dw = G^T [ sum of (B^T x B) * (A dy A^T) ] G  the transposed map
//   dx = y's formula with dy for x and w turned round and transposed
// where x is a patch of 6x6. Summed over channels, the 36 products are 36 matrix products: of the patches of a group of
// tiles, V (tiles, channels), by the transformed kernel, U (channels, filters). Nothing of a group leaves the caches.
//
// With kernels of 3x3, tiles at an image's end that have no more than two outputs in a direction take but 4 of the
// points there.
#include "kernels/winograd.h"

#include "kernels/correlation.h"
#include "kernels/gemm.h"
#include "kernels/places.h"
#include "kernels/tier.h"
#include "kernels/winograd_lines.h"

namespace ranvier::RANVIER_TIER {
namespace {

constexpr int64_t kTilesAhead = 2;  // whose patches are asked for
template <class T>
constexpr int64_t kLine = 64 / sizeof(T);  // of the cache
constexpr int kPoints = kLinePoints * kLinePoints;

// --- tiles -----------------------------------------------------------------------------------------------------------

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

// --- forward, and the gradient of the input --------------------------------------------------------------------------

// Two tiles of the matrix product, or more where they are small: as many whole ones as a group's data may have for the
// second-level cache, and enough to make up for reading U.
constexpr int64_t kGroup = kRows * (28 / kRows), kGroupMost = kGroup * kPoints / 16;
// Few groups are shared out by filters as well: whoever takes a part of them transforms the group's patches for itself.
constexpr int64_t kWantedParts = 16, kPartFilters = 32;
constexpr int64_t kMaxChunks = 64;  // each has its own scratch

template <class T>
RANVIER_INLINE int64_t whole_vectors(int64_t n) {
  return chunks_of(n, kLanes<T>) * kLanes<T>;
}

struct Groups {
  int64_t groups, parts, chunks;  // of tiles; of a group; of all parts
  int64_t size;                   // tiles of the largest group
};
RANVIER_INLINE Groups groups_of(const Tiles& tiles, int64_t filters) {
  Groups g;
  g.groups = chunks_of(tiles.work, kGroup * kPoints);
  if (g.groups > 1) g.groups += g.groups % 2;  // even work for an even number of threads
  g.size = most_tiles(tiles, g.groups);
  g.parts = 1;
  if (g.groups > 0 && g.groups < kWantedParts) {
    const int64_t most = chunks_of(filters, kPartFilters), wanted = chunks_of(kWantedParts, g.groups);
    g.parts = most < wanted ? most : wanted;
  }
  g.chunks = g.groups * g.parts < kMaxChunks ? g.groups * g.parts : kMaxChunks;
  return g;
}
// From point to point it is a line further than need be: distances of powers of two would share few sets of the cache.
template <class T>
RANVIER_INLINE Points patch_points(const Groups& g, int64_t channels) {
  const int64_t row = whole_vectors<T>(channels);
  return {g.size * row + kLine<T>, row};
}
template <class T>
RANVIER_INLINE Points product_points(const Groups& g) {
  return {g.size * kPanel<T> + kLine<T>, kPanel<T>};
}

// From point to point of u, for the same reason.
template <class T>
RANVIER_INLINE int64_t kernel_step(int64_t channels) {
  return channels * kPanel<T> + kLine<T>;
}

// One of a group's matrix products: a point, the tiles that have it, and how these are cut into rows of the product.
struct Product {
  int point;
  int64_t begin, parts, rows, more;  // the first `more` parts have a row more
};
RANVIER_INLINE int products_of(const Tiles& tiles, Range group, Product* products) {
  int n = 0;
  for (int point = 0; point < kPoints; ++point) {
    const Range with = tiles_with(tiles, point, group);
    if (with.size() == 0) continue;
    const int64_t parts = chunks_of(with.size(), kRows), rows = with.size() / parts;
    products[n++] = {point, with.begin, parts, rows, with.size() - parts * rows};
  }
  return n;
}

// m (36, tiles, panel) = v (36, tiles, channels) times a panel of u (36, channels, panel). meanwhile(n) is called at
// product n, to ask for what comes next.
template <class T, class Meanwhile>
void multiply(T* m, Points at_m, const T* v, Points at_v, const T* u, const Product* products, int count,
              int64_t channels, Meanwhile meanwhile) {
  Tile<T> t = {};
  t.c_row = at_m.row;
  t.a_row = at_v.row;
  t.a_column = 1;
  t.b_row = kPanel<T>;
  t.depth = channels;
  t.lanes = kLanes<T>;
  const int64_t u_step = kernel_step<T>(channels);
  for (int n = 0; n < count; ++n) {
    const Product& p = products[n];
    meanwhile(n);
    t.b = u + p.point * u_step;
    t.a = v + p.point * at_v.step + p.begin * at_v.row;
    t.c = m + p.point * at_m.step + p.begin * at_m.row;
    // The parts share out the next point's u.
    t.ahead = u + (n + 1 < count ? products[n + 1].point : kPoints) * u_step;
    t.ahead_step = kPanel<T> / p.parts;
    for (int64_t i = 0; i < p.parts; ++i, t.ahead += t.ahead_step * channels) {
      const int64_t rows = p.rows + (i < p.more);
      tile_at<T>(rows, 2, t, true);
      t.a += rows * at_v.row;
      t.c += rows * at_m.row;
    }
  }
}

// Whether y goes around the caches.
template <class T>
RANVIER_INLINE bool streams(const WinogradArgs& a) {
  const ConvGeometry& s = a.g;
  return !a.pooled && a.activation <= Activation::relu && a.through_activation <= Activation::relu &&
         streams<T>(a.y, s.batch * s.out_height * s.out_width, s.filters);
}

// What becomes of a tile's outputs: y = max(A^T m A + start, floor), times relu's slope at `kept`.
template <class T>
struct Outputs {
  T* y;
  const T* kept;        // as y; null: nothing
  int64_t row, column;  // steps from pixel to pixel
  Vec<T> start, floor;
};

// A vector of filters. Not inline, as transform_patch.
template <class T, class Down, class Across, bool slopes, bool around>
__attribute__((noinline)) void write_outputs(const Outputs<T>& outputs, const T* m, int64_t step) {
  const Outputs<T> o = outputs;  // which no store changes
  both_ways<T, Down, Across>([=](int i, int j)
                                 __attribute__((always_inline)) { return load(m + (i * kLinePoints + j) * step); },
                             [=](int i, int j, Vec<T> v) __attribute__((always_inline)) {
                               const int64_t at = i * o.row + j * o.column;
                               v = at_least<T>(v + o.start, o.floor);
                               if constexpr (slopes) {
                                 const Vec<T> y = load(o.kept + at);
                                 v = v * slope<T, Activation::relu>(y, y, T(0));
                               }
                               if constexpr (around) {
                                 stream(o.y + at, v);
                               } else {
                                 store(o.y + at, v);
                               }
                             });
}
template <class T, class Whole, class Rest, bool slopes, bool around>
RANVIER_INLINE void write_outputs_of(int kind, const Outputs<T>& o, const T* m, int64_t step) {
  switch (kind) {
    case kCorner:
      return write_outputs<T, Rest, Rest, slopes, around>(o, m, step);
    case kRight:
      return write_outputs<T, Whole, Rest, slopes, around>(o, m, step);
    case kWhole:
      return write_outputs<T, Whole, Whole, slopes, around>(o, m, step);
    case kBottom:
      return write_outputs<T, Rest, Whole, slopes, around>(o, m, step);
  }
}

// y's columns [column, column + a panel) of one tile = f(A^T m A + bias)
template <class T, class Whole, class Rest>
void write_tile(const WinogradArgs& a, const Place& p, int64_t column, const T* m, int64_t step, bool around) {
  constexpr int64_t kL = kLanes<T>;
  const ConvGeometry& s = a.g;
  const int64_t down = tall(p.kind) ? Whole::kTo : Rest::kTo, across = wide(p.kind) ? Whole::kTo : Rest::kTo;
  const int64_t rows = s.out_height - p.row < down ? s.out_height - p.row : down;
  const int64_t columns = s.out_width - p.column < across ? s.out_width - p.column : across;
  const int64_t last = s.filters - column < kPanel<T> ? s.filters - column : kPanel<T>;
  const int64_t at = ((p.image * s.out_height + p.row) * s.out_width + p.column) * s.filters + column;
  const int64_t line = s.out_width * s.filters;
  T* const y = static_cast<T*>(a.y) + at;
  const T* const bias = a.bias ? static_cast<const T*>(a.bias) + column : nullptr;
  around = kStreams && around;  // known to the compiler where vectors are shorter than a line
  const bool slopes = a.through && a.through_activation == Activation::relu;
  const T* const kept = a.through ? static_cast<const T*>(a.through) + at : nullptr;
  alignas(64) T edge[Whole::kTo * Whole::kTo * kL];
  Outputs<T> o;
  o.floor = splat<T>(a.activation == Activation::relu ? T(0) : -T(INFINITY));
  for (int64_t f = 0; f < last; f += kL) {
    const int64_t lanes = last - f < kL ? last - f : kL;
    o.start = bias ? load_lanes(bias + f, lanes) : Vec<T>{};
    if (rows == down && columns == across && lanes == kL) {
      o.y = y + f;
      o.kept = kept + f;
      o.row = line;
      o.column = s.filters;
      if (slopes) {
        around ? write_outputs_of<T, Whole, Rest, true, true>(p.kind, o, m + f, step)
               : write_outputs_of<T, Whole, Rest, true, false>(p.kind, o, m + f, step);
      } else {
        around ? write_outputs_of<T, Whole, Rest, false, true>(p.kind, o, m + f, step)
               : write_outputs_of<T, Whole, Rest, false, false>(p.kind, o, m + f, step);
      }
      continue;
    }
    o.y = edge;
    o.row = across * kL;
    o.column = kL;
    write_outputs_of<T, Whole, Rest, false, false>(p.kind, o, m + f, step);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        const int64_t pixel = i * line + j * s.filters + f;
        Vec<T> v = load(edge + (i * across + j) * kL);
        if (slopes) {
          const Vec<T> below = load_lanes(kept + pixel, lanes);
          v = v * slope<T, Activation::relu>(below, below, T(0));
        }
        store_lanes(y + pixel, v, lanes);
      }
    }
  }
  const bool others = a.activation > Activation::relu, through = a.through && !slopes;
  if (!others && !through) return;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      T* const pixel = y + i * line + j * s.filters;
      if (others) apply_row<T>(a.activation, pixel, pixel, last, a.alpha);
      if (through) backward_row<T>(a.through_activation, pixel, pixel, kept + (pixel - y), last, a.through_alpha);
    }
  }
}

// Of one tile's outputs, as of write_tile, the largest of each window and where it is.
template <class T, class Whole, class Rest>
void pool_tile(const WinogradArgs& a, const Place& p, int64_t column, const T* m, int64_t step, bool) {
  constexpr int64_t kL = kLanes<T>;
  const ConvGeometry& s = a.g;
  const int64_t down = tall(p.kind) ? Whole::kTo : Rest::kTo, across = wide(p.kind) ? Whole::kTo : Rest::kTo;
  const int64_t height = s.out_height / 2, width = s.out_width / 2;
  const int64_t rows = common({p.row / 2, (p.row + down) / 2}, {0, height}).size();
  const int64_t columns = common({p.column / 2, (p.column + across) / 2}, {0, width}).size();
  const int64_t last = s.filters - column < kPanel<T> ? s.filters - column : kPanel<T>;
  const int64_t first = ((p.image * height + p.row / 2) * width + p.column / 2) * s.filters + column;
  const T* const bias = a.bias ? static_cast<const T*>(a.bias) + column : nullptr;
  alignas(64) T outputs[Whole::kTo * Whole::kTo * kL];
  Outputs<T> o;
  o.y = outputs;
  o.row = across * kL;
  o.column = kL;
  o.floor = splat<T>(a.activation == Activation::relu ? T(0) : -T(INFINITY));
  for (int64_t f = 0; f < last; f += kL) {
    const int64_t lanes = last - f < kL ? last - f : kL;
    o.start = bias ? load_lanes(bias + f, lanes) : Vec<T>{};
    write_outputs_of<T, Whole, Rest, false, false>(p.kind, o, m + f, step);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        const T* window = outputs + 2 * (i * o.row + j * o.column);
        Largest<T> best = {load(window), splat_place<T>(0)};
        meet(best, load(window + o.column), 1);
        meet(best, load(window + o.row), 2);
        meet(best, load(window + o.row + o.column), 3);
        const int64_t at = first + (i * width + j) * s.filters + f;
        store_lanes(static_cast<T*>(a.y) + at, best.value, lanes);
        if (a.where) store_places<T>(a.where + at, best.place, lanes);
      }
    }
  }
}

// Asks for what will be written of these tiles, a panel of it, and for the outputs it goes through.
template <class T>
RANVIER_INLINE void claim(const WinogradArgs& a, const Place* begin, const Place* end, int64_t out, int64_t column,
                          bool around) {
  const ConvGeometry& s = a.g;
  const int64_t by = a.pooled ? 2 : 1, height = s.out_height / by, width = s.out_width / by;
  const T* y = static_cast<const T*>(a.y);
  const T* kept = static_cast<const T*>(a.through);
  for (const Place* p = begin; p < end; ++p) {
    const int64_t columns = (wide(p->kind) ? out : 2) / by, last = (p->row + (tall(p->kind) ? out : 2)) / by;
    for (int64_t i = p->row / by; i < last && i < height; ++i) {
      int64_t at = ((p->image * height + i) * width + p->column / by) * s.filters + column;
      for (int64_t j = 0; j < columns; ++j, at += s.filters) {
        for (int64_t f = 0; f < kPanel<T>; f += kLine<T>) {
          if (!around) ask_to_write(y + at + f);
          if (kept) __builtin_prefetch(kept + at + f);
        }
        if (a.where) ask_to_write(a.where + at);
      }
    }
  }
}

template <class T>
void winograd(const WinogradArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& s = a.g;
  const Tiles tiles = tiles_of(s);
  const Groups groups = groups_of(tiles, s.filters);
  const Points at_v = patch_points<T>(groups, s.channels), at_m = product_points<T>(groups);
  const Image<T> x = image_of<T>(a.x, a.x_where, s.height, s.width, s.channels, s.pad_top, s.pad_left, tiles);
  const Scratch scratch = scratch_of<T>(groups.chunks, kPoints * (at_v.step + at_m.step));
  T* v = static_cast<T*>(a.scratch) + begin * scratch.step;
  T* m = v + kPoints * at_v.step;
  const bool around = streams<T>(a);
  const bool five = s.kernel_height == 5;
  const auto write =
      five ? write_tile<T, OutputLine<2, 5>, OutputLine<2, 5>> : write_tile<T, OutputLine<4, 3>, OutputLine<2, 3>>;
  const auto pool =
      five ? pool_tile<T, OutputLine<2, 5>, OutputLine<2, 5>> : pool_tile<T, OutputLine<4, 3>, OutputLine<2, 3>>;
  const auto finish = a.pooled ? pool : write;
  Place places[kGroupMost];
  Product products[kPoints];
  const int64_t parts = groups.groups * groups.parts, panels = chunks_of(s.filters, kPanel<T>);
  const int64_t u_panel = kPoints * kernel_step<T>(s.channels);
  Range group = {};
  int n = 0;
  for (int64_t i = parts * begin / groups.chunks, of = -1; i < parts * end / groups.chunks; ++i) {
    const int64_t g = i / groups.parts;
    if (g != of) {
      of = g;
      group = {cut(tiles, g, groups.groups), cut(tiles, g + 1, groups.groups)};
      find_places(tiles, group, places);
      n = products_of(tiles, group, products);
      transform_tiles<T, PatchLine<6>, PatchLine<4>>(v, at_v, x, places, group.size(), 0, at_v.row);
    }
    const int64_t count = group.size(), share = chunks_of(count, n);
    const Range own = part(panels, i - g * groups.parts, groups.parts);
    for (int64_t panel = own.begin; panel < own.end; ++panel) {
      const int64_t column = panel * kPanel<T>;
      multiply(m, at_m, v, at_v, static_cast<const T*>(a.u) + panel * u_panel, products, n, s.channels,
               [&](int k) __attribute__((always_inline)) {
                 const int64_t from = k * share, to = from + share < count ? from + share : count;
                 claim<T>(a, places + from, places + to, tiles.out, column, around);
               });
      for (int64_t t = 0; t < count; ++t) {
        finish(a, places[t], column, m + t * at_m.row, at_m.step, around);
      }
    }
  }
  if (around) stream_end();
}

// --- the kernel's gradient -------------------------------------------------------------------------------------------
// The sum over tiles is cut three ways: into blocks of channels and of filters, whose sums fit the second-level cache,
// and, where that leaves few chunks, into runs of tiles, each with sums of its own (parts) for winograd_sum to add.

constexpr int64_t kGradientGroup = 112, kShortRun = 20, kBlockChannels = 64, kBlockFilters = 64, kWantedChunks = 16;

struct GradientBlocks {
  int64_t panels, across, channels;  // of the filters; blocks of them; blocks of the channels
  int64_t runs, chunks;              // of tiles
  int64_t group;                     // tiles at a time
  Points at_x, at_dy;                // (36, group, channels of a block) and (36, group, panel)
  int64_t scratch;                   // elements of a chunk
};
template <class T>
RANVIER_INLINE GradientBlocks gradient_blocks(const ConvGeometry& g) {
  GradientBlocks b;
  const Tiles tiles = tiles_of(g);
  b.panels = chunks_of(g.filters, kPanel<T>);
  b.across = chunks_of(b.panels, kBlockFilters / kPanel<T>);
  b.channels = chunks_of(g.channels, kBlockChannels);
  const int64_t blocks = b.across * b.channels, most = chunks_of(tiles.work, 2 * kGradientGroup * kPoints);
  b.runs = chunks_of(kWantedChunks, blocks);
  if (b.runs > most) b.runs = most;
  if (b.runs > 1) b.runs += b.runs % 2;
  if (b.runs < 1) b.runs = 1;
  // A single chunk is halved for a second thread: into runs, each of which goes through all sums; where they would be
  // short, by filters or by channels, though each half transforms the other operand for itself.
  if (b.runs * blocks == 1) {
    if (tiles.work > 2 * kShortRun * kPoints) {
      b.runs = 2;
    } else if (b.panels > 1) {
      b.across = 2;
    } else if (g.channels >= kBlockChannels / 2) {
      b.channels = 2;
    }
  }
  b.chunks = b.across * b.channels * b.runs;
  const int64_t run = most_tiles(tiles, b.runs);
  b.group = run < kGradientGroup ? run : kGradientGroup;
  const int64_t row = whole_vectors<T>(chunks_of(g.channels, b.channels));
  b.at_x = {b.group * row + kLine<T>, row};
  b.at_dy = {b.group * kPanel<T> + kLine<T>, kPanel<T>};
  b.scratch = kPoints * (b.at_x.step + b.at_dy.step);
  return b;
}

// du (36, channels, panel) (+)= v (36, tiles, channels)^T times a panel of d (36, tiles, panel); du's channels lie
// `step` apart from point to point.
template <class T>
void multiply_gradient(T* du, const T* v, Points at_v, const T* d, Points at_d, int64_t tiles, int64_t channels,
                       bool go_on) {
  const int64_t parts = chunks_of(channels, kRows);
  Tile<T> t = {};
  t.c_row = kPanel<T>;
  t.a_row = 1;
  t.a_column = at_v.row;
  t.b_row = at_d.row;
  t.depth = tiles;
  t.lanes = kLanes<T>;
  t.go_on = go_on;
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t row = channels * i / parts, rows = channels * (i + 1) / parts - row;
    t.a = v + row;
    t.b = d;
    t.c = du + row * kPanel<T>;
    tile_at<T>(rows, 2, t, true);
  }
}

template <class T>
void winograd_gradient(const WinogradGradientArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const Tiles tiles = tiles_of(g);
  const GradientBlocks b = gradient_blocks<T>(g);
  const Image<T> x = image_of<T>(a.x, nullptr, g.height, g.width, g.channels, g.pad_top, g.pad_left, tiles);
  const Image<T> dy = image_of<T>(a.dy, a.dy_where, g.out_height, g.out_width, g.filters, 0, 0, tiles);
  T* v = static_cast<T*>(a.scratch) + begin * scratch_of<T>(b.chunks, b.scratch).step;
  T* d = v + kPoints * b.at_x.step;
  const int64_t point = g.channels * kPanel<T>, sums_of_run = b.panels * kPoints * point;
  const bool five = g.kernel_height == 5;
  const auto transform_dy = five ? transform_tiles<T, GradientLine<2, 5>, GradientLine<2, 5>>
                                 : transform_tiles<T, GradientLine<4, 3>, GradientLine<2, 3>>;
  const auto transform_and_sum_dy = five ? transform_tiles<T, GradientLine<2, 5>, GradientLine<2, 5>, true>
                                         : transform_tiles<T, GradientLine<4, 3>, GradientLine<2, 3>, true>;
  Place places[kGradientGroup];
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t run = chunk / (b.across * b.channels), block = chunk - run * b.across * b.channels;
    // in the order of winograd_sum's chunks: whoever makes the sums of some filters adds them up
    const int64_t block_f = block / b.channels, block_c = block - block_f * b.channels;
    const int64_t c0 = g.channels * block_c / b.channels, c1 = g.channels * (block_c + 1) / b.channels;
    const int64_t panel_0 = b.panels * block_f / b.across, panel_1 = b.panels * (block_f + 1) / b.across;
    const int64_t first = cut(tiles, run, b.runs), count = cut(tiles, run + 1, b.runs) - first;
    T* du = static_cast<T*>(a.parts) + run * sums_of_run + c0 * kPanel<T>;
    T* sums = nullptr;
    if (a.bias && block_c == 0) {
      sums = static_cast<T*>(a.parts) + b.runs * sums_of_run + (run * b.panels + panel_0) * kPanel<T>;
      for (int64_t f = 0; f < (panel_1 - panel_0) * kPanel<T>; f += kLanes<T>) store(sums + f, Vec<T>{});
    }
    // Even groups: in one of few tiles the sums go to and fro for little. Without tiles, one that sets them to zero.
    const int64_t groups = count > 0 ? chunks_of(count, b.group) : 1;
    for (int64_t i = 0; i < groups; ++i) {
      const Range group = {first + count * i / groups, first + count * (i + 1) / groups};
      find_places(tiles, group, places);
      transform_tiles<T, PatchLine<6>, PatchLine<4>>(v, b.at_x, x, places, group.size(), c0, whole_vectors<T>(c1 - c0));
      for (int64_t panel = panel_0; panel < panel_1; ++panel) {
        (sums ? transform_and_sum_dy : transform_dy)(d, b.at_dy, dy, places, group.size(), panel * kPanel<T>, kPanel<T>,
                                                     sums ? sums + (panel - panel_0) * kPanel<T> : nullptr);
        for (int k = 0; k < kPoints; ++k) {
          const Range with = tiles_with(tiles, k, group);
          if (i > 0 && with.size() == 0) continue;
          multiply_gradient(du + (panel * kPoints + k) * point, v + k * b.at_x.step + with.begin * b.at_x.row, b.at_x,
                            d + k * b.at_dy.step + with.begin * b.at_dy.row, b.at_dy, with.size(), c1 - c0, i > 0);
        }
      }
    }
  }
}

// dw (+)= G^T (the sum of the parts) G, and db (+)= the sum of its parts. Chunks: kSumChannels channels of a panel:
// they lie side by side.
constexpr int64_t kSumChannels = 8;
template <class T, int taps>
void winograd_sum_of(const WinogradSumArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const GradientBlocks b = gradient_blocks<T>(g);
  const int64_t point = g.channels * kPanel<T>, part = b.panels * kPoints * point, tap = g.channels * g.filters;
  const int64_t blocks = chunks_of(g.channels, kSumChannels);
  alignas(64) T sums[kPoints * kSumChannels * kPanel<T>];
  constexpr int64_t step = kSumChannels * kPanel<T>;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t panel = chunk / blocks, first = (chunk - panel * blocks) * kSumChannels;
    const int64_t channels = g.channels - first < kSumChannels ? g.channels - first : kSumChannels;
    for (int k = 0; k < kPoints; ++k) {
      const T* from = static_cast<const T*>(a.parts) + (panel * kPoints + k) * point + first * kPanel<T>;
      for (int64_t i = 0; i < channels * kPanel<T>; i += kLanes<T>) {
        Vec<T> total = load(from + i);
        for (int64_t run = 1; run < b.runs; ++run) total += load(from + run * part + i);
        store(sums + k * step + i, total);
      }
    }
    const int64_t filter = panel * kPanel<T>, filters = g.filters - filter < kPanel<T> ? g.filters - filter : kPanel<T>;
    if (a.db && first == 0) {
      T* db = static_cast<T*>(a.db) + filter;
      const T* from = static_cast<const T*>(a.parts) + b.runs * part + filter;
      for_lanes<T>(0, filters, [=](int64_t f, int64_t lanes) __attribute__((always_inline)) {
        Vec<T> total = a.add_db ? load_lanes(db + f, lanes) : Vec<T>{};
        for (int64_t run = 0; run < b.runs; ++run) total += load(from + run * b.panels * kPanel<T> + f);
        store_lanes(db + f, total, lanes);
      });
    }
    for (int64_t c = 0; c < channels; ++c) {
      T* to = static_cast<T*>(a.dw) + (first + c) * g.filters + filter;
      for_lanes<T>(0, filters, [&](int64_t f, int64_t lanes) __attribute__((always_inline)) {
        const T* from = sums + c * kPanel<T> + f;
        both_ways<T, KernelGradientLine<taps>, KernelGradientLine<taps>>(
            [=](int i, int j) __attribute__((always_inline)) { return load(from + (i * kLinePoints + j) * step); },
            [=](int i, int j, Vec<T> v) __attribute__((always_inline)) {
              T* at = to + (taps * i + j) * tap + f;
              if (a.add_dw) v += load_lanes(at, lanes);
              store_lanes(at, v, lanes);
            });
      });
    }
  }
}

template <class T>
void winograd_sum(const WinogradSumArgs& a, int64_t begin, int64_t end) {
  a.g.kernel_height == 5 ? winograd_sum_of<T, 5>(a, begin, end) : winograd_sum_of<T, 3>(a, begin, end);
}

// --- what they need --------------------------------------------------------------------------------------------------

template <class T>
WinogradPlan winograd_plan(const ConvGeometry& g) {
  const Groups groups = groups_of(tiles_of(g), g.filters);
  const int64_t panels = chunks_of(g.filters, kPanel<T>);
  const GradientBlocks blocks = gradient_blocks<T>(g);
  WinogradPlan plan;
  plan.points = tiles_of(g).work;
  plan.kernel = panels * kPoints * kernel_step<T>(g.channels);
  plan.kernel_chunks = panels * chunks_of(g.channels, kLanes<T>);
  plan.chunks = groups.chunks;
  const int64_t own = kPoints * (patch_points<T>(groups, g.channels).step + product_points<T>(groups).step);
  plan.scratch = scratch_of<T>(groups.chunks, own).size;
  plan.gradient_chunks = blocks.chunks;
  plan.gradient_scratch = scratch_of<T>(blocks.chunks, blocks.scratch).size;
  plan.parts = blocks.runs * (kPoints * g.channels + 1) * panels * kPanel<T>;
  plan.sum_chunks = panels * chunks_of(g.channels, kSumChannels);
  return plan;
}

// --- the kernel ------------------------------------------------------------------------------------------------------

// u (panels, 36, channels, panel). Chunks: a vector's width of channels of a panel.
template <class T, int taps>
void winograd_kernel_of(const WinogradKernelArgs& a, int64_t begin, int64_t end) {
  constexpr int64_t kL = kLanes<T>, kTaps = taps * taps;
  const int64_t blocks = chunks_of(a.channels, kL);
  const T* w = static_cast<const T*>(a.w);
  const int64_t tap = a.channels * a.filters, step = kernel_step<T>(a.channels);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t panel = chunk / blocks, channel = (chunk - panel * blocks) * kL;
    const int64_t channels = a.channels - channel < kL ? a.channels - channel : kL;
    for (int64_t v = 0; v < 2; ++v) {
      const int64_t filter = panel * kPanel<T> + v * kL, left = a.filters - filter;
      const int64_t filters = left < kL ? (left < 0 ? 0 : left) : kL;
      Vec<T> kernel[kTaps][kL];  // of a channel, for a vector of filters
      for (int64_t k = 0; k < kTaps; ++k) {
        if (!a.turned) {
          for (int64_t c = 0; c < channels; ++c) {
            kernel[k][c] = load_n(w + k * tap + (channel + c) * a.filters + filter, filters);
          }
          continue;
        }
        Vec<T> square[kL];  // w is (taps, taps, filters, channels) and the last tap the first
#pragma GCC unroll 16
        for (int64_t f = 0; f < kL; ++f) {
          square[f] =
              load_n(w + (kTaps - 1 - k) * tap + (filter + f) * a.channels + channel, f < filters ? channels : 0);
        }
        transpose_square<T>(square);
        for (int64_t c = 0; c < kL; ++c) kernel[k][c] = square[c];
      }
      T* to = static_cast<T*>(a.u) + panel * kPoints * step + channel * kPanel<T> + v * kL;
      for (int64_t c = 0; c < channels; ++c, to += kPanel<T>) {
        both_ways<T, KernelLine<taps>, KernelLine<taps>>(
            [&](int i, int j) __attribute__((always_inline)) { return kernel[taps * i + j][c]; },
            [=](int i, int j, Vec<T> x)
                __attribute__((always_inline)) { store(to + (i * kLinePoints + j) * step, x); });
      }
    }
  }
}

template <class T>
void winograd_kernel(const WinogradKernelArgs& a, int64_t begin, int64_t end) {
  a.taps == 5 ? winograd_kernel_of<T, 5>(a, begin, end) : winograd_kernel_of<T, 3>(a, begin, end);
}

}  // namespace

void fill_winograd(KernelTable& table) {
  table.winograd_plan[0] = winograd_plan<float>;
  table.winograd_plan[1] = winograd_plan<double>;
  table.winograd = typed(WinogradArgs, winograd);
  table.winograd_kernel = typed(WinogradKernelArgs, winograd_kernel);
  table.winograd_gradient = typed(WinogradGradientArgs, winograd_gradient);
  table.winograd_sum = typed(WinogradSumArgs, winograd_sum);
}

}  // namespace ranvier::RANVIER_TIER
