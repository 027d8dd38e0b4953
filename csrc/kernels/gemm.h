// The matrix product: a shared tool of the kernel families.
//
// C (m, n) is cut into tiles of kRows rows by two vectors of columns (gemm_tile.h). Few rows or steps are apart
// (gemm_few.h), and so are some rows by a transposed B (gemm_turned.h).
//
// Large products are blocked for the caches (Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication,
// 2008): a group of tiles has its rows of A, a run of columns of them, in the second level, and the panels of B (k by
// two vectors) stream past. Rows that lie scattered are copied next to one another. Panels are best read in order: B is
// packed beforehand (pack) where many groups will read it, or must be transposed, and while a group works on one panel
// it asks for the next. Else the first tile that reads the first panel keeps a copy for the others, which copy the next
// panel meanwhile, a row now and then: that costs them nothing, while a tile that copies all it reads takes 1.5 to 2
// times as long (64x1024x1024: 83 to 89 % of the peak; kernel gradient of 2048x512x2048: 77 to 89 %).
//
// Every element of C is one chain of fused multiply-adds over p in order; a later run of k goes on from what C holds.
// (Dots of few rows go in the order of fold, the same for all widths.) So neither tile, block, thread nor vector width
// changes a bit.
#pragma once

#include "kernels/dense.h"
#include "kernels/gemm_few.h"
#include "kernels/gemm_tile.h"
#include "kernels/gemm_turned.h"

namespace ranvier::RANVIER_TIER {
namespace {

// The longest run of k. Each reads and writes C once more, so runs are long, as far as a group's copy of A leaves room
// for a panel of B beside it: 573 and 256 KB of a second level of 1 MB.
constexpr int64_t kDepth = 2048;
// Where groups copy B's panels themselves: more tiles share a copy (gradients of 2048x512 by 512x2048: 3 %).
constexpr int64_t kOwnDepth = 1024;
// A group: so many tiles at most, and so much of their tiles times their run. Measured on Zen 5 at 2048^3, runs of 1024
// by ten tiles and of 2048 by five: 90 and 92.5 % of the peak; at 512^3, groups of four tiles and of ten: 91 and 93 %.
template <class T>
constexpr int64_t kBlockTiles = 40 / sizeof(T) / kRepeat<T>;
template <class T>
constexpr int64_t kBlock = kBlockTiles<T> * 1024;

// One tile's columns of a B this large would be pieces of as many pages as it has rows. So many rows of it at a time
// are read whole (1 to 8 rows by 4096x1024: 1.2 to 1.5 times as fast; by 1024x1024, 4 MB, no difference). Where several
// tiles read B itself they do so too: the first brings what the others find in the second level.
constexpr int64_t kStrip = 256;
// A B this large comes from memory each time, which likes long pieces: up to kRows rows are tiles of three at most,
// eight vectors wide (4 to 14 rows by 3000x3000: 1.3 to 1.5 times as fast; by 2000x2000, which stays in a cache, 0.7).
constexpr int64_t kFromMemory = 24 << 20;
constexpr int64_t kRoomyTiles = 5;  // from which on kRoomy rows at a time pay, if A's fall into one set

// How much of a large gradient, in tiles, waits for the optimizer's step: that goes along rows of parameters which come
// from memory, and tile by tile they would be pieces of 128 bytes (a step of 6 layers of 2048: 38 ms instead of 29).
constexpr int64_t kBand = 64;

// Of a tile: few rows take more than two. A B from afar is for all threads; there three vectors pay as well, and so do
// some tiles of three, in strips: two or three tiles of two vectors would copy B's panels (16x1024x1024: 1.4 times as
// fast). Up to how many tiles: rows of B so many bytes apart fall into few sets of the first level, and a panel of them
// is slow to copy (24x1024x1024 in strips: 1.25 times as fast; 24x2000x2000 0.9).
constexpr int64_t kFewSets = 1024;
template <class T>
RANVIER_INLINE int64_t most_in_strips(const MatmulArgs& g) {
  const int64_t bytes = bytes_of_b<T>(g);
  if (g.m <= kRows) return 1;
  if (bytes <= kSecondLevel || kRows <= 6) return 3;
  if (g.b_row * static_cast<int64_t>(sizeof(T)) % kFewSets != 0) return 2;
  return bytes <= kHuge ? 6 : 4;
}
template <class T>
RANVIER_INLINE int vectors_of(const MatmulArgs& g) {
  if (g.packed || g.transposed) return 2;
  constexpr int kWidths[] = {kMostVectors, 8, 6, 4};
  const bool is_near = near<T>(g);
  const auto fits = [&](int vectors) { return is_near || g.n >= 2 * vectors * kLanes<T>; };
  if (kVectorBytes == 64 && g.m > most_rows(8) && g.m <= kRows && bytes_of_b<T>(g) >= kFromMemory && fits(8)) return 8;
  for (const int vectors : kWidths) {
    if (g.m <= most_rows(vectors) && fits(vectors)) return vectors;
  }
  if (is_near || !fits(3)) return 2;
  return chunks_of(g.m, most_rows(3)) <= most_in_strips<T>(g) ? 3 : 2;
}

// How C is cut: a chunk is a panel's columns of a group of tiles.
struct Blocks {
  int64_t tiles, panels, groups;  // of C
  int64_t depth;                  // of a run of k
  int vectors;                    // of a panel
  bool large;                     // groups of many tiles; else of one
  bool copies;                    // a group's rows of A
  bool strips;                    // B is read along its rows, kStrip at a time, by all tiles
  bool by_rows;                   // the order of the chunks: all of a group's panels, or all of a panel's groups
};
template <class T>
RANVIER_INLINE Blocks blocks_of(const MatmulArgs& g) {
  Blocks b;
  b.vectors = vectors_of<T>(g);
  b.tiles = chunks_of(g.m, most_rows(b.vectors));
  b.panels = chunks_of(g.n, b.vectors * kLanes<T>);
  // A copy of A for one panel or two does not pay.
  b.large = b.vectors == 2 && b.tiles * b.panels >= 256 && b.panels > 2;
  const bool one_set = same_set<T>(g.a_row);
  if (b.vectors == 2 && !b.large && one_set && b.tiles >= kRoomyTiles) b.tiles = chunks_of(g.m, kRoomy);
  // Contiguous rows are read where they are: copies took 3 % of 1200x1000x512, and won 5 % of 1024^3, of one set.
  b.copies = b.large && (g.a_column != 1 || one_set || kRepeat<T> > 1);
  b.groups = b.tiles;
  const int64_t longest = b.large && !g.packed && !g.transposed && !g.update ? kOwnDepth : kDepth;
  b.depth = g.k <= longest ? g.k : chunks_of(chunks_of(g.k, chunks_of(g.k, longest)), kLanes<T>) * kLanes<T>;
  if (b.large) {
    // Of short runs a group takes few tiles: C is the larger part, and they write it nearly along its rows (kernel
    // gradient of 16x4096x1024: a third faster). So it does of a B that stays in the second level, that bands, the
    // optimizer's steps, be whole rows.
    const int64_t fit = b.depth > 0 ? clip(kBlock<T> / b.depth, 1, clip(b.depth / 8, 1, kBlockTiles<T>)) : 1;
    const int64_t most = g.update && near<T>(g) ? clip(kBand / b.panels, 1, fit) : fit;
    if (b.tiles > most) {  // even work for two threads or four
      b.tiles = chunks_of(b.tiles, 4) * 4;
      b.groups = chunks_of(b.tiles, most);
      b.groups += b.groups % 2;
    } else {
      b.groups = 1;
    }
  }
  const bool huge = bytes_of_b<T>(g) >= kHuge && b.panels > 1 && !g.packed && !g.transposed && !g.update;
  b.strips = b.tiles > 1 ? b.vectors > 2 : huge;
  if (b.strips) {
    b.groups = 1;
    if (b.depth > kStrip) b.depth = kStrip;
  }
  // Threads share out the larger operand: rows of A, or columns of B. They take columns as well where the optimizer's
  // step is part of the product: the thread that updates a part of a kernel is the one that reads it in the forward
  // pass. So does a transposed B, whose panels are turned as they are needed.
  b.by_rows = b.large || b.strips || (!g.update && !g.transposed && g.m >= g.n);
  return b;
}

// A group's rows of A, next to one another.
template <class T>
struct Copy {
  alignas(64) T data[kRows * (kBlock<T> + kBlockTiles<T> * kLanes<T>)*kRepeat<T> + kLanes<T>];
  int64_t a_row, a_column;  // strides
  int64_t tile;             // elements from one tile to the next
};
// Tile i has rows first[i] .. first[i + 1] of A. Where A's rows are contiguous they stay so, apart by a bit more than
// their length, lest they compete for the same lines of the cache; else the copy goes p by p through all tiles.
template <class T>
void copy_rows(Copy<T>& to, const T* a, int64_t a_row, int64_t a_column, const int64_t* first, int64_t tiles,
               int64_t depth) {
  constexpr int64_t kL = kLanes<T>;
  if constexpr (kRepeat<T> > 1) {
    to.a_row = kL;
    to.a_column = kRows * kL;
    to.tile = depth * to.a_column;
    for (int64_t i = 0; i < tiles; ++i) {
      for (int64_t p = 0; p < depth; ++p) {
        T* line = to.data + i * to.tile + p * to.a_column;
        for (int64_t r = first[i]; r < first[i + 1]; ++r, line += kL)
          store(line, splat<T>(a[r * a_row + p * a_column]));
      }
    }
    return;
  }
  to.tile = kRows * (depth + kL);
  if (a_column == 1) {
    to.a_row = depth + kL;
    to.a_column = 1;
    for (int64_t i = 0; i < tiles; ++i) {
      for (int64_t row = first[i]; row < first[i + 1]; ++row) {
        T* line = to.data + i * to.tile + (row - first[i]) * to.a_row;
        for_lanes<T>(0, depth, [=](int64_t p, int64_t k) __attribute__((always_inline)) {
          store(line + p, load_lanes(a + row * a_row + p, k));
        });
      }
    }
    return;
  }
  to.a_row = 1;
  to.a_column = kRows;
  for (int64_t p = 0; p < depth; ++p) {
    for (int64_t i = 0; i < tiles; ++i) {
      const T* from = a + p * a_column + first[i] * a_row;
      T* line = to.data + i * to.tile + p * kRows;
      const int64_t rows = first[i + 1] - first[i];
      __builtin_prefetch(from + kAhead * a_column);
      if (a_row == 1) {  // writes up to a vector further
        for_lanes<T>(0, rows, [=](int64_t r, int64_t k) __attribute__((always_inline)) {
          store(line + r, load_lanes(from + r, k));
        });
      } else {
        for (int64_t r = 0; r < rows; ++r) line[r] = from[r * a_row];
      }
    }
  }
}

// A panel has k rows of up to two vectors of columns, filled up with zeros. Panels of B (k, columns), whose rows are
// `step` apart; several together, since pieces of 1 KB come from memory two to three times as fast as those of 128
// bytes.
constexpr int64_t kTogether = 8, kTogetherAhead = 8;  // panels; rows
template <class T>
void pack_panels(T* to, const T* b, int64_t step, int64_t columns, int64_t k) {
  constexpr int64_t kL = kLanes<T>, width = kPanel<T>;
  for (int64_t p = 0; p < k; ++p, b += step) {
    T* line = to + p * width;
    for (int64_t j = 0; j < columns; j += width, line += k * width) {
      for (int64_t v = 0; v < 2; ++v) {
        const T* from = b + j + v * kL;
        __builtin_prefetch(from + kTogetherAhead * step + kL - 1);
        const int64_t left = columns - j - v * kL;
        store(line + v * kL, left >= kL ? load(from) : load_n(from, left > 0 ? left : 0));
      }
    }
  }
}
// A panel of the transposed of b (columns, k), whose rows are `step` apart.
template <class T>
void pack_transposed(T* to, const T* b, int64_t step, int64_t columns, int64_t k) {
  constexpr int64_t kL = kLanes<T>, width = kPanel<T>;
  for (int64_t v = 0; v < 2; ++v) {
    for (int64_t p = 0; p < k; p += kL) {  // a square: kL columns by kL values of p
      const int64_t depth = k - p < kL ? k - p : kL;
      Vec<T> square[kL];
#pragma GCC unroll 16
      for (int64_t c = 0; c < kL; ++c) {
        const int64_t j = v * kL + c;
        square[c] = j < columns ? load_lanes(b + j * step + p, depth) : Vec<T>{};
      }
      transpose_square<T>(square);
      for (int64_t q = 0; q < depth; ++q) store(to + (p + q) * width + v * kL, square[q]);
    }
  }
}

// A product, or some of its chunks, as one thread does it. Rows are shared out evenly, so that 32 rows are three tiles
// of 11, 11 and 10 and not two full ones and a thin one.
template <class T>
class Matmul {
 public:
  explicit Matmul(const MatmulArgs& g)
      : g_(g),
        blocks_(blocks_of<T>(g)),
        width_(blocks_.vectors * kLanes<T>),
        bands_(g.update && blocks_.large),
        consumes_(g.update && !g.accumulate && blocks_.vectors == 2 && g.k <= kDepth),
        far_(g.b_row >= 256 || !near<T>(g)),
        a_row_(row_of_a<T>(g)),
        a_(start_of_a<T>(g)) {}

  void run(int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end;) {
      const Part part = part_at(chunk, end);
      chunk += part.chunks;
      int64_t p0 = 0;
      do {  // an empty k still writes the bias
        const int64_t depth = g_.k - p0 < part.depth ? g_.k - p0 : part.depth;
        panels(part, {p0, depth, p0 + depth >= g_.k});
        p0 += depth;
      } while (p0 < g_.k);
    }
  }

 private:
  // Chunks of one product that share a group, or a panel: tiles [tile_0, tile_1) of panels [panel_0, panel_1).
  struct Part {
    int64_t chunks;
    int64_t slow;  // the group, or the panel
    int64_t tile_0, tile_1, panel_0, panel_1;
    int64_t depth;  // of a run of k, at most
    bool copies;    // B's panels: the first tile its own, the others the next
    bool more;      // chunks of the same product follow
    T* c;
    const T* a;
    const T* b;
    int64_t tiles() const { return tile_1 - tile_0; }
  };
  struct Run {
    int64_t p0, depth;
    bool last;
  };
  // The panel that comes next, and how many rows of it each tile copies; null: none, or none that is copied.
  struct Next {
    const T* b = nullptr;
    int64_t depth = 0, share = 0;
  };

  int64_t row_of(int64_t tile) const {  // a division costs as much as a small tile
    return blocks_.tiles == 1 ? g_.m * tile : g_.m * tile / blocks_.tiles;
  }
  int64_t columns_of(int64_t panel) const {
    const int64_t left = g_.n - panel * width_;
    return left < width_ ? left : width_;
  }

  // The first of chunks [chunk, end) that belong together.
  Part part_at(int64_t chunk, int64_t end) const {
    const int64_t inner = blocks_.by_rows ? blocks_.panels : blocks_.groups;
    const int64_t product = blocks_.groups * blocks_.panels;
    const int64_t batch = g_.batches == 1 ? 0 : chunk / product, place = chunk - batch * product;
    Part part;
    part.slow = place / inner;
    const int64_t fast_0 = place - part.slow * inner;
    const int64_t fast_1 = fast_0 + (end - chunk) < inner ? fast_0 + (end - chunk) : inner;
    part.chunks = fast_1 - fast_0;
    if (blocks_.by_rows) {
      part.tile_0 = blocks_.tiles * part.slow / blocks_.groups;
      part.tile_1 = blocks_.tiles * (part.slow + 1) / blocks_.groups;
      part.panel_0 = fast_0;
      part.panel_1 = fast_1;
    } else {
      part.tile_0 = fast_0;
      part.tile_1 = fast_1;
      part.panel_0 = part.slow;
      part.panel_1 = part.slow + 1;
    }
    part.copies = !g_.packed && !g_.transposed && blocks_.vectors == 2 && part.tiles() > 1 && far_;
    const bool in_runs = blocks_.large || blocks_.strips || part.copies || g_.transposed;
    part.depth = in_runs ? blocks_.depth : g_.k;
    const int64_t next = chunk + part.chunks;
    part.more = next < end && next % product != 0;
    part.c = static_cast<T*>(g_.c) + batch * g_.c_batch;
    part.a = a_ + batch * g_.a_batch;
    part.b = static_cast<const T*>(g_.b) + batch * g_.b_batch;
    return part;
  }

  // A run of k through all panels of a part, and the optimizer's steps that go by bands.
  void panels(const Part& part, const Run& run) {
    if (blocks_.copies) {
      int64_t first[kBlockTiles<T> + 1];
      for (int64_t i = 0; i <= part.tiles(); ++i) first[i] = row_of(part.tile_0 + i);
      copy_rows(copy_, part.a + run.p0 * g_.a_column, a_row_, g_.a_column, first, part.tiles(), run.depth);
    }
    const int64_t band = bands_ ? kBand / part.tiles() : 1;  // panels
    const int64_t g_row = consumes_ ? band * kPanel<T> : g_.n;
    int64_t of_band = 0;
    for (int64_t panel = part.panel_0; panel < part.panel_1; ++panel) {
      tiles(part, run, panel, g_row, gradient_ + of_band * width_);
      if (bands_ && run.last && (++of_band == band || panel == part.panel_1 - 1)) {
        const int64_t row = row_of(part.tile_0), rows = row_of(part.tile_1) - row;
        const int64_t column = (panel + 1 - of_band) * width_, end = panel * width_ + columns_of(panel);
        const int64_t first = row * g_.n + column;
        update<T>(*g_.update, {consumes_ ? gradient_ : part.c + first, first, rows, end - column, g_.n, g_row});
        of_band = 0;
      }
    }
  }

  // The tiles of a panel: of C, whose rows are c_row apart, or of a gradient that gets no further than its step.
  void tiles(const Part& part, const Run& run, int64_t panel, int64_t c_row, T* gradient) {
    const int64_t column = panel * width_, columns = columns_of(panel), vectors = chunks_of(columns, kLanes<T>);
    const int64_t a_step = blocks_.copies ? copy_.a_row : a_row_;
    bool padded = g_.packed || g_.transposed;
    Tile<T> t;
    t.c_row = c_row;
    t.a_row = a_step;
    t.a_column = blocks_.copies ? copy_.a_column : g_.a_column;
    t.b = part.b + (g_.packed ? column * g_.k + run.p0 * width_ : run.p0 * g_.b_row + column);
    t.b_row = padded ? width_ : g_.b_row;
    t.bias = g_.bias ? static_cast<const T*>(g_.bias) + column : nullptr;
    t.depth = run.depth;
    t.lanes = columns - (vectors - 1) * kLanes<T>;
    t.go_on = run.p0 > 0 || g_.accumulate;
    t.relu = run.last && g_.activation == Activation::relu;
    t.from_afar = g_.m == 1 && bytes_of_b<T>(g_) > kSecondLevel;
    const bool another = panel + 1 < part.panel_1;
    const T* ahead = g_.packed && blocks_.large && another ? t.b + width_ * g_.k : nullptr;
    if (g_.transposed) {
      pack_transposed(panels_[0], part.b + column * g_.b_row + run.p0, g_.b_row, columns, run.depth);
      t.b = panels_[0];
    }
    const bool has_copy = part.copies && copied_.b == t.b && copied_.depth == run.depth;
    if (has_copy) {
      reading_ = 1 - reading_;
      t.b = panels_[reading_];
      t.b_row = width_;
      padded = true;
    }
    const int64_t helper_0 = has_copy ? part.tile_0 : part.tile_0 + 1;  // the first tile that copies of the next
    copied_ = vectors == 2 ? next(part, run, panel, part.tile_1 - helper_0) : Next();
    if (g_.row_sum && part.tile_0 == 0) {
      sum_rows(static_cast<T*>(g_.row_sum) + column, t.b, t.b_row, columns, run.depth, run.p0 > 0 || g_.add_row_sum);
    }
    // The next panel's columns of C, if they are lines of their own.
    const bool asks = blocks_.large && kPanel<T> * sizeof(T) >= 64 && another;
    const T* c_after = asks ? part.c + row_of(part.tile_0) * g_.n + column + width_ : nullptr;

    for (int64_t i = part.tile_0; i < part.tile_1; ++i) {
      const int64_t row = row_of(i), rows = row_of(i + 1) - row;
      T* const c = part.c + row * g_.n + column;
      t.c = !consumes_ ? c : bands_ ? gradient + (row - row_of(part.tile_0)) * c_row : gradient;
      t.a = blocks_.copies ? copy_.data + (i - part.tile_0) * copy_.tile : part.a + run.p0 * g_.a_column + row * a_row_;
      const bool first = panel == part.panel_0, final = i + 1 == part.tile_1;
      if (blocks_.large && !blocks_.copies && first && !final) t.a_next = t.a + rows * a_row_;
      if (blocks_.large && !consumes_) t.c_next = final ? c_after : c + rows * g_.n;
      if (ahead) {  // each tile asks for its share of the panel
        t.ahead = ahead + (i - part.tile_0) * (width_ * run.depth / part.tiles());
        t.ahead_step = chunks_of(width_, part.tiles());
      }
      if (g_.source && first) {  // the next rows, on their way from memory
        t.ahead = t.a + rows * a_row_;
        t.ahead_step = rows * a_row_ / run.depth;
      }
      if (part.copies && !has_copy && i == part.tile_0 && vectors == 2) {
        t.kept = panels_[reading_];
        blocks_.large ? tile_that_copies<T, Copies::panel, (kRepeat<T> > 1)>(rows, t, false)
                      : tile_that_copies<T, Copies::panel, false>(rows, t, false);
        t.b = panels_[reading_];
        t.b_row = width_;
        padded = true;
      } else if (copied_.b) {
        const int64_t from = (i - helper_0) * copied_.share;
        t.next = copied_.b + from * g_.b_row;
        t.next_row = g_.b_row;
        t.next_rows = clip(copied_.depth - from, 0, copied_.share);
        t.next_steps = run.depth / copied_.share;
        t.kept = panels_[1 - reading_] + from * width_;
        tile_that_copies<T, Copies::next, false>(rows, t, true);
      } else {
        blocks_.large ? tile_at<T, (kRepeat<T> > 1)>(rows, vectors, t, padded) : tile_at<T>(rows, vectors, t, padded);
      }
      if (run.last) finish(t, row, rows, column, columns);
    }
  }

  // The panel after this one, if it is a whole one and `helpers` tiles can copy it meanwhile.
  Next next(const Part& part, const Run& run, int64_t panel, int64_t helpers) const {
    if (!part.copies || kRepeat<T> > 1 || run.depth == 0 || helpers <= 0) return {};
    const bool another = panel + 1 < part.panel_1;
    if (!another && run.last && !part.more) return {};
    int64_t p0 = run.p0, after = panel + 1;
    if (!another) {
      p0 = run.last ? 0 : run.p0 + run.depth;
      after = !run.last ? part.panel_0 : blocks_.by_rows ? 0 : part.slow + 1;
    }
    const int64_t depth = g_.k - p0 < part.depth ? g_.k - p0 : part.depth, share = chunks_of(depth, helpers);
    if ((after + 1) * width_ > g_.n || kNextSteps * share > run.depth) return {};
    return {part.b + p0 * g_.b_row + after * width_, depth, share};
  }

  // What becomes of a tile of C that is complete.
  void finish(const Tile<T>& t, int64_t row, int64_t rows, int64_t column, int64_t columns) const {
    const int64_t at = row * g_.n + column;
    if (g_.update && !bands_) update<T>(*g_.update, {t.c, at, rows, columns, g_.n, t.c_row});
    if (g_.activation > Activation::relu) {
      for (int64_t r = 0; r < rows; ++r) {
        apply_row<T>(g_.activation, t.c + r * g_.n, t.c + r * g_.n, columns, g_.alpha);
      }
    }
    if (g_.through) {
      const T* y = static_cast<const T*>(g_.through) + at;
      for (int64_t r = 0; r < rows; ++r) {
        backward_row<T>(g_.through_activation, t.c + r * g_.n, t.c + r * g_.n, y + r * g_.n, columns, g_.through_alpha);
      }
    }
  }

  const MatmulArgs& g_;
  const Blocks blocks_;
  const int64_t width_;  // of a panel
  const bool bands_;     // a large gradient is used up by bands of tiles
  const bool consumes_;  // a gradient that is complete with its tile, or band, is used up there and then
  const bool far_;       // B's rows lie too far apart to be read again and again, or are too many for the second level
  const int64_t a_row_;
  const T* const a_;
  int64_t reading_ = 0;  // which of panels_: the other is filled meanwhile
  Next copied_;          // of what it is a copy
  alignas(64) T panels_[2][kDepth * kPanel<T>];
  Copy<T> copy_;
  alignas(64) T gradient_[kBand * kRows * kPanel<T>];
};

template <class T>
void matmul(const MatmulArgs& g, int64_t begin, int64_t end) {
  if (few_of_all(g)) return product_of_few<T>(g);
  if (g.turned) return product_turned<T>(g, begin, end);
  if (few_steps(g)) return product_of_few_steps<T>(g, begin, end);
  if (few_rows<T>(g)) return product_of_few_rows<T>(g, begin, end);
  if (few_dots(g)) return product_of_few_dots<T>(g, begin, end);
  Matmul<T>(g).run(begin, end);
}

template <class T>
int64_t matmul_chunks(const MatmulArgs& g) {
  if (few_of_all(g)) return 1;
  if (g.turned) return turned_chunks<T>(g);
  if (few_steps(g)) return g.batches * chunks_of(g.m, kOuterRows);
  if (few_rows<T>(g)) return chunks_of(g.n, kRowColumns);
  if (few_dots(g)) return g.batches * chunks_of(g.n, kDotColumns);
  const Blocks blocks = blocks_of<T>(g);
  return g.batches * blocks.groups * blocks.panels;
}

// Whether to pack B beforehand: where more than one group of A's rows will read it and it must be transposed, or many
// and its rows lie far apart. (512^3 is as fast without: 87 % of the peak; and much faster where threads do not share a
// cache, 87 and 79 %, since each would read what the other has packed. 2048^3: 71 and 85 %.) On the baseline tier
// groups are small, for their repeated copies of A, and copy each panel alone: there it pays for some tiles
// (16x1024x1024: 1.7 times as fast, 512^3 1.3), and unless B stays in the second level for three.
template <class T>
bool packs(const MatmulArgs& g) {
  constexpr bool kAlone = kRepeat<T> > 1;
  constexpr int64_t kFar = 256;                       // columns
  constexpr int64_t kTransposed = kAlone ? 48 : 140;  // rows
  constexpr int64_t kNear = kAlone ? 48 : 600, kAfar = kAlone ? 14 : 600;
  if (g.transposed) return g.m > kTransposed;
  return g.b_row >= kFar && g.m > (near<T>(g) ? kNear : kAfar) && g.k > kFewSteps;
}

// B in panels: panel j holds columns j * width.. of B, row after row. Chunks: a panel.
template <class T>
void pack(const PackArgs& g, int64_t begin, int64_t end) {
  constexpr int64_t width = kPanel<T>;
  const T* const b = static_cast<const T*>(g.b);
  const int64_t together = g.transposed ? 1 : kTogether;
  for (int64_t panel = begin; panel < end; panel += together) {
    const int64_t column = panel * width, most = (end - panel < together ? end - panel : together) * width;
    const int64_t columns = g.n - column < most ? g.n - column : most;
    T* const to = static_cast<T*>(g.packed) + column * g.k;
    g.transposed ? pack_transposed(to, b + column * g.b_row, g.b_row, columns, g.k)
                 : pack_panels(to, b + column, g.b_row, columns, g.k);
  }
}

template <class T>
int64_t packed_size(int64_t n, int64_t k) {
  return chunks_of(n, kPanel<T>) * kPanel<T> * k;
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
