// The convolution's input gradient of few channels, a room of conv2d.cpp.
//
// Vectors of channels would be almost empty. These are of pixels: a block of dy is turned into panels, some pixels of a
// row by all filters, and a tile is some pairs (kw, c) by such a panel, its sums over kh and the filters:
//   q[kw, c, ow] = sum of w[kh, kw, c, f] dy[oh, ow, f],   dx[ih, iw, c] = sum of q[kw, c, ow] over the taps kw
// So dx is a sum of a few lines of q, shifted, and w is read as it is.
#pragma once

#include "kernels/activate.h"
#include "kernels/conv2d_blocks.h"
#include "kernels/correlation.h"

namespace ranvier::RANVIER_TIER {
namespace {

template <class T>
constexpr int64_t kThinBlock = (256 << 10) / static_cast<int64_t>(sizeof(T));  // elements of dy
constexpr int64_t kThinDepth = 512;   // rows of dy that a row of dx sees, times filters: at most
constexpr int64_t kThinLines = 64;    // pairs (kw, c), or (column's remainder, c)
constexpr int64_t kThinPixels = 256;  // of a row of a block
constexpr int64_t kThinLine = kThinPixels + 64 / sizeof(float);  // vectors are read beyond the last pixel

RANVIER_INLINE int64_t lines_seen(const ConvGeometry& g) {
  return (g.kernel_height - 1) / g.stride_height + 1;
}
RANVIER_INLINE bool is_thin(const ConvGeometry& g) {
  return g.groups == 1 && g.channels <= 8 && g.kernel_width > 1 && g.dilation_height == 1 && g.dilation_width == 1 &&
         g.kernel_width * g.channels <= kThinLines && g.stride_width * g.channels <= kThinLines &&
         lines_seen(g) * g.filters <= kThinDepth;
}

template <class T>
RANVIER_INLINE PixelBlocks thin_blocks(const ConvGeometry& g) {
  constexpr int64_t kFew = 16;
  const auto inputs_of = [](int64_t outputs, int64_t stride, int64_t kernel)
                             __attribute__((always_inline)) { return outputs * stride - kernel + 1; };
  const int64_t most = clip(kThinBlock<T> / (lines_seen(g) * g.filters), kPanel<T>, kThinPixels);
  PixelBlocks b;
  b.across = chunks_of(g.width, inputs_of(most / kPanel<T> * kPanel<T>, g.stride_width, g.kernel_width));
  const int64_t seen = (chunks_of(g.width, b.across) + g.kernel_width - 2) / g.stride_width + 1;
  const int64_t pixels = chunks_of(seen < g.out_width ? seen : g.out_width, kPanel<T>) * kPanel<T>;
  const int64_t rows = inputs_of(kThinBlock<T> / (pixels * g.filters), g.stride_height, g.kernel_height);
  const int64_t images = g.batch > 0 ? g.batch : 1;
  b.down = clip(chunks_of(kFew, images * b.across), chunks_of(g.height, rows), g.height);
  b.images = g.batch;
  return b;
}

template <class T>
void thin_input_gradient(const ConvInputGradientArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const PixelBlocks blocks = thin_blocks<T>(g);
  const Axis down = down_of(g), across = across_of(g);
  const int64_t lines = g.kernel_width * g.channels, streams = g.stride_width * g.channels;
  const int64_t tiles = chunks_of(lines, kRows), panel_size = g.filters * kPanel<T>;
  const T* const w = static_cast<const T*>(a.w);
  const T* const bias = static_cast<const T*>(a.bias);
  alignas(64) T turned[kThinBlock<T>];
  alignas(64) T q[kThinLines * kThinLine];
  alignas(64) T sums[kThinLines * kThinLine];
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const PixelBlock block = pixel_block(blocks, chunk, g.batch, g.height, g.width);
    const int64_t image = block.images.begin;
    const Range all = across.readers_of(block.columns), columns = common(all, {0, g.out_width});
    const Range rows = common(down.readers_of(block.rows), {0, g.out_height});
    const int64_t panels = chunks_of(columns.size(), kPanel<T>);
    const auto width_of = [&](int64_t panel) __attribute__((always_inline)) {
      const int64_t left = columns.size() - panel * kPanel<T>;
      return left < kPanel<T> ? left : kPanel<T>;
    };
    for (int64_t oh = rows.begin; oh < rows.end; ++oh) {
      const int64_t pixel = (image * g.out_height + oh) * g.out_width + columns.begin;
      for (int64_t panel = 0; panel < panels; ++panel) {
        pack_transposed(turned + ((oh - rows.begin) * panels + panel) * panel_size,
                        static_cast<const T*>(a.dy) + (pixel + panel * kPanel<T>)*g.filters, g.filters, width_of(panel),
                        g.filters);
      }
    }
    for_lanes<T>(0, lines * kThinLine,
                 [&](int64_t i, int64_t) __attribute__((always_inline)) { store(q + i, Vec<T>{}); });

    Tile<T> t;
    t.bias = nullptr;
    t.relu = false;
    t.go_on = false;
    t.a_row = g.filters;
    t.a_column = 1;
    t.b_row = kPanel<T>;
    t.c_row = kThinLine;
    t.depth = g.filters;
    const int64_t width = block.columns.size();
    for (int64_t ih = block.rows.begin; ih < block.rows.end; ++ih) {
      // tap kh + i * stride reads row oh - i
      const int64_t oh = (ih + down.pad) / down.stride, kh = (ih + down.pad) % down.stride;
      const int64_t first = oh < rows.end ? 0 : oh - rows.end + 1, seen = chunks_of(down.kernel - kh, down.stride);
      const int64_t last = oh - rows.begin + 1 < seen ? oh - rows.begin + 1 : seen;
      t.runs = {1, last - first, 0, down.stride * lines * g.filters, 0, -panels * panel_size};
      for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t vectors = chunks_of(width_of(panel), kLanes<T>);
        t.lanes = width_of(panel) - (vectors - 1) * kLanes<T>;
        t.b = turned + ((oh - first - rows.begin) * panels + panel) * panel_size;
        for (int64_t i = 0; i < tiles; ++i) {
          const Range some = part(lines, i, tiles);
          t.a = w + ((kh + first * down.stride) * lines + some.begin) * g.filters;
          t.c = q + some.begin * kThinLine + columns.begin - all.begin + panel * kPanel<T>;
          tile_of_runs<T>(some.size(), vectors, t, true);
        }
      }
      const int64_t at = ((image * g.height + ih) * g.width + block.columns.begin) * g.channels;
      T* const dx = static_cast<T*>(a.dx) + at;
      for (int64_t i = 0; i < streams; ++i) {
        // of columns iw + j * stride: tap kw + k * stride reads output ow + j - k
        const int64_t column = i / g.channels, c = i % g.channels, iw = block.columns.begin + column;
        const int64_t ow = (iw + across.pad) / across.stride, kw = (iw + across.pad) % across.stride;
        const int64_t taps = chunks_of(across.kernel - kw, across.stride);
        const int64_t count = chunks_of(width - column, across.stride);
        const T* const from = q + (kw * g.channels + c) * kThinLine + ow - all.begin;
        T* const to = streams == 1 ? dx : sums + i * kThinLine;
        for_lanes<T>(0, count, [&](int64_t j, int64_t k) __attribute__((always_inline)) {
          Vec<T> sum = splat<T>(bias ? bias[c] : T(0));
          for (int64_t tap = 0; tap < taps; ++tap) sum += load(from + tap * (streams * kThinLine - 1) + j);
          store_lanes(to + j, sum, k);
        });
        if (streams == 1) continue;
        for (int64_t j = 0; j < count; ++j) dx[j * streams + i] = to[j];
      }
      const int64_t size = width * g.channels;
      if (a.activation != Activation::linear) apply_row<T>(a.activation, dx, dx, size, a.alpha);
      if (a.through) {
        backward_row<T>(a.through_activation, dx, dx, static_cast<const T*>(a.through) + at, size, a.through_alpha);
      }
    }
  }
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
