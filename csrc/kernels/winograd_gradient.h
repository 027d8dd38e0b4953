// The kernel's gradient by Winograd's tiles, a room of winograd.cpp.
//
// The sum over tiles is cut three ways: into blocks of channels and of filters, whose sums fit the second-level cache,
// and, where that leaves few chunks, into runs of tiles, each with sums of its own (parts) for winograd_sum to add.
#pragma once

#include "kernels/gemm.h"
#include "kernels/winograd_tiles.h"

namespace ranvier::RANVIER_TIER {
namespace {

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

}  // namespace
}  // namespace ranvier::RANVIER_TIER
