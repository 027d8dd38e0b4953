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
//
// Here are y and dx, and the kernel's transformation. Its rooms: winograd_tiles.h, the tiles and their patches;
// winograd_outputs.h, how y is written; winograd_gradient.h, dw and db; winograd_lines.h, A, B and G.
#include "kernels/winograd.h"

#include "kernels/gemm.h"
#include "kernels/tier.h"
#include "kernels/winograd_gradient.h"
#include "kernels/winograd_lines.h"
#include "kernels/winograd_outputs.h"
#include "kernels/winograd_tiles.h"

namespace ranvier::RANVIER_TIER {
namespace {

// --- forward, and the gradient of the input --------------------------------------------------------------------------

// Two tiles of the matrix product, or more where they are small: as many whole ones as a group's data may have for the
// second-level cache, and enough to make up for reading U.
constexpr int64_t kGroup = kRows * (28 / kRows), kGroupMost = kGroup * kPoints / 16;
// Few groups are shared out by filters as well: whoever takes a part of them transforms the group's patches for itself.
constexpr int64_t kWantedParts = 16, kPartFilters = 32;
constexpr int64_t kMaxChunks = 64;  // each has its own scratch

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
      t.a_next = i + 1 < p.parts ? t.a + rows * at_v.row
                 : n + 1 < count ? v + products[n + 1].point * at_v.step + products[n + 1].begin * at_v.row
                                 : nullptr;
      tile_at<T>(rows, 2, t, true);
      t.a += rows * at_v.row;
      t.c += rows * at_m.row;
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
