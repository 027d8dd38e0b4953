// Convolution with 3x3 kernels by Winograd's minimal filtering F(4x4, 3x3) (Winograd, Arithmetic Complexity of
// Computations, 1980; Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016). A tile of 4x4 outputs
// is a polynomial product evaluated at the points 0, a, -a, b, -b and infinity, in both directions:
//   y  = A^T [ (G w G^T) * (B^T x B) ] A         36 multiplications a tile, channel and filter instead of 144
//   dw = G^T [ sum of (B^T x B) * (A dy A^T) ] G  the transposed map
//   dx = y's formula with dy for x and w turned round and transposed
// where x is a patch of 6x6. Summed over channels, the 36 products are 36 matrix products: of the patches of a group of
// tiles, V (tiles, channels), by the transformed kernel, U (channels, filters). Nothing of a group leaves the caches.
//
// The points are not the usual 0, 1, -1, 2, -2: with a = 5/8 and b = 3/2 the constants are just as exact in binary, and
// the largest error is four times smaller (measured; on better points: Alam et al., 2022, Winograd Convolution for Deep
// Neural Networks: Efficient Point Selection).
#include "kernels/gemm.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

constexpr int64_t kTilesAhead = 2;  // whose patches are asked for
template <class T>
constexpr int64_t kLine = 64 / sizeof(T);  // of the cache
constexpr int kOut = 4, kPatch = 6, kPoints = kPatch * kPatch;
constexpr double kA = 0.625, kB = 1.5, kA2 = kA * kA, kB2 = kB * kB, kA3 = kA2 * kA, kB3 = kB2 * kB;

// --- the transformations, along one dimension ------------------------------------------------------------------------
// Row p of A^T's transpose is (1, p, p^2, p^3), of G (1, p, p^2) / N(p), of B^T the product of (z - q) over the other
// points q, in powers of z; N is that product at p.

template <class T>
RANVIER_INLINE Vec<T> fma(double a, Vec<T> b, Vec<T> c) {
  return fma(splat<T>(T(a)), b, c);
}

// t = B^T d
struct PatchLine {
  static constexpr int kFrom = kPatch, kTo = kPatch;
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* d, Vec<T>* t) {
    pair<T, 0>(d, t[0], t[5]);
    pair<T, 1>(d, t[1], t[2]);
    pair<T, 2>(d, t[3], t[4]);
  }
  template <class T, int which>  // t[0] and t[5], t[1] and t[2], or t[3] and t[4]
  RANVIER_INLINE void pair(const Vec<T>* d, Vec<T>& first, Vec<T>& second) {
    if constexpr (which == 0) {
      first = fma<T>(kA2 * kB2, d[0], fma<T>(-(kA2 + kB2), d[2], d[4]));
      second = fma<T>(kA2 * kB2, d[1], fma<T>(-(kA2 + kB2), d[3], d[5]));
    } else {
      constexpr double p = which == 1 ? kA : kB, q2 = which == 1 ? kB2 : kA2;
      const Vec<T> even = fma<T>(-q2, d[2], d[4]), odd = fma<T>(-q2, d[1], d[3]);
      first = fma<T>(p, odd, even);
      second = fma<T>(-p, odd, even);
    }
  }
};

// y = A^T m
struct OutputLine {
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* m, Vec<T>* y) {
    pair<T, 0>(m, y[0], y[2]);
    pair<T, 1>(m, y[1], y[3]);
  }
  template <class T, int which>  // y[0] and y[2], or y[1] and y[3]
  RANVIER_INLINE void pair(const Vec<T>* m, Vec<T>& first, Vec<T>& second) {
    if constexpr (which == 0) {
      const Vec<T> even_a = m[1] + m[2], even_b = m[3] + m[4];
      first = m[0] + even_a + even_b;
      second = fma<T>(kB2, even_b, T(kA2) * even_a);
    } else {
      const Vec<T> odd_a = m[1] - m[2], odd_b = m[3] - m[4];
      first = fma<T>(kB, odd_b, T(kA) * odd_a);
      second = fma<T>(kB3, odd_b, fma<T>(kA3, odd_a, m[5]));
    }
  }
};

// m = A dy
struct GradientLine {
  static constexpr int kFrom = kOut, kTo = kPatch;
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* y, Vec<T>* m) {
    const Vec<T> even_a = fma<T>(kA2, y[2], y[0]), odd_a = fma<T>(kA3, y[3], T(kA) * y[1]);
    const Vec<T> even_b = fma<T>(kB2, y[2], y[0]), odd_b = fma<T>(kB3, y[3], T(kB) * y[1]);
    m[0] = y[0];
    m[1] = even_a + odd_a;
    m[2] = even_a - odd_a;
    m[3] = even_b + odd_b;
    m[4] = even_b - odd_b;
    m[5] = y[3];
  }
};

constexpr double kN0 = 1 / (kA2 * kB2), kNa = 1 / (2 * kA2 * (kA2 - kB2)), kNb = 1 / (2 * kB2 * (kB2 - kA2));

// u = G w
struct KernelLine {
  static constexpr int kFrom = 3, kTo = kPatch;
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* w, Vec<T>* u) {
    const Vec<T> even_a = fma<T>(kNa * kA2, w[2], T(kNa) * w[0]), odd_a = T(kNa * kA) * w[1];
    const Vec<T> even_b = fma<T>(kNb * kB2, w[2], T(kNb) * w[0]), odd_b = T(kNb * kB) * w[1];
    u[0] = T(kN0) * w[0];
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
    u[5] = w[2];
  }
};

// dw = G^T du
struct KernelGradientLine {
  static constexpr int kFrom = kPatch, kTo = 3;
  template <class T>
  RANVIER_INLINE void apply(const Vec<T>* u, Vec<T>* w) {
    const Vec<T> even_a = u[1] + u[2], odd_a = u[1] - u[2], even_b = u[3] + u[4], odd_b = u[3] - u[4];
    w[0] = fma<T>(kNb, even_b, fma<T>(kNa, even_a, T(kN0) * u[0]));
    w[1] = fma<T>(kNb * kB, odd_b, T(kNa * kA) * odd_a);
    w[2] = fma<T>(kNb * kB2, even_b, fma<T>(kNa * kA2, even_a, u[5]));
  }
};

// Along both: columns first. at(i, j) gives an element, put(i, j, v) takes one.
template <class T, class Line, class At, class Put>
RANVIER_INLINE void both_ways(At at, Put put) {
  constexpr int kFrom = Line::kFrom, kTo = Line::kTo;
  Vec<T> half[kTo][kFrom];
#pragma GCC unroll 6
  for (int j = 0; j < kFrom; ++j) {
    Vec<T> in[kFrom], out[kTo];
#pragma GCC unroll 6
    for (int i = 0; i < kFrom; ++i) in[i] = at(i, j);
    Line::template apply<T>(in, out);
#pragma GCC unroll 6
    for (int i = 0; i < kTo; ++i) half[i][j] = out[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < kTo; ++i) {
    Vec<T> out[kTo];
    Line::template apply<T>(half[i], out);
#pragma GCC unroll 6
    for (int j = 0; j < kTo; ++j) put(i, j, out[j]);
  }
}

// --- tiles -----------------------------------------------------------------------------------------------------------

// Tiles of outputs, row by row through the batch.
struct Tiles {
  int64_t down, across, count;
};
RANVIER_INLINE Tiles tiles_of(const ConvGeometry& s) {
  const int64_t down = chunks_of(s.out_height, kOut), across = chunks_of(s.out_width, kOut);
  return {down, across, s.batch * down * across};
}

struct Place {
  int64_t image, row, column;  // of the tile's first output
};
RANVIER_INLINE Place place_of(const Tiles& tiles, int64_t tile) {
  const int64_t line = tile / tiles.across, image = line / tiles.down;
  return {image, (line - image * tiles.down) * kOut, (tile - line * tiles.across) * kOut};
}
RANVIER_INLINE void next(const Tiles& tiles, Place& p) {
  p.column += kOut;
  if (p.column < tiles.across * kOut) return;
  p.column = 0;
  p.row += kOut;
  if (p.row < tiles.down * kOut) return;
  p.row = 0;
  ++p.image;
}

template <class T>
struct Image {
  const T* data;  // (batch, height, width, channels)
  int64_t height, width, channels;
  int64_t up, left;  // from a tile's first output to its patch's first element
};

// How a group's tiles lie in scratch: (panels, 36, tiles, columns of a panel), or one panel of all columns.
struct Points {
  int64_t step, row;  // elements from point to point, from tile to tile: the columns of a panel
  int64_t panel;      // elements from panel to panel
};

// Two rows of B^T d B at a time, which with what they are made of fit into the registers.
template <class T, int which>
RANVIER_INLINE void transform_rows(T* to, int64_t step, const T* from, int64_t row, int64_t column) {
  constexpr int kFirst[] = {0, 1, 3}, kSecond[] = {5, 2, 4};
  Vec<T> half[2][kPatch], out[kPatch];
#pragma GCC unroll 6
  for (int j = 0; j < kPatch; ++j) {
    Vec<T> d[kPatch];
#pragma GCC unroll 6
    for (int i = 0; i < kPatch; ++i) d[i] = load(from + i * row + j * column);
    PatchLine::pair<T, which>(d, half[0][j], half[1][j]);
  }
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    T* line = to + (h ? kSecond : kFirst)[which] * kPatch * step;
    PatchLine::apply<T>(half[h], out);
#pragma GCC unroll 6
    for (int j = 0; j < kPatch; ++j) store(line + j * step, out[j]);
  }
}

// One patch and a vector of channels. Not inline: in a loop, the compiler would keep 72 offsets on the stack.
template <class T, class Line>
__attribute__((noinline)) void transform_patch(T* to, int64_t step, const T* from, int64_t row, int64_t column) {
  if constexpr (Line::kFrom == kPatch) {
    transform_rows<T, 0>(to, step, from, row, column);
    transform_rows<T, 1>(to, step, from, row, column);
    transform_rows<T, 2>(to, step, from, row, column);
  } else {
    both_ways<T, Line>([=](int i, int j) __attribute__((always_inline)) { return load(from + i * row + j * column); },
                       [=](int i, int j, Vec<T> v)
                           __attribute__((always_inline)) { store(to + (i * kPatch + j) * step, v); });
  }
}

// The part [low, high) of `size` that lies inside an image, counted from `first`.
struct Inside {
  int64_t low, high;
};
RANVIER_INLINE Inside inside(int64_t first, int64_t size, int64_t image) {
  const int64_t high = image - first < size ? image - first : size;
  return {first < 0 ? -first : 0, high};
}

// Asks for what tile p's patch has and the tiles before it and above it have not.
template <class T>
RANVIER_INLINE void fetch(const Image<T>& x, const Place& p, int64_t size, int64_t first, int64_t columns) {
  const int64_t skip = size - kOut, i0 = p.row - x.up + skip, j0 = p.column - x.left + skip;
  for (int64_t i = i0; i < i0 + kOut && i < x.height; ++i) {
    const T* pixel = x.data + ((p.image * x.height + i) * x.width + j0) * x.channels + first;
    for (int64_t j = 0; j < kOut; ++j, pixel += x.channels) {
      for (int64_t c = 0; c < columns; c += kLine<T>) __builtin_prefetch(pixel + c);
    }
  }
}

// to (36, tiles, columns) = the transformed patches of tiles [begin, end), channels [first, first + columns); columns
// is a multiple of a vector. There are zeros around the image and in channels past the last. sums (columns) += all of
// x that is in the patches.
template <class T, class Line>
void transform_tiles(T* to, Points at, const Image<T>& x, const Tiles& tiles, int64_t begin, int64_t end, int64_t first,
                     int64_t columns, T* sums = nullptr) {
  constexpr int kSize = Line::kFrom, kL = kLanes<T>;
  const int64_t column = x.channels, row = x.width * column;
  alignas(64) T patch[kSize * kSize * kL];  // with its zeros
  Place p = place_of(tiles, begin), soon = place_of(tiles, begin + kTilesAhead);
  for (int64_t tile = begin; tile < end; ++tile, to += at.row, next(tiles, p), next(tiles, soon)) {
    fetch(x, soon, kSize, first, columns);
    const int64_t i = p.row - x.up, j = p.column - x.left;
    const Inside rows = inside(i, kSize, x.height), cols = inside(j, kSize, x.width);
    const T* from = x.data + ((p.image * x.height + i) * x.width + j) * column + first;
    const bool whole = rows.low == 0 && cols.low == 0 && rows.high == kSize && cols.high == kSize;
    T* at_c = to;
    for (int64_t c = 0, of_panel = 0; c < columns; c += kL, of_panel += kL, at_c += kL) {
      if (of_panel == at.row) {
        of_panel = 0;
        at_c += at.panel - at.row;
      }
      const int64_t left = x.channels - first - c, lanes = left < kL ? (left < 0 ? 0 : left) : kL;
      if (sums) {
        Vec<T> total = {};
        for (int64_t k = rows.low; k < rows.high; ++k) {
          for (int64_t l = cols.low; l < cols.high; ++l) total += load_lanes(from + k * row + l * column + c, lanes);
        }
        store(sums + c, load(sums + c) + total);
      }
      if (whole && lanes == kL) {
        transform_patch<T, Line>(at_c, at.step, from + c, row, column);
        continue;
      }
      for (int k = 0; k < kSize; ++k) {
        T* line = patch + k * kSize * kL;
        for (int l = 0; l < kSize; ++l) store(line + l * kL, Vec<T>{});
        if (k < rows.low || k >= rows.high) continue;
        for (int64_t l = cols.low; l < cols.high; ++l) {
          store(line + l * kL, load_lanes(from + k * row + l * column + c, lanes));
        }
      }
      transform_patch<T, Line>(at_c, at.step, patch, kSize * kL, kL);
    }
  }
}

// --- forward, and the gradient of the input --------------------------------------------------------------------------

// Two tiles of the matrix product, or more where they are small: as many as a group's data may have for the
// second-level cache, and enough to make up for reading U.
constexpr int64_t kGroup = kRows * (28 / kRows);
constexpr int64_t kMaxChunks = 64;  // each has its own scratch

template <class T>
RANVIER_INLINE int64_t whole_vectors(int64_t n) {
  return chunks_of(n, kLanes<T>) * kLanes<T>;
}

struct Groups {
  int64_t groups, chunks, size;  // of tiles; of groups; tiles of the largest group
};
RANVIER_INLINE Groups groups_of(int64_t tiles, int64_t most) {
  Groups g;
  g.groups = chunks_of(tiles, most);
  if (g.groups > 1) g.groups += g.groups % 2;  // even work for an even number of threads
  g.size = g.groups ? chunks_of(tiles, g.groups) : 0;
  g.chunks = g.groups < kMaxChunks ? g.groups : kMaxChunks;
  return g;
}
// From point to point it is a line further than need be: distances of powers of two would share few sets of the cache.
template <class T>
RANVIER_INLINE Points patch_points(const Groups& g, int64_t channels) {
  const int64_t row = whole_vectors<T>(channels);
  return {g.size * row + kLine<T>, row, 0};
}
template <class T>
RANVIER_INLINE Points product_points(const Groups& g) {
  return {g.size * kPanel<T> + kLine<T>, kPanel<T>, 0};
}

// m (36, tiles, panel) = v (36, tiles, channels) times a panel of u (36, channels, panel). meanwhile(i, n) is called
// n times on the way, to ask for what comes next.
template <class T, class Meanwhile>
void multiply(T* m, Points at_m, const T* v, Points at_v, const T* u, int64_t count, int64_t channels,
              Meanwhile meanwhile) {
  const int64_t tiles = chunks_of(count, kRows);
  Tile<T> t = {};
  t.c_row = at_m.row;
  t.a_row = at_v.row;
  t.a_column = 1;
  t.b_row = kPanel<T>;
  t.depth = channels;
  t.lanes = kLanes<T>;
  for (int k = 0; k < kPoints; ++k) {
    t.b = u + k * channels * kPanel<T>;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t row = count * i / tiles, rows = count * (i + 1) / tiles - row;
      t.a = v + k * at_v.step + row * at_v.row;
      t.c = m + k * at_m.step + row * at_m.row;
      t.ahead = t.b + (tiles + i) * (channels * kPanel<T> / tiles);  // a share of the next point's u
      t.ahead_step = kPanel<T> / tiles;
      tile_at<T>(rows, 2, t, true);
      meanwhile(k * tiles + i, kPoints * tiles);
    }
  }
}

// Whether y goes around the caches: where it is too large for them, reading its lines before writing them would cost as
// much again. A vector must be a line of the cache.
template <class T>
RANVIER_INLINE bool streams(const WinogradArgs& a) {
  constexpr int64_t kLarge = 16 << 20;
  const ConvGeometry& s = a.g;
  const int64_t pixel = s.filters * static_cast<int64_t>(sizeof(T));
  return kVectorBytes == 64 && a.activation <= Activation::relu && a.through_activation <= Activation::relu &&
         pixel % 64 == 0 && reinterpret_cast<uintptr_t>(a.y) % 64 == 0 &&
         s.batch * s.out_height * s.out_width * pixel >= kLarge;
}

// What becomes of a tile's outputs: y = max(A^T m A + start, floor), times relu's slope at `kept`.
template <class T>
struct Outputs {
  T* y;
  const T* kept;        // as y; null: nothing
  int64_t row, column;  // steps from pixel to pixel
  Vec<T> start, floor;
};

// Two columns of outputs at a time, which with what they are made of fit into the registers.
template <class T, int which, bool slopes, bool around>
RANVIER_INLINE void write_columns(const Outputs<T> o, const T* m, int64_t step) {
  Vec<T> half[2][kPatch], out[kOut];
#pragma GCC unroll 6
  for (int i = 0; i < kPatch; ++i) {
    Vec<T> line[kPatch];
#pragma GCC unroll 6
    for (int j = 0; j < kPatch; ++j) line[j] = load(m + (i * kPatch + j) * step);
    OutputLine::pair<T, which>(line, half[0][i], half[1][i]);
  }
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    OutputLine::apply<T>(half[h], out);
#pragma GCC unroll 4
    for (int i = 0; i < kOut; ++i) {
      const int64_t at = i * o.row + (2 * h + which) * o.column;
      Vec<T> v = at_least<T>(out[i] + o.start, o.floor);
      if constexpr (slopes) {
        const Vec<T> y = load(o.kept + at);
        v = v * slope<T, Activation::relu>(y, y, T(0));
      }
      if constexpr (around) {
        stream(o.y + at, v);
      } else {
        store(o.y + at, v);
      }
    }
  }
}

// A vector of filters. Not inline, as transform_patch.
template <class T, bool slopes, bool around>
__attribute__((noinline)) void write_outputs(const Outputs<T>& outputs, const T* m, int64_t step) {
  const Outputs<T> o = outputs;  // which no store changes
  write_columns<T, 0, slopes, around>(o, m, step);
  write_columns<T, 1, slopes, around>(o, m, step);
}

// y's columns [column, column + a panel) of one tile = f(A^T m A + bias)
template <class T>
void write_tile(const WinogradArgs& a, const Place& p, int64_t column, const T* m, int64_t step, bool past_caches) {
  constexpr int64_t kL = kLanes<T>;
  const ConvGeometry& s = a.g;
  const int64_t rows = s.out_height - p.row < kOut ? s.out_height - p.row : kOut;
  const int64_t columns = s.out_width - p.column < kOut ? s.out_width - p.column : kOut;
  const int64_t last = s.filters - column < kPanel<T> ? s.filters - column : kPanel<T>;
  const int64_t at = ((p.image * s.out_height + p.row) * s.out_width + p.column) * s.filters + column;
  const int64_t line = s.out_width * s.filters;
  T* const y = static_cast<T*>(a.y) + at;
  const T* const bias = a.bias ? static_cast<const T*>(a.bias) + column : nullptr;
  const bool slopes = a.through && a.through_activation == Activation::relu;
  const T* const kept = a.through ? static_cast<const T*>(a.through) + at : nullptr;
  alignas(64) T edge[kOut * kOut * kL];
  Outputs<T> o;
  o.floor = splat<T>(a.activation == Activation::relu ? T(0) : -T(INFINITY));
  for (int64_t f = 0; f < last; f += kL) {
    const int64_t lanes = last - f < kL ? last - f : kL;
    o.start = bias ? load_lanes(bias + f, lanes) : Vec<T>{};
    if (rows == kOut && columns == kOut && lanes == kL) {
      o.y = y + f;
      o.kept = kept + f;
      o.row = line;
      o.column = s.filters;
      if (slopes) {
        past_caches ? write_outputs<T, true, true>(o, m + f, step) : write_outputs<T, true, false>(o, m + f, step);
      } else {
        past_caches ? write_outputs<T, false, true>(o, m + f, step) : write_outputs<T, false, false>(o, m + f, step);
      }
      continue;
    }
    o.y = edge;
    o.row = kOut * kL;
    o.column = kL;
    write_outputs<T, false, false>(o, m + f, step);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        const int64_t pixel = i * line + j * s.filters + f;
        Vec<T> v = load(edge + (i * kOut + j) * kL);
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

// A line of memory that will be written: without, each store would first wait for it.
RANVIER_INLINE void ask_to_write(const void* p) {
#if defined(__x86_64__)
  __asm__ volatile("prefetchw %0" : : "m"(*static_cast<const char*>(p)));  // the compiler's needs a flag
#else
  __builtin_prefetch(p, 1);
#endif
}

// Asks for lines [begin, end), four to a tile, of what will be written of tiles from `tile` on, a panel of it, and of
// the outputs it goes through.
template <class T>
RANVIER_INLINE void claim(const WinogradArgs& a, const Tiles& tiles, int64_t tile, int64_t begin, int64_t end,
                          int64_t column, bool past_caches) {
  const ConvGeometry& s = a.g;
  const T* y = static_cast<const T*>(a.y);
  const T* kept = static_cast<const T*>(a.through);
  for (int64_t line = begin; line < end; ++line) {
    const Place p = place_of(tiles, tile + line / kOut);
    const int64_t row = p.row + line % kOut;
    if (row >= s.out_height) continue;
    const int64_t pixel = ((p.image * s.out_height + row) * s.out_width + p.column) * s.filters + column;
    for (int64_t j = 0; j < kOut; ++j) {
      for (int64_t f = 0; f < kPanel<T>; f += kLine<T>) {
        const int64_t at = pixel + j * s.filters + f;
        if (!past_caches) ask_to_write(y + at);
        if (kept) __builtin_prefetch(kept + at);
      }
    }
  }
}

template <class T>
void winograd(const WinogradArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& s = a.g;
  const Tiles tiles = tiles_of(s);
  const Groups groups = groups_of(tiles.count, kGroup);
  const Points at_v = patch_points<T>(groups, s.channels), at_m = product_points<T>(groups);
  const Image<T> x = {static_cast<const T*>(a.x), s.height, s.width, s.channels, s.pad_top, s.pad_left};
  // Only this call has chunk `begin`: its scratch serves all.
  T* v = static_cast<T*>(a.scratch) + begin * kPoints * (at_v.step + at_m.step);
  T* m = v + kPoints * at_v.step;
  const bool past_caches = streams<T>(a);
  for (int64_t g = groups.groups * begin / groups.chunks; g < groups.groups * end / groups.chunks; ++g) {
    const int64_t first = tiles.count * g / groups.groups, last = tiles.count * (g + 1) / groups.groups;
    transform_tiles<T, PatchLine>(v, at_v, x, tiles, first, last, 0, at_v.row);
    const int64_t lines = (last - first) * kOut;
    for (int64_t column = 0; column < s.filters; column += kPanel<T>) {
      multiply(m, at_m, v, at_v, static_cast<const T*>(a.u) + column * kPoints * s.channels, last - first, s.channels,
               [&](int64_t i, int64_t n) __attribute__((always_inline)) {
                 claim<T>(a, tiles, first, lines * i / n, lines * (i + 1) / n, column, past_caches);
               });
      Place p = place_of(tiles, first);
      for (int64_t t = 0; t < last - first; ++t, next(tiles, p)) {
        write_tile(a, p, column, m + t * at_m.row, at_m.step, past_caches);
      }
    }
  }
  if (past_caches) stream_end();
}

// --- the kernel's gradient -------------------------------------------------------------------------------------------
// The sum over tiles is cut three ways: into blocks of channels and of filters, whose sums fit the second-level cache,
// and, where that leaves few chunks, into runs of tiles, each with sums of its own (parts) for winograd_sum to add.

constexpr int64_t kGradientGroup = 112, kBlockChannels = 64, kBlockFilters = 64, kWantedChunks = 16;

struct GradientBlocks {
  int64_t panels, across, channels;  // of the filters; blocks of them; blocks of the channels
  int64_t runs, chunks;              // of tiles
  int64_t group;                     // tiles at a time
  Points at_x, at_dy;                // (36, group, channels of a block) and, panel by panel, (36, group, panel)
  int64_t scratch;                   // elements of a chunk
};
template <class T>
RANVIER_INLINE GradientBlocks gradient_blocks(const ConvGeometry& g) {
  GradientBlocks b;
  const int64_t tiles = tiles_of(g).count;
  b.panels = chunks_of(g.filters, kPanel<T>);
  b.across = chunks_of(b.panels, kBlockFilters / kPanel<T>);
  b.channels = chunks_of(g.channels, kBlockChannels);
  const int64_t blocks = b.across * b.channels, most = chunks_of(tiles, 2 * kGradientGroup);
  b.runs = chunks_of(kWantedChunks, blocks);
  if (b.runs > most) b.runs = most;
  if (b.runs > 1) b.runs += b.runs % 2;
  if (b.runs < 1) b.runs = 1;
  b.chunks = blocks * b.runs;
  const int64_t run = chunks_of(tiles, b.runs);  // even groups: in one of few tiles the sums go to and fro for little
  b.group = tiles > 0 ? chunks_of(run, chunks_of(run, kGradientGroup)) : 0;
  const int64_t row = whole_vectors<T>(chunks_of(g.channels, b.channels));
  b.at_x = {b.group * row + kLine<T>, row, 0};
  b.at_dy = {b.group * kPanel<T> + kLine<T>, kPanel<T>, 0};
  b.at_dy.panel = kPoints * b.at_dy.step;
  b.scratch = kPoints * b.at_x.step + chunks_of(b.panels, b.across) * b.at_dy.panel;
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
  const Image<T> x = {static_cast<const T*>(a.x), g.height, g.width, g.channels, g.pad_top, g.pad_left};
  const Image<T> dy = {static_cast<const T*>(a.dy), g.out_height, g.out_width, g.filters, 0, 0};
  T* v = static_cast<T*>(a.scratch) + begin * b.scratch;  // only this call has chunk `begin`
  T* d = v + kPoints * b.at_x.step;
  const int64_t point = g.channels * kPanel<T>, part = b.panels * kPoints * point;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t run = chunk / (b.across * b.channels), block = chunk - run * b.across * b.channels;
    const int64_t block_c = block / b.across, block_f = block - block_c * b.across;
    const int64_t c0 = g.channels * block_c / b.channels, c1 = g.channels * (block_c + 1) / b.channels;
    const int64_t panel_0 = b.panels * block_f / b.across, panel_1 = b.panels * (block_f + 1) / b.across;
    const int64_t first = tiles.count * run / b.runs, last = tiles.count * (run + 1) / b.runs;
    T* du = static_cast<T*>(a.parts) + run * part + c0 * kPanel<T>;
    T* sums = nullptr;
    if (a.bias && block_c == 0) {
      sums = static_cast<T*>(a.parts) + b.runs * part + (run * b.panels + panel_0) * kPanel<T>;
      for (int64_t f = 0; f < (panel_1 - panel_0) * kPanel<T>; f += kLanes<T>) store(sums + f, Vec<T>{});
    }
    int64_t tile = first;
    do {
      const int64_t stop = last - tile < b.group ? last : tile + b.group;
      transform_tiles<T, PatchLine>(v, b.at_x, x, tiles, tile, stop, c0, whole_vectors<T>(c1 - c0));
      transform_tiles<T, GradientLine>(d, b.at_dy, dy, tiles, tile, stop, panel_0 * kPanel<T>,
                                       (panel_1 - panel_0) * kPanel<T>, sums);
      for (int k = 0; k < kPoints; ++k) {
        for (int64_t panel = panel_0; panel < panel_1; ++panel) {
          multiply_gradient(du + (panel * kPoints + k) * point, v + k * b.at_x.step, b.at_x,
                            d + (panel - panel_0) * b.at_dy.panel + k * b.at_dy.step, b.at_dy, stop - tile, c1 - c0,
                            tile > first);
        }
      }
      tile = stop;
    } while (tile < last);
  }
}

// dw (+)= G^T (the sum of the parts) G, and db (+)= the sum of its parts. Chunks: kSumChannels channels of a panel:
// they lie side by side.
constexpr int64_t kSumChannels = 8;
template <class T>
void winograd_sum(const WinogradSumArgs& a, int64_t begin, int64_t end) {
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
        both_ways<T, KernelGradientLine>(
            [=](int i, int j) __attribute__((always_inline)) { return load(from + (i * kPatch + j) * step); },
            [=](int i, int j, Vec<T> v) __attribute__((always_inline)) {
              T* at = to + (3 * i + j) * tap + f;
              if (a.add_dw) v += load_lanes(at, lanes);
              store_lanes(at, v, lanes);
            });
      });
    }
  }
}

// --- what they need --------------------------------------------------------------------------------------------------

template <class T>
WinogradPlan winograd_plan(const ConvGeometry& g) {
  const Groups groups = groups_of(tiles_of(g).count, kGroup);
  const int64_t panels = chunks_of(g.filters, kPanel<T>);
  const GradientBlocks blocks = gradient_blocks<T>(g);
  WinogradPlan plan;
  plan.kernel = panels * kPoints * g.channels * kPanel<T>;
  plan.kernel_chunks = panels * chunks_of(g.channels, kLanes<T>);
  plan.chunks = groups.chunks;
  plan.scratch = groups.chunks * kPoints * (patch_points<T>(groups, g.channels).step + product_points<T>(groups).step);
  plan.gradient_chunks = blocks.chunks;
  plan.gradient_scratch = blocks.chunks * blocks.scratch;
  plan.parts = blocks.runs * (plan.kernel + panels * kPanel<T>);
  plan.sum_chunks = panels * chunks_of(g.channels, kSumChannels);
  return plan;
}

// --- the kernel ------------------------------------------------------------------------------------------------------

// u (panels, 36, channels, panel). Chunks: a vector's width of channels of a panel.
template <class T>
void winograd_kernel(const WinogradKernelArgs& a, int64_t begin, int64_t end) {
  constexpr int64_t kL = kLanes<T>;
  const int64_t blocks = chunks_of(a.channels, kL);
  const T* w = static_cast<const T*>(a.w);
  const int64_t tap = a.channels * a.filters, step = a.channels * kPanel<T>;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t panel = chunk / blocks, channel = (chunk - panel * blocks) * kL;
    const int64_t channels = a.channels - channel < kL ? a.channels - channel : kL;
    for (int64_t v = 0; v < 2; ++v) {
      const int64_t filter = panel * kPanel<T> + v * kL, left = a.filters - filter;
      const int64_t filters = left < kL ? (left < 0 ? 0 : left) : kL;
      Vec<T> taps[9][kL];  // of a channel, for a vector of filters
      for (int64_t k = 0; k < 9; ++k) {
        if (!a.turned) {
          for (int64_t c = 0; c < channels; ++c) {
            taps[k][c] = load_n(w + k * tap + (channel + c) * a.filters + filter, filters);
          }
          continue;
        }
        Vec<T> square[kL];  // w is (3, 3, filters, channels) and the last tap the first
#pragma GCC unroll 16
        for (int64_t f = 0; f < kL; ++f) {
          square[f] = load_n(w + (8 - k) * tap + (filter + f) * a.channels + channel, f < filters ? channels : 0);
        }
        transpose_square<T>(square);
        for (int64_t c = 0; c < kL; ++c) taps[k][c] = square[c];
      }
      T* to = static_cast<T*>(a.u) + panel * kPoints * step + channel * kPanel<T> + v * kL;
      for (int64_t c = 0; c < channels; ++c, to += kPanel<T>) {
        both_ways<T, KernelLine>([&](int i, int j) __attribute__((always_inline)) { return taps[3 * i + j][c]; },
                                 [=](int i, int j, Vec<T> x)
                                     __attribute__((always_inline)) { store(to + (i * kPatch + j) * step, x); });
      }
    }
  }
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
