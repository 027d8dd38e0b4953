// The matrix product: a shared tool of the kernel families.
//
// C (m, n) is cut into tiles of kRows rows by two vectors of columns. A tile's sums live in registers while p runs over
// k: each step loads two vectors of B's row p and multiplies them by kRows broadcast elements of A.
//
// Large products are blocked for the caches (Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication,
// 2008): k in runs of kDepth, so that a panel of B, kDepth by two vectors, stays in the first-level cache while a block
// of A, copied into the order in which tiles read it, streams past it from the second level. B is packed by its caller
// (pack) where that pays or where it must be transposed.
//
// Every element of C is one chain of fused multiply-adds over p in order; a later run of k goes on from what C holds.
// So neither tile, block, thread nor vector width changes a bit.
#pragma once

#include "kernels/activate.h"
#include "kernels/update.h"

namespace ranvier::RANVIER_TIER {
namespace {

// 2 * kRows sums, two vectors of B and a broadcast must fit the registers (32 on AVX-512 and AArch64, 16 elsewhere),
// and 2 * kRows chains must cover the latency of the multiply-add (4 cycles on 2 ports).
#if defined(__AVX512F__)
constexpr int kRows = 14;
#elif defined(__aarch64__)
constexpr int kRows = 12;
#else
constexpr int kRows = 6;
#endif

template <class T>
constexpr int64_t kPanel = 2 * kLanes<T>;  // columns of a tile
// Bytes of a panel of B, kDepth * 2 vectors: about a first-level cache. Longer runs of k read and write C less often;
// measured on Zen 4 at 1024^3, one thread, with panels of 24, 32 and 48 KB: 97, 99 and 103 GFLOP/s.
template <class T>
constexpr int64_t kDepth = (kVectorBytes == 64 ? 32768 : 16384) / (2 * kVectorBytes);
constexpr int64_t kBlockTiles = 8;    // tiles down a block: 8 * 14 * kDepth floats of A are 115 KB of the second level
constexpr int64_t kBlockPanels = 16;  // panels across a block, at most: a copied block of A is used that often

// One row of A is an outer product of latency: more vectors keep the ports busy.
constexpr int kWideVectors = 8;

struct Blocks {
  int64_t tiles, panels;                       // of C
  int64_t blocks_down, blocks_across, blocks;  // of C
  bool large;                                  // blocks of many tiles; else each tile is one
  bool by_rows;                                // the order of the blocks
  int vectors;                                 // of a panel
};
template <class T>
RANVIER_INLINE Blocks blocks_of(const MatmulArgs& g) {
  Blocks b;
  const bool wide = g.m == 1 && !g.packed;
  b.vectors = wide ? kWideVectors : 2;
  b.tiles = chunks_of(g.m, kRows);
  b.panels = wide ? chunks_of(g.n, kWideVectors * kLanes<T>) : chunks_of(g.n, kPanel<T>);
  b.large = b.tiles * b.panels >= 256;
  b.blocks_down = b.large ? chunks_of(b.tiles, kBlockTiles) : b.tiles;
  b.blocks_across =
      b.large ? chunks_of(b.panels, b.panels < 2 * kBlockPanels ? kBlockPanels / 2 : kBlockPanels) : b.panels;
  b.blocks = b.blocks_down * b.blocks_across;
  // Where all of B stays in the cache, threads take rows of C: a kernel's gradient is then written by the thread whose
  // optimizer step reads it. Elsewhere they take columns, and each reads its own part of B alone; so they do where the
  // step is part of the product: the thread that updates a part of a kernel is the one that reads it in the forward
  // pass.
  constexpr int64_t kSmall = 32768;
  b.by_rows = !g.update && g.k * g.n * static_cast<int64_t>(sizeof(T)) <= kSmall;
  return b;
}

// Where a tile reads and writes.
template <class T>
struct Tile {
  T* c;
  const T* a;
  const T* b;
  const T* bias;                   // null: none, or not now
  int64_t c_row, a_row, a_column;  // strides
  int64_t b_row, depth, lanes;     // lanes of the last vector
  bool go_on;                      // from what C holds
  bool relu;
};

template <class T, int rows, int vectors>
void tile(const Tile<T>& t, bool padded) {
  constexpr int kL = kLanes<T>;
  const int64_t a_row = t.a_row, a_column = t.a_column, b_row = t.b_row, lanes = t.lanes;
  Vec<T> sum[rows][vectors];
  if (t.go_on) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        const T* c = t.c + i * t.c_row + v * kL;
        sum[i][v] = v + 1 < vectors ? load(c) : load_lanes(c, lanes);
      }
    }
  } else {
    Vec<T> start[vectors] = {};
    if (t.bias) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        start[v] = v + 1 < vectors ? load(t.bias + v * kL) : load_lanes(t.bias + v * kL, lanes);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[i][v] = start[v];
    }
  }

  const auto steps = [&](auto last) __attribute__((always_inline)) {
    const T* a = t.a;
    const T* b = t.b;
    for (int64_t p = 0; p < t.depth; ++p, a += a_column, b += b_row) {
      Vec<T> bv[vectors];
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) bv[v] = v + 1 < vectors ? load(b + v * kL) : last(b + v * kL);
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) {
        const Vec<T> av = splat<T>(a[i * a_row]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sum[i][v] = fma(av, bv[v], sum[i][v]);
      }
    }
  };
  if (padded || lanes == kL) {
    steps([](const T* p) __attribute__((always_inline)) { return load(p); });
  } else {
    steps([=](const T* p) __attribute__((always_inline)) { return load_n(p, lanes); });
  }

#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      Vec<T> y = sum[i][v];
      if (t.relu) y = apply<T, Activation::relu>(y, T(0));
      T* c = t.c + i * t.c_row + v * kL;
      if (v + 1 < vectors) {
        store(c, y);
      } else {
        store_lanes(c, y, lanes);
      }
    }
  }
}

// The tile of `rows` rows and `vectors` vectors, found at run time.
template <class T, int vectors, int rows>
RANVIER_INLINE void tile_of_rows(int64_t wanted, const Tile<T>& t, bool padded) {
  if constexpr (rows > 1) {
    if (wanted < rows) return tile_of_rows<T, vectors, rows - 1>(wanted, t, padded);
  }
  tile<T, rows, vectors>(t, padded);
}
template <class T, int vectors>
RANVIER_INLINE void tile_of_vectors(int64_t wanted, const Tile<T>& t, bool padded) {
  if constexpr (vectors > 1) {
    if (wanted < vectors) return tile_of_vectors<T, vectors - 1>(wanted, t, padded);
  }
  tile<T, 1, vectors>(t, padded);
}
template <class T>
void tile_at(int64_t rows, int64_t vectors, const Tile<T>& t, bool padded) {
  if (rows == 1) return tile_of_vectors<T, kWideVectors>(vectors, t, padded);
  if (vectors == 2) return tile_of_rows<T, 2, kRows>(rows, t, padded);
  tile_of_rows<T, 1, kRows>(rows, t, padded);
}

// A square of a matrix in registers, turned over its diagonal: lane j of row i becomes lane i of row j.
template <class T>
RANVIER_INLINE void transpose_square(Vec<T> (&row)[kLanes<T>]) {
  constexpr int kL = kLanes<T>;
#pragma GCC unroll 4
  for (int step = 1; step < kL; step *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < kL; ++i) {
      if (i & step) continue;
      const int j = (i + step) % kL;  // i + step, and the compiler sees that it is in bounds
      const Vec<T> a = row[i], b = row[j];
      row[i] = exchange<T>(a, b, step, false);
      row[j] = exchange<T>(a, b, step, true);
    }
  }
}

// Copies rows x depth elements of A into the order in which a tile reads them: p by p. Writes up to a vector further.
template <class T>
void copy_rows(T* to, const T* a, int64_t a_row, int64_t a_column, int64_t rows, int64_t depth) {
  constexpr int64_t kL = kLanes<T>;
  if (a_column == 1 && rows <= kL) {  // by squares
    for (int64_t p = 0; p < depth; p += kL) {
      const int64_t n = depth - p < kL ? depth - p : kL;
      Vec<T> square[kL];
#pragma GCC unroll 16
      for (int64_t r = 0; r < kL; ++r) square[r] = r < rows ? load_lanes(a + r * a_row + p, n) : Vec<T>{};
      transpose_square<T>(square);
      for (int64_t q = 0; q < n; ++q) store(to + (p + q) * rows, square[q]);
    }
    return;
  }
  for (int64_t p = 0; p < depth; ++p, to += rows, a += a_column) {
    for (int64_t r = 0; r < rows; ++r) to[r] = a[r * a_row];
  }
}

// Chunks are blocks of C. Rows are shared out evenly, so that 32 rows are three tiles of 11, 11 and 10 and not two full
// ones and a thin one.
template <class T>
void matmul(const MatmulArgs& g, int64_t begin, int64_t end) {
  const Blocks blocks = blocks_of<T>(g);
  const int64_t width = blocks.vectors * kLanes<T>;
  const auto row_of = [&](int64_t tile) __attribute__((always_inline)) {
    return blocks.tiles == 1 ? g.m * tile : g.m * tile / blocks.tiles;  // a division costs as much as a small tile
  };
  const bool copy_a = blocks.large;
  // A gradient that is complete with its tile is used up there and then.
  const bool keep_gradient = !g.update || g.accumulate || blocks.vectors != 2 || (copy_a && g.k > kDepth<T>);
  alignas(64) T gradient[kRows * kPanel<T>];
  alignas(64) T copied[kBlockTiles * kRows * kDepth<T> + kLanes<T>];

  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t inner = blocks.by_rows ? blocks.blocks_across : blocks.blocks_down;
    const int64_t slow = inner == 1 ? chunk : chunk / inner, fast = chunk - slow * inner;
    const int64_t down = blocks.by_rows ? slow : fast, across = blocks.by_rows ? fast : slow;
    int64_t tile_0 = down, tile_1 = down + 1, panel_0 = across, panel_1 = across + 1;
    if (blocks.large) {  // blocks of about the same size
      tile_0 = blocks.tiles * down / blocks.blocks_down;
      tile_1 = blocks.tiles * (down + 1) / blocks.blocks_down;
      panel_0 = blocks.panels * across / blocks.blocks_across;
      panel_1 = blocks.panels * (across + 1) / blocks.blocks_across;
    }

    // Unblocked products run over k at once; an empty k still writes the bias.
    const int64_t run = copy_a ? kDepth<T> : g.k;
    int64_t p0 = 0;
    do {
      const int64_t depth = g.k - p0 < run ? g.k - p0 : run;
      const bool last = p0 + depth >= g.k;
      const T* a = static_cast<const T*>(g.a) + p0 * g.a_column;
      if (copy_a) {
        T* to = copied;
        for (int64_t i = tile_0; i < tile_1; ++i) {
          const int64_t row = row_of(i), rows = row_of(i + 1) - row;
          copy_rows(to, a + row * g.a_row, g.a_row, g.a_column, rows, depth);
          to += rows * depth;
        }
      }
      for (int64_t panel = panel_0; panel < panel_1; ++panel) {
        const int64_t column = panel * width, columns = g.n - column < width ? g.n - column : width;
        const int64_t vectors = chunks_of(columns, kLanes<T>);
        Tile<T> t;
        t.c_row = keep_gradient ? g.n : kPanel<T>;
        t.b = static_cast<const T*>(g.b) + (g.packed ? panel * width * g.k + p0 * width : p0 * g.n + column);
        t.b_row = g.packed ? width : g.n;
        t.bias = g.bias ? static_cast<const T*>(g.bias) + column : nullptr;
        t.depth = depth;
        t.lanes = columns - (vectors - 1) * kLanes<T>;
        t.go_on = p0 > 0 || g.accumulate;
        t.relu = last && g.activation == Activation::relu;
        const T* block = copied;
        for (int64_t i = tile_0; i < tile_1; ++i) {
          const int64_t row = row_of(i), rows = row_of(i + 1) - row;
          t.c = keep_gradient ? static_cast<T*>(g.c) + row * g.n + column : gradient;
          t.a = copy_a ? block : a + row * g.a_row;
          t.a_row = copy_a ? 1 : g.a_row;
          t.a_column = copy_a ? rows : g.a_column;
          block += rows * depth;
          tile_at<T>(rows, vectors, t, g.packed);
          if (last && g.update) {
            update<T>(*g.update, {t.c, row * g.n + column, rows, columns, g.n, t.c_row});
          }
          if (last && g.activation > Activation::relu) {
            for (int64_t r = 0; r < rows; ++r)
              apply_row<T>(g.activation, t.c + r * g.n, t.c + r * g.n, columns, g.alpha);
          }
        }
      }
      p0 += depth;
    } while (p0 < g.k);
  }
}

template <class T>
int64_t matmul_chunks(const MatmulArgs& g) {
  return blocks_of<T>(g).blocks;
}

// B in panels: panel j holds columns j * width.. of B, row after row, filled up with zeros. Chunks: a panel.
template <class T>
void pack(const PackArgs& g, int64_t begin, int64_t end) {
  constexpr int64_t kL = kLanes<T>, width = kPanel<T>;
  const T* b = static_cast<const T*>(g.b);
  for (int64_t panel = begin; panel < end; ++panel) {
    T* to = static_cast<T*>(g.packed) + panel * width * g.k;
    const int64_t column = panel * width, columns = g.n - column < width ? g.n - column : width;
    if (!g.transposed) {
      for (int64_t p = 0; p < g.k; ++p) {
        const T* from = b + p * g.n + column;
        for (int64_t v = 0; v < 2; ++v) {
          const int64_t left = columns - v * kL;
          store(to + p * width + v * kL, left >= kL ? load(from + v * kL) : load_n(from + v * kL, left > 0 ? left : 0));
        }
      }
      continue;
    }
    for (int64_t v = 0; v < 2; ++v) {
      for (int64_t p = 0; p < g.k; p += kL) {  // a square: kL columns by kL values of p
        const int64_t depth = g.k - p < kL ? g.k - p : kL;
        Vec<T> square[kL];
#pragma GCC unroll 16
        for (int64_t c = 0; c < kL; ++c) {
          const int64_t j = v * kL + c;
          square[c] = j < columns ? load_lanes(b + (column + j) * g.k + p, depth) : Vec<T>{};
        }
        transpose_square<T>(square);
        for (int64_t q = 0; q < depth; ++q) store(to + (p + q) * width + v * kL, square[q]);
      }
    }
  }
}

template <class T>
int64_t packed_size(int64_t n, int64_t k) {
  return chunks_of(n, kPanel<T>) * kPanel<T> * k;
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
