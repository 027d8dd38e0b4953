// The convolution's kernel gradient, a room of conv2d.cpp.
#pragma once

#include "kernels/conv2d_blocks.h"
#include "kernels/correlation.h"

namespace ranvier::RANVIER_TIER {
namespace {

// The tiles of dw: some channels of one tap by a panel of filters. Few channels are merged with kw, along which they go
// on in x and in dw.
template <class T>
struct GradientPlan {
  PixelBlocks pixels;
  bool merged;
  int64_t lanes, kw, rows, panels, tiles, splits;  // lanes, in `rows` tiles, of each of `kw` taps
};
template <class T>
RANVIER_INLINE GradientPlan<T> gradient_plan(const ConvGeometry& g) {
  constexpr int64_t kSplitBytes = 1 << 20, kMost = 8, kOutputs = 4096;
  constexpr int64_t kBytes = 256 << 10;                      // of a block: the second level holds the next beside it
  constexpr int64_t kShort = 64, kLong = 256, kMany = 2048;  // pixels of a block
  constexpr int64_t kThin = 14;
  const int64_t channels = g.channels / g.groups, bytes = static_cast<int64_t>(sizeof(T));
  GradientPlan<T> p;
  const int64_t pixel = (g.channels * g.stride_height * g.stride_width + g.filters) * bytes;
  const int64_t size = g.kernel_height * g.kernel_width * channels * g.filters * bytes;
  const int64_t few = clip(size >> 12, kShort, kLong);  // each block goes through dw once more
  p.pixels = pixel_blocks(g.batch, g.out_height, g.out_width, clip(kBytes / pixel, few, kMany));
  p.merged = g.groups == 1 && g.dilation_width == 1 && channels < kThin;
  p.lanes = p.merged ? g.kernel_width * channels : channels;
  p.kw = p.merged ? 1 : g.kernel_width;
  p.rows = chunks_of(p.lanes, kRows);
  p.panels = panels_of<T>(g.filters, g.groups);
  p.tiles = g.kernel_height * p.kw * p.rows * p.panels;
  const int64_t outputs = g.batch * g.out_height * g.out_width;
  // An even number, lest threads share the pixels of one; one where adding the parts would cost more than that saves.
  const int64_t pairs = clip(kSplitBytes / (2 * size), outputs >= kOutputs, kMost / 2);
  p.splits = clip(2 * pairs, 1, clip(p.pixels.count(), 1, kMost));
  return p;
}

// The filters of a panel.
template <class T>
RANVIER_INLINE Range filters_of(const ConvGeometry& g, int64_t panel) {
  const int64_t filters = g.filters / g.groups, panels = chunks_of(filters, kPanel<T>), group = panel / panels;
  const int64_t first = group * filters + (panel - group * panels) * kPanel<T>, stop = (group + 1) * filters;
  return {first, first + kPanel<T> < stop ? first + kPanel<T> : stop};
}

// sum += the rows of x, `step` apart, a panel of columns
template <class T>
void add_rows(T* sum, const T* x, int64_t step, int64_t rows, int64_t columns) {
  constexpr int64_t kL = kLanes<T>;
  constexpr int kChains = 4;  // of additions, as many as one takes cycles
  const int64_t lanes[2] = {clip(columns, 0, kL), clip(columns - kL, 0, kL)};
  Vec<T> total[kChains][2] = {};
  const auto add = [&](Vec<T>* to) __attribute__((always_inline)) {
    for (int v = 0; v < 2; ++v) to[v] += load_lanes(x + v * kL, lanes[v]);
    x += step;
  };
  int64_t r = 0;
  for (; r + kChains <= rows; r += kChains) {
#pragma GCC unroll 4
    for (int i = 0; i < kChains; ++i) add(total[i]);
  }
  for (; r < rows; ++r) add(total[0]);
  for (int v = 0; v < 2; ++v) {
    const Vec<T> all = (total[0][v] + total[1][v]) + (total[2][v] + total[3][v]);
    store_lanes(sum + v * kL, load_lanes(sum + v * kL, lanes[v]) + all, lanes[v]);
  }
}

// Tiles [begin, end) of dw += their sums over one block of pixels, and so db for each panel whose first tile is one of
// them; meanwhile asks for the next block.
template <class T>
void gradient_block(const ConvKernelGradientArgs& a, const GradientPlan<T>& p, T* dw, T* db, const PixelBlock& block,
                    const PixelBlock& next, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const int64_t channels = g.channels / g.groups;
  const Axis down = down_of(g), across = across_of(g);
  const T* const x = static_cast<const T*>(a.x);
  const T* const dy = static_cast<const T*>(a.dy);
  const auto dy_at = [&](int64_t image, int64_t row, int64_t column) __attribute__((always_inline)) {
    return dy + ((image * g.out_height + row) * g.out_width + column) * g.filters;
  };
  const auto x_at = [&](int64_t image, int64_t row, int64_t column) __attribute__((always_inline)) {
    return x + ((image * g.height + row * down.stride - down.pad) * g.width + column * across.stride - across.pad) *
                   g.channels;
  };
  const int64_t last = next.images.end - 1;
  Ahead<T> next_dy = {dy_at(next.images.begin, next.rows.begin, next.columns.begin),
                      dy_at(last, next.rows.end - 1, next.columns.end)};
  Ahead<T> next_x = {x_at(next.images.begin, next.rows.begin, next.columns.begin),
                     x_at(last, next.rows.end - 1, next.columns.end)};
  Tile<T> t;
  t.bias = nullptr;
  t.relu = false;
  t.go_on = true;
  t.a_row = 1;
  t.a_column = g.stride_width * g.channels;
  t.b_row = g.filters;
  t.c_row = g.filters;
  for (int64_t i = begin; i < end;) {  // the tiles of one tap and panel together
    const int64_t tap = i / p.rows, first = i - tap * p.rows;
    const int64_t stop = first + (end - i) < p.rows ? first + (end - i) : p.rows;
    i += stop - first;
    const int64_t kw = tap % p.kw, kh = tap / p.kw % g.kernel_height, panel = tap / (p.kw * g.kernel_height);
    const Range filters = filters_of<T>(g, panel);
    const int64_t group = filters.begin * g.groups / g.filters, vectors = chunks_of(filters.size(), kLanes<T>);
    t.lanes = filters.size() - (vectors - 1) * kLanes<T>;
    if (db && kw == 0 && kh == 0 && first == 0) {
      for (int64_t image = block.images.begin; image < block.images.end; ++image) {
        for (int64_t row = block.rows.begin; row < block.rows.end; ++row) {
          add_rows(db + filters.begin, dy_at(image, row, block.columns.begin) + filters.begin, g.filters,
                   block.columns.size(), filters.size());
        }
      }
    }
    const Range oh = common(down.outputs_of(kh, g.out_height), block.rows);
    const int64_t ih = oh.begin * down.stride - down.pad + kh * down.dilation;
    // over the pixels of some columns, where x begins at column iw, and its lane 0 is dw's lane 0
    const auto add = [&](Range ow, Range seen, int64_t iw) {
      const T* const a_0 = x + ((block.images.begin * g.height + ih) * g.width + iw) * g.channels + group * channels;
      T* const c_0 = dw + (kh * g.kernel_width + kw) * channels * g.filters + filters.begin;
      t.b = dy_at(block.images.begin, oh.begin, ow.begin) + filters.begin;
      t.depth = ow.size();
      t.runs = {block.images.size(),
                oh.size(),
                g.height * g.width * g.channels,
                down.stride * g.width * g.channels,
                g.out_height * g.out_width * g.filters,
                g.out_width * g.filters};
      for (int64_t row = first; row < stop; ++row) {
        const Range lanes = common(part(p.lanes, row, p.rows), seen);
        if (lanes.size() == 0) continue;
        t.a = a_0 + lanes.begin;
        t.c = c_0 + lanes.begin * g.filters;
        t.c_next = t.c + lanes.size() * g.filters;
        ask_ahead(next_dy.at < next_dy.end ? next_dy : next_x, t, block.images.size() * oh.size() * ow.size());
        tile_of_runs<T>(lanes.size(), vectors, t, false);
      }
    };
    if (!p.merged) {
      const Range ow = common(across.outputs_of(kw, g.out_width), block.columns);
      if (ow.size() > 0) add(ow, {0, p.lanes}, ow.begin * across.stride - across.pad + kw * across.dilation);
      continue;
    }
    for (int64_t column = block.columns.begin; column < block.columns.end;) {
      const Range ow = across.span(column, block.columns.end), taps = across.taps(column);
      add(ow, {taps.begin * channels, taps.end * channels}, ow.begin * across.stride - across.pad);
      column = ow.end;
    }
  }
}

// Zeros where gradient_block adds.
template <class T>
void clear_tiles(const ConvKernelGradientArgs& a, const GradientPlan<T>& p, T* dw, T* db, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const int64_t tiles = p.tiles / p.panels;
  const auto clear = [](T* row, Range columns) __attribute__((always_inline)) {
    for_lanes<T>(columns.begin, columns.end,
                 [=](int64_t j, int64_t k) __attribute__((always_inline)) { store_lanes(row + j, Vec<T>{}, k); });
  };
  for (int64_t i = begin; i < end; ++i) {
    const Range filters = filters_of<T>(g, i / tiles), lanes = part(p.lanes, i % p.rows, p.rows);
    if (db && !a.add_db && i % tiles == 0) clear(db, filters);
    for (int64_t lane = lanes.begin; !a.add_dw && lane < lanes.end; ++lane) {
      clear(dw + (i % tiles / p.rows * p.lanes + lane) * g.filters, filters);
    }
  }
}

// Chunks: (split, tile). Whoever has several tiles of a split takes them through the pixels together.
template <class T>
void conv_kernel_gradient(const ConvKernelGradientArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const GradientPlan<T> p = gradient_plan<T>(g);
  const int64_t size = g.kernel_height * g.kernel_width * (g.channels / g.groups) * g.filters;
  const auto block_of = [&](int64_t block) __attribute__((always_inline)) {
    return pixel_block(p.pixels, block, g.batch, g.out_height, g.out_width);
  };
  while (begin < end) {
    const int64_t split = begin / p.tiles, stop = (split + 1) * p.tiles < end ? (split + 1) * p.tiles : end;
    const int64_t first = begin - split * p.tiles, last = stop - split * p.tiles;
    T* const dw = static_cast<T*>(a.dw) + split * size;
    T* const db = a.db ? static_cast<T*>(a.db) + split * g.filters : nullptr;
    clear_tiles(a, p, dw, db, first, last);
    const Range blocks = part(p.pixels.count(), split, p.splits);
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
      gradient_block(a, p, dw, db, block_of(block), block_of(block + 1 < blocks.end ? block + 1 : block), first, last);
    }
    begin = stop;
  }
}

template <class T>
void part_sums(const PartSumsArgs& a, int64_t begin, int64_t end) {
  constexpr int64_t kL = kLanes<T>, kWide = 4 * kL;
  for (int64_t i = begin; i < end; ++i) {
    const Range rows = part(a.rows, i, a.parts);
    const T* x = static_cast<const T*>(a.x);
    T* y = static_cast<T*>(a.y) + i * a.columns;
    int64_t c = 0;
    for (; c + kWide <= a.columns; c += kWide) {
      Vec<T> total[4] = {};
      for (int64_t r = rows.begin; r < rows.end; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) total[v] += load(x + r * a.columns + c + v * kL);
      }
      for (int v = 0; v < 4; ++v) store(y + c + v * kL, total[v]);
    }
    for_lanes<T>(c, a.columns, [&](int64_t j, int64_t k) __attribute__((always_inline)) {
      Vec<T> total = {};
      for (int64_t r = rows.begin; r < rows.end; ++r) total += load_lanes(x + r * a.columns + j, k);
      store_lanes(y + j, total, k);
    });
  }
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
