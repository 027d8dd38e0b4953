// The matrix product: a shared tool of the kernel families.
//
// C (m, n) is cut into tiles of kRows rows by two vectors of columns (gemm_tile.h). Few rows or steps are apart
// (gemm_few.h).
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
// So neither tile, block, thread nor vector width changes a bit.
#pragma once

#include "kernels/dense.h"
#include "kernels/gemm_few.h"
#include "kernels/gemm_tile.h"

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
// are read whole (1 to 8 rows by 4096x1024: 1.2 to 1.5 times as fast; by 1024x1024, 4 MB, no difference).
constexpr int64_t kStripBytes = 8 << 20, kStrip = 256;
// Rows of A this many bytes apart, or a multiple, fall into one set of the first level, which holds 12 lines: 11 rows
// at a time leave B room. From five tiles on that pays (64x1024x1024: 2.5 %).
constexpr int64_t kSameSet = 4096, kRoomy = 11, kRoomyTiles = 5;
template <class T>
RANVIER_INLINE bool same_set(int64_t step) {
  return kRows > kRoomy && step * static_cast<int64_t>(sizeof(T)) % kSameSet == 0;
}

// How much of a large gradient, in tiles, waits for the optimizer's step: that goes along rows of parameters which come
// from memory, and tile by tile they would be pieces of 128 bytes (a step of 6 layers of 2048: 38 ms instead of 29).
constexpr int64_t kBand = 64;

template <class T>
RANVIER_INLINE int64_t bytes_of_b(const MatmulArgs& g) {
  return g.k * g.n * static_cast<int64_t>(sizeof(T));
}
// Whether B stays in the second level.
template <class T>
RANVIER_INLINE bool near(const MatmulArgs& g) {
  return bytes_of_b<T>(g) <= 512 << 10;
}

// Of a tile: few rows take more than two. A B from afar is for all threads; three vectors pay for no other.
template <class T>
RANVIER_INLINE int vectors_of(const MatmulArgs& g) {
  if (g.packed || g.transposed) return 2;
  const int wide = g.m == 1 ? kWideVectors : g.m <= kRowsOf4 ? 4 : g.m <= kRowsOf3 ? 3 : 2;
  if (near<T>(g)) return wide == 3 ? 2 : wide;
  return g.n >= 2 * wide * kLanes<T> ? wide : 2;
}

// How C is cut: a chunk is a panel's columns of a group of tiles.
struct Blocks {
  int64_t tiles, panels, groups;  // of C
  int64_t depth;                  // of a run of k
  int vectors;                    // of a panel
  bool large;                     // groups of many tiles; else of one
  bool copies;                    // a group's rows of A
  bool strips;                    // B is read along its rows, kStrip at a time
  bool by_rows;                   // the order of the chunks: all of a group's panels, or all of a panel's groups
};
template <class T>
RANVIER_INLINE Blocks blocks_of(const MatmulArgs& g) {
  Blocks b;
  b.vectors = vectors_of<T>(g);
  b.tiles = chunks_of(g.m, kRows);
  b.panels = chunks_of(g.n, b.vectors * kLanes<T>);
  b.large = b.tiles * b.panels >= 256 && b.panels > 2;  // a copy of A for one panel or two does not pay
  const bool one_set = same_set<T>(g.a_row);
  if (!b.large && one_set && b.tiles >= kRoomyTiles) b.tiles = chunks_of(g.m, kRoomy);
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
  b.strips = b.tiles == 1 && b.panels > 1 && !g.packed && !g.transposed && !g.update && bytes_of_b<T>(g) >= kStripBytes;
  if (b.strips && b.depth > kStrip) b.depth = kStrip;
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

// A panel of B: k rows of `columns` columns, filled up with zeros. B's rows are `step` apart, or its columns if it is
// transposed.
template <class T>
void pack_panel(T* to, const T* b, int64_t step, int64_t columns, int64_t k, bool transposed) {
  constexpr int64_t kL = kLanes<T>, width = kPanel<T>;
  if (!transposed) {
    for (int64_t p = 0; p < k; ++p) {
      const T* from = b + p * step;
      for (int64_t v = 0; v < 2; ++v) {
        __builtin_prefetch(from + kAhead * step + v * kL + kL - 1);
        const int64_t left = columns - v * kL;
        store(to + p * width + v * kL, left >= kL ? load(from + v * kL) : load_n(from + v * kL, left > 0 ? left : 0));
      }
    }
    return;
  }
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

// Rows are shared out evenly, so that 32 rows are three tiles of 11, 11 and 10 and not two full ones and a thin one.
template <class T>
void matmul(const MatmulArgs& g, int64_t begin, int64_t end) {
  if (few_steps(g)) return product_of_few_steps<T>(g, begin, end);
  if (few_rows(g)) return product_of_few_rows<T>(g, begin, end);
  const Blocks blocks = blocks_of<T>(g);
  const int64_t width = blocks.vectors * kLanes<T>;
  const auto row_of = [&](int64_t tile) __attribute__((always_inline)) {
    return blocks.tiles == 1 ? g.m * tile : g.m * tile / blocks.tiles;  // a division costs as much as a small tile
  };
  // A gradient that is complete with its tile is used up there and then, a large one when a band of tiles is.
  const bool keep_gradient = !g.update || g.accumulate || blocks.vectors != 2 || g.k > kDepth;
  // B's rows lie too far apart to be read again and again, or are too many for the second level.
  const bool far = g.n >= 256 || !near<T>(g);
  alignas(64) T gradient[kBand * kRows * kPanel<T>];
  alignas(64) T panel_copies[2][kDepth * kPanel<T>];  // one is read while the other is filled
  int64_t reading = 0;
  const T* filled = nullptr;  // of what the other is a copy
  int64_t filled_depth = 0;
  Copy<T> copy;

  const int64_t inner = blocks.by_rows ? blocks.panels : blocks.groups;
  const int64_t product = blocks.groups * blocks.panels;
  const T* a_0 = static_cast<const T*>(g.a);
  int64_t a_row = g.a_row;
  if (g.source) {
    a_row = g.source->row_bytes / static_cast<int64_t>(sizeof(T));
    a_0 = reinterpret_cast<const T*>(g.source->data) + g.feed->cursor * a_row;
  }
  for (int64_t chunk = begin; chunk < end;) {
    // The chunks of one product that share a group, or a panel: tiles [tile_0, tile_1) of panels [panel_0, panel_1).
    const int64_t batch = g.batches == 1 ? 0 : chunk / product, place = chunk - batch * product;
    const int64_t slow = place / inner, fast_0 = place - slow * inner;
    const int64_t fast_1 = fast_0 + (end - chunk) < inner ? fast_0 + (end - chunk) : inner;
    chunk += fast_1 - fast_0;
    int64_t tile_0 = fast_0, tile_1 = fast_1, panel_0 = slow, panel_1 = slow + 1;
    if (blocks.by_rows) {
      tile_0 = blocks.tiles * slow / blocks.groups;
      tile_1 = blocks.tiles * (slow + 1) / blocks.groups;
      panel_0 = fast_0;
      panel_1 = fast_1;
    }
    const int64_t tiles = tile_1 - tile_0;
    const bool keep_panel = !g.packed && !g.transposed && blocks.vectors == 2 && tiles > 1 && far;
    const int64_t run =
        blocks.large || blocks.strips || keep_panel || g.transposed ? blocks.depth : g.k;  // others run over k at once
    T* const c_0 = static_cast<T*>(g.c) + batch * g.c_batch;
    const T* const b_0 = static_cast<const T*>(g.b) + batch * g.b_batch;

    int64_t p0 = 0;
    do {  // an empty k still writes the bias
      const int64_t depth = g.k - p0 < run ? g.k - p0 : run;
      const bool last = p0 + depth >= g.k;
      const T* a = a_0 + batch * g.a_batch + p0 * g.a_column;
      if (blocks.copies) {
        int64_t first[kBlockTiles<T> + 1];
        for (int64_t i = 0; i <= tiles; ++i) first[i] = row_of(tile_0 + i);
        copy_rows(copy, a, a_row, g.a_column, first, tiles, depth);
      }
      const bool bands = g.update && blocks.large;
      const int64_t row_0 = bands ? row_of(tile_0) : 0, band = bands ? kBand / tiles : 1;  // panels
      int64_t of_band = 0;
      for (int64_t panel = panel_0; panel < panel_1; ++panel) {
        const int64_t column = panel * width, columns = g.n - column < width ? g.n - column : width;
        const int64_t vectors = chunks_of(columns, kLanes<T>);
        bool padded = g.packed || g.transposed;
        Tile<T> t;
        t.c_row = keep_gradient ? g.n : band * kPanel<T>;
        t.b = b_0 + (g.packed ? panel * width * g.k + p0 * width : p0 * g.n + column);
        t.b_row = padded ? width : g.n;
        t.bias = g.bias ? static_cast<const T*>(g.bias) + column : nullptr;
        t.depth = depth;
        t.lanes = columns - (vectors - 1) * kLanes<T>;
        t.go_on = p0 > 0 || g.accumulate;
        t.relu = last && g.activation == Activation::relu;
        const T* ahead = g.packed && blocks.large && panel + 1 < panel_1 ? t.b + width * g.k : nullptr;
        if (g.transposed) {
          pack_panel(panel_copies[0], b_0 + column * g.k + p0, g.k, columns, depth, true);
          t.b = panel_copies[0];
        }
        const bool have_copy = keep_panel && filled == t.b && filled_depth == depth;
        if (have_copy) {
          reading = 1 - reading;
          t.b = panel_copies[reading];
          t.b_row = width;
          padded = true;
        }
        // The panel that comes next, if it is a whole one. The tiles that read a copy of this one share out its rows.
        const int64_t helper_0 = have_copy ? tile_0 : tile_0 + 1;
        const T* next_b = nullptr;
        int64_t next_depth = 0, next_share = 0;
        if (keep_panel && kRepeat<T> == 1 && vectors == 2 && depth > 0 && helper_0 < tile_1) {
          int64_t next_p0 = p0, next = panel + 1;
          if (next == panel_1 && !last) {
            next_p0 = p0 + depth;
            next = panel_0;
          } else if (next == panel_1) {
            next_p0 = 0;
            next = blocks.by_rows ? 0 : slow + 1;
          }
          next_depth = g.k - next_p0 < run ? g.k - next_p0 : run;
          next_share = chunks_of(next_depth, tile_1 - helper_0);
          const bool more = panel + 1 < panel_1 || !last || (chunk < end && chunk % product != 0);
          if (more && (next + 1) * width <= g.n && kNextSteps * next_share <= depth) {
            next_b = b_0 + next_p0 * g.n + next * width;
          }
        }
        if (g.row_sum && tile_0 == 0) {
          sum_rows(static_cast<T*>(g.row_sum) + column, t.b, t.b_row, columns, depth, p0 > 0 || g.add_row_sum);
        }
        // The next panel's columns of C, if they are lines of their own.
        const bool next = blocks.large && kPanel<T> * sizeof(T) >= 64 && panel + 1 < panel_1;
        const T* next_panel = next ? c_0 + row_of(tile_0) * g.n + column + width : nullptr;
        for (int64_t i = tile_0; i < tile_1; ++i) {
          const int64_t row = row_of(i), rows = row_of(i + 1) - row;
          T* const c = c_0 + row * g.n + column;
          t.c = c;
          if (!keep_gradient) {
            t.c = gradient + (bands ? (row - row_0) * t.c_row + of_band * width : 0);
          }
          t.a = blocks.copies ? copy.data + (i - tile_0) * copy.tile : a + row * a_row;
          t.a_row = blocks.copies ? copy.a_row : a_row;
          t.a_column = blocks.copies ? copy.a_column : g.a_column;
          if (blocks.large && !blocks.copies && panel == panel_0 && i + 1 < tile_1) t.a_next = t.a + rows * a_row;
          if (blocks.large && keep_gradient) t.c_next = i + 1 < tile_1 ? c + rows * g.n : next_panel;
          if (ahead) {  // each tile asks for its share of the panel
            t.ahead = ahead + (i - tile_0) * (width * depth / tiles);
            t.ahead_step = chunks_of(width, tiles);
          }
          if (g.source && panel == panel_0) {  // the next rows, on their way from memory
            t.ahead = t.a + rows * a_row;
            t.ahead_step = rows * a_row / depth;
          }
          if (keep_panel && !have_copy && i == tile_0 && vectors == 2) {
            t.kept = panel_copies[reading];
            blocks.large ? tile_that_copies<T, Copies::panel, (kRepeat<T> > 1)>(rows, t, false)
                         : tile_that_copies<T, Copies::panel, false>(rows, t, false);
            t.b = panel_copies[reading];
            t.b_row = width;
            padded = true;
          } else if (next_b) {
            const int64_t first = (i - helper_0) * next_share;
            t.next = next_b + first * g.n;
            t.next_row = g.n;
            t.next_rows = clip(next_depth - first, 0, next_share);
            t.next_steps = depth / next_share;
            t.kept = panel_copies[1 - reading] + first * width;
            tile_that_copies<T, Copies::next, false>(rows, t, true);
          } else {
            blocks.large ? tile_at<T, (kRepeat<T> > 1)>(rows, vectors, t, padded)
                         : tile_at<T>(rows, vectors, t, padded);
          }
          if (last && g.update && !bands) update<T>(*g.update, {t.c, row * g.n + column, rows, columns, g.n, t.c_row});
          if (last && g.activation > Activation::relu) {
            for (int64_t r = 0; r < rows; ++r) {
              apply_row<T>(g.activation, t.c + r * g.n, t.c + r * g.n, columns, g.alpha);
            }
          }
          if (last && g.through) {
            const T* y = static_cast<const T*>(g.through) + row * g.n + column;
            for (int64_t r = 0; r < rows; ++r) {
              backward_row<T>(g.through_activation, t.c + r * g.n, t.c + r * g.n, y + r * g.n, columns,
                              g.through_alpha);
            }
          }
        }
        filled = next_b;
        filled_depth = next_depth;
        if (bands && last && (++of_band == band || panel == panel_1 - 1)) {
          const int64_t first = column - (of_band - 1) * width;
          of_band = 0;
          const T* from = keep_gradient ? c_0 + row_0 * g.n + first : gradient;
          update<T>(*g.update,
                    {from, row_0 * g.n + first, row_of(tile_1) - row_0, column + columns - first, g.n, t.c_row});
        }
      }
      p0 += depth;
    } while (p0 < g.k);
  }
}

template <class T>
int64_t matmul_chunks(const MatmulArgs& g) {
  if (few_steps(g)) return g.batches * chunks_of(g.m, kOuterRows);
  if (few_rows(g)) return g.batches * chunks_of(g.n, kDotColumns);
  const Blocks blocks = blocks_of<T>(g);
  return g.batches * blocks.groups * blocks.panels;
}

// B in panels: panel j holds columns j * width.. of B, row after row. Chunks: a panel.
template <class T>
void pack(const PackArgs& g, int64_t begin, int64_t end) {
  constexpr int64_t width = kPanel<T>;
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t column = panel * width, columns = g.n - column < width ? g.n - column : width;
    pack_panel(static_cast<T*>(g.packed) + column * g.k,
               static_cast<const T*>(g.b) + (g.transposed ? column * g.k : column), g.transposed ? g.k : g.n, columns,
               g.k, g.transposed);
  }
}

template <class T>
int64_t packed_size(int64_t n, int64_t k) {
  return chunks_of(n, kPanel<T>) * kPanel<T> * k;
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
