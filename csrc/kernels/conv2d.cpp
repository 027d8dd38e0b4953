// The convolution. Forward: y = f(x * w + b). Backward, with dz = dy * f'(z) (activation.cpp):
//   dx[ih, iw, c] = sum of dz[oh, ow, f] w[kh, kw, c, f] over the taps with oh * stride - pad + kh * dilation = ih, ...
//   dw[kh, kw, c, f] = sum over the pixels of x[oh * stride - pad + kh * dilation, ..., c] dz[oh, ow, f]
//
// All three are products of many runs (gemm.h), without a copy of what they read:
//   y    a tile is some pixels by two vectors of filters. Its sums run over kh, and there over kw and c at once, which
//        lie one after the other in x; w is packed in panels in the same order.
//   dx   with a stride of 1 the same with w turned over. With strides, the pixels of dx that share a remainder (a
//        phase) see every stride-th tap only: each phase is such a convolution with a kernel of its own. Of few
//        channels it is computed in another way, see below.
//   dw   a tile is some channels of one tap by two vectors of filters, and its sums run over the pixels; db beside it.
// Zeros around the image are never multiplied: pixels that see the same taps are taken together (spans).
#include "kernels/conv2d.h"

#include "kernels/correlation.h"
#include "kernels/gemm.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

// What to ask for while other work goes on: lines of memory, some for each tile.
template <class T>
struct Ahead {
  const T* at;
  const T* end;
};
template <class T>
RANVIER_INLINE void ask_ahead(Ahead<T>& next, Tile<T>& t, int64_t steps) {
  constexpr int64_t kLine = 64 / sizeof(T);
  t.ahead = next.at < next.end ? next.at : nullptr;
  t.ahead_step = t.ahead ? kLine : 0;
  next.at += steps * kLine;
}

// Of some images, one group of channels and some panels of filters.
template <class T>
struct Correlation {
  T* y;
  const T* x;
  const T* w;  // (panels, kernel height, kernel width, channels, panel)
  const T* bias;
  Axis down, across;
  int64_t images, y_image, y_row, y_column, x_image, x_row, x_column;  // steps from pixel to pixel
  int64_t channels, filters, panel;                                    // elements of a panel of w
  Activation activation;
  double alpha;
  const T* through;  // as y: y is taken through this activation's slope; null: y
  Activation through_activation;
  double through_alpha;
  bool around;    // y goes around the caches
  Ahead<T> next;  // of x, what the next block will read
};

// Pixels that see the same taps: rows x columns of y. Tiles lie along the side that needs fewest of them.
template <class T>
void correlate_span(Correlation<T>& c, Range rows, Range columns) {
  const Range kh = c.down.taps(rows.begin), kw = c.across.taps(columns.begin);
  const int64_t tap = c.channels * kPanel<T>;  // elements of w
  Tile<T> t;
  t.runs = {kh.size(), kw.size(), c.down.dilation * c.x_row, c.across.dilation * c.x_column, c.across.kernel * tap,
            tap};
  t.depth = c.channels;
  if (c.across.dilation == 1 && c.channels == c.x_column) {
    t.runs = {1, kh.size(), 0, t.runs.a_outer, 0, t.runs.b_outer};
    t.depth = kw.size() * c.channels;
  }
  t.b_row = kPanel<T>;
  t.a_column = 1;
  t.go_on = false;
  t.relu = c.activation == Activation::relu;
  t.around = c.around;
  const int64_t steps = t.runs.outer * t.runs.inner * t.depth;

  struct Side {
    int64_t size, x, y;  // steps
  };
  const Side sides[] = {{columns.size(), c.across.stride * c.x_column, c.y_column},
                        {rows.size(), c.down.stride * c.x_row, c.y_row},
                        {c.images, c.x_image, c.y_image}};
  const auto tiles_along = [&](int i) __attribute__((always_inline)) {
    return chunks_of(sides[i].size, kRows) * sides[(i + 1) % 3].size * sides[(i + 2) % 3].size;
  };
  int best = 0;
  for (int i = 1; i < 3; ++i) {
    if (tiles_along(i) < tiles_along(best)) best = i;
  }
  const Side along = sides[best], inner = sides[best == 0 ? 1 : 0], outer = sides[best == 2 ? 1 : 2];
  const int64_t tiles = chunks_of(along.size, kRows);
  t.a_row = along.x;
  t.c_row = along.y;
  const T* const x = c.x + (rows.begin * c.down.stride - c.down.pad + kh.begin * c.down.dilation) * c.x_row +
                     (columns.begin * c.across.stride - c.across.pad + kw.begin * c.across.dilation) * c.x_column;
  T* const y = c.y + rows.begin * c.y_row + columns.begin * c.y_column;
  const T* const w = c.w + (kh.begin * c.across.kernel + kw.begin) * tap;
  for (int64_t line = 0; line < inner.size * outer.size; ++line) {
    const int64_t i = line / inner.size, j = line - i * inner.size;
    Range pixels = {0, 0};
    for (int64_t n = 1; n <= tiles; ++n) {
      pixels = {pixels.end, along.size * n / tiles};
      T* const first = y + i * outer.y + j * inner.y + pixels.begin * along.y;
      const T* const slopes = c.through ? c.through + (first - c.y) : nullptr;
      t.a = x + i * outer.x + j * inner.x + pixels.begin * along.x;
      t.b = w;
      t.c = first;
      for (int64_t f = 0; f < c.filters; f += kPanel<T>, t.b += c.panel, t.c += kPanel<T>) {
        const int64_t filters = c.filters - f < kPanel<T> ? c.filters - f : kPanel<T>;
        const int64_t vectors = chunks_of(filters, kLanes<T>);
        t.lanes = filters - (vectors - 1) * kLanes<T>;
        t.bias = c.bias ? c.bias + f : nullptr;
        if (!c.around) t.c_next = f + kPanel<T> < c.filters ? t.c + kPanel<T> : first + pixels.size() * along.y;
        ask_ahead(c.next, t, steps);
        for (int64_t p = 0; slopes && p < pixels.size(); ++p) {
          for (int64_t v = 0; v < vectors; ++v) __builtin_prefetch(slopes + p * along.y + f + v * kLanes<T>);
        }
        tile_of_runs<T>(pixels.size(), vectors, t, true);
      }
      for (int64_t p = 0; c.activation > Activation::relu && p < pixels.size(); ++p) {
        T* const row = first + p * along.y;
        apply_row<T>(c.activation, row, row, c.filters, c.alpha);
      }
      for (int64_t p = 0; slopes && p < pixels.size(); ++p) {
        T* const row = first + p * along.y;
        backward_row<T>(c.through_activation, row, row, slopes + p * along.y, c.filters, c.through_alpha);
      }
    }
  }
}

template <class T>
void correlate(Correlation<T>& c, Range rows, Range columns) {
  for_spans(c.down, c.across, rows, columns, [&](Range height, Range width) { correlate_span(c, height, width); });
}

// --- all of a pass ---------------------------------------------------------------------------------------------------

// How the pixels of all images are cut into blocks: some images, or some rows of one, or a part of a row.
struct PixelBlocks {
  int64_t images, down, across;  // how many parts
  int64_t count() const { return images * down * across; }
};
RANVIER_INLINE PixelBlocks pixel_blocks(int64_t batch, int64_t height, int64_t width, int64_t pixels) {
  PixelBlocks b;
  b.across = chunks_of(width, pixels);
  const int64_t columns = chunks_of(width, b.across), rows = clip(pixels / columns, 1, height);
  b.down = chunks_of(height, rows);
  b.images = chunks_of(batch, clip(pixels / (columns * rows), 1, INT64_MAX));
  if (b.count() % 2 == 0) return b;
  int64_t& finest = b.across > 1 ? b.across : b.down > 1 ? b.down : b.images;
  if (finest > 1) ++finest;  // even work for an even number of threads
  return b;
}

struct PixelBlock {
  Range images, rows, columns;
};
RANVIER_INLINE PixelBlock pixel_block(const PixelBlocks& b, int64_t block, int64_t batch, int64_t height,
                                      int64_t width) {
  return {part(batch, block / (b.down * b.across), b.images), part(height, block / b.across % b.down, b.down),
          part(width, block % b.across, b.across)};
}

// And the panels into parts, where there are few blocks.
struct ConvBlocks {
  PixelBlocks pixels;
  int64_t panel_parts, chunks;
};
RANVIER_INLINE ConvBlocks conv_blocks(int64_t batch, int64_t height, int64_t width, int64_t panels,
                                      int64_t pixel_bytes) {
  constexpr int64_t kBytes = 256 << 10;  // of what a block reads: some of the second-level cache
  constexpr int64_t kMost = 448, kFew = 16, kTogether = 4;
  int64_t pixels = clip(kBytes / pixel_bytes, kRows, kMost);
  // Each corner of an image sees taps of its own, and is a thin tile unless there are several. But no part of a single
  // panel, whose threads would write to the same lines of the cache at the same time.
  const int64_t images = clip(batch * (panels / 2) / kFew, 1, kTogether), size = images * height * width;
  if (images > 1 && pixels < size && size * pixel_bytes <= 2 * kBytes) pixels = size;
  ConvBlocks b;
  b.pixels = pixel_blocks(batch, height, width, pixels);
  const int64_t blocks = b.pixels.count();
  b.panel_parts = blocks < kFew ? clip(chunks_of(kFew, blocks > 0 ? blocks : 1), 1, panels) : 1;
  b.chunks = blocks * b.panel_parts;
  return b;
}

template <class T>
RANVIER_INLINE Ahead<T> next_block(const Correlation<T>& c, const T* x, const PixelBlock& next) {
  const T* begin = x + next.images.begin * c.x_image + next.rows.begin * c.down.stride * c.x_row +
                   next.columns.begin * c.across.stride * c.x_column;
  return {begin, begin + (next.images.size() - 1) * c.x_image + (next.rows.size() - 1) * c.down.stride * c.x_row +
                     next.columns.size() * c.across.stride * c.x_column};
}

template <class T>
RANVIER_INLINE int64_t panels_of(int64_t columns, int64_t groups) {
  return groups * chunks_of(columns / groups, kPanel<T>);
}

// Panels that are taken together: what the second-level cache holds beside a block.
RANVIER_INLINE int64_t panels_at_once(int64_t panel_bytes) {
  constexpr int64_t kBytes = 384 << 10;
  return clip(kBytes / panel_bytes, 1, INT64_MAX);
}

// What a pass computes: y from x, by one correlation, or by one for each phase: (i, j) of phase (p, q) is the pixel
// (i * phases_down + p, j * phases_across + q) of y.
struct Pass {
  void* y;        // (batch, height, width, filters)
  const void* x;  // (batch, x_height, x_width, channels)
  int64_t height, width, filters, phases_down, phases_across;
  int64_t x_height, x_width, channels;
};
// down_of_phase(p) and across_of_phase(q) give that phase's axes.
template <class T, class Args, class Down, class Across>
RANVIER_INLINE void correlate_chunks(const Pass& pass, const Args& a, const ConvBlocks& blocks, Down down_of_phase,
                                     Across across_of_phase, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const int64_t channels = pass.channels / g.groups, filters = pass.filters / g.groups;
  const int64_t panels = chunks_of(filters, kPanel<T>);  // of a group
  const int64_t y_row = pass.width * pass.filters;
  Correlation<T> c;
  c.down = down_of_phase(0).axis;
  c.across = across_of_phase(0).axis;
  c.y_column = pass.phases_across * pass.filters;
  c.y_row = pass.phases_down * y_row;
  c.y_image = pass.height * y_row;
  c.x_column = pass.channels;
  c.x_row = pass.x_width * c.x_column;
  c.x_image = pass.x_height * c.x_row;
  c.channels = channels;
  c.panel = g.kernel_height * g.kernel_width * channels * kPanel<T>;
  c.activation = a.activation;
  c.alpha = a.alpha;
  c.through_activation = a.through_activation;
  c.through_alpha = a.through_alpha;
  c.around = a.activation <= Activation::relu && !a.through && filters % kLanes<T> == 0 &&
             streams<T>(pass.y, g.batch * pass.height * pass.width, pass.filters);
  const T* const x = static_cast<const T*>(pass.x);
  const int64_t at_once = panels_at_once(c.panel * static_cast<int64_t>(sizeof(T)));
  const auto block_of = [&](int64_t chunk) __attribute__((always_inline)) {
    return pixel_block(blocks.pixels, chunk % blocks.pixels.count(), g.batch, chunks_of(pass.height, pass.phases_down),
                       chunks_of(pass.width, pass.phases_across));
  };
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const PixelBlock block = block_of(chunk);
    const Range all = part(panels * g.groups, chunk / blocks.pixels.count(), blocks.panel_parts);
    c.next = next_block(c, x, block_of(chunk + 1));
    c.images = block.images.size();
    for (int64_t phase = 0; phase < pass.phases_down * pass.phases_across; ++phase) {
      const int64_t row = phase / pass.phases_across, column = phase - row * pass.phases_across;
      const Phase down = down_of_phase(row), across = across_of_phase(column);
      c.down = down.axis;
      c.across = across.axis;
      const int64_t before = down.before * g.kernel_width + down.taps * across.before;
      for (int64_t panel = all.begin, taken; panel < all.end; panel += taken) {  // some panels of one group
        const int64_t group = panel / panels, first = panel - group * panels;
        taken = clip(at_once, 1, clip(panels - first, 1, all.end - panel));
        const int64_t filter = group * filters + first * kPanel<T>;
        const int64_t at = block.images.begin * c.y_image + row * y_row + column * pass.filters + filter;
        c.x = x + block.images.begin * c.x_image + group * channels;
        c.y = static_cast<T*>(pass.y) + at;
        c.through = a.through ? static_cast<const T*>(a.through) + at : nullptr;
        c.w = static_cast<const T*>(a.w) + panel * c.panel + before * channels * kPanel<T>;
        c.bias = a.bias ? static_cast<const T*>(a.bias) + filter : nullptr;
        c.filters = clip(taken * kPanel<T>, 0, (group + 1) * filters - filter);
        correlate(c, common(block.rows, {0, down.inputs}), common(block.columns, {0, across.inputs}));
      }
    }
  }
  if (c.around) stream_end();
}

// --- forward ---------------------------------------------------------------------------------------------------------

template <class T>
RANVIER_INLINE ConvBlocks forward_blocks(const ConvGeometry& g) {
  return conv_blocks(g.batch, g.out_height, g.out_width, panels_of<T>(g.filters, g.groups),
                     g.channels * g.stride_height * g.stride_width * static_cast<int64_t>(sizeof(T)));
}

template <class T>
void conv(const ConvArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const Pass pass = {a.y, a.x, g.out_height, g.out_width, g.filters, 1, 1, g.height, g.width, g.channels};
  correlate_chunks<T>(
      pass, a, forward_blocks<T>(g),
      [&](int64_t) __attribute__((always_inline)) { return Phase{0, 1, g.kernel_height, 0, g.out_height, down_of(g)}; },
      [&](int64_t) __attribute__((always_inline)) { return Phase{0, 1, g.kernel_width, 0, g.out_width, across_of(g)}; },
      begin, end);
}

// --- input gradient of few channels ----------------------------------------------------------------------------------

// Vectors of channels would be almost empty. These are of pixels: a block of dy is turned into panels, some pixels of a
// row by all filters, and a tile is some pairs (kw, c) by such a panel, its sums over kh and the filters:
//   q[kw, c, ow] = sum of w[kh, kw, c, f] dy[oh, ow, f],   dx[ih, iw, c] = sum of q[kw, c, ow] over the taps kw
// So dx is a sum of a few lines of q, shifted, and w is read as it is.
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
RANVIER_INLINE ConvBlocks thin_blocks(const ConvGeometry& g) {
  constexpr int64_t kFew = 16;
  const auto inputs_of = [](int64_t outputs, int64_t stride, int64_t kernel)
                             __attribute__((always_inline)) { return outputs * stride - kernel + 1; };
  const int64_t most = clip(kThinBlock<T> / (lines_seen(g) * g.filters), kPanel<T>, kThinPixels);
  ConvBlocks b;
  b.pixels.across = chunks_of(g.width, inputs_of(most / kPanel<T> * kPanel<T>, g.stride_width, g.kernel_width));
  const int64_t seen = (chunks_of(g.width, b.pixels.across) + g.kernel_width - 2) / g.stride_width + 1;
  const int64_t pixels = chunks_of(seen < g.out_width ? seen : g.out_width, kPanel<T>) * kPanel<T>;
  const int64_t rows = inputs_of(kThinBlock<T> / (pixels * g.filters), g.stride_height, g.kernel_height);
  const int64_t images = g.batch > 0 ? g.batch : 1;
  b.pixels.down = clip(chunks_of(kFew, images * b.pixels.across), chunks_of(g.height, rows), g.height);
  b.pixels.images = g.batch;
  b.panel_parts = 1;
  b.chunks = b.pixels.count();
  return b;
}

template <class T>
void thin_input_gradient(const ConvInputGradientArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const ConvBlocks blocks = thin_blocks<T>(g);
  const Axis down = down_of(g), across = across_of(g);
  const int64_t lines = g.kernel_width * g.channels, streams = g.stride_width * g.channels;
  const int64_t tiles = chunks_of(lines, kRows), panel_size = g.filters * kPanel<T>;
  const T* const w = static_cast<const T*>(a.w);
  const T* const bias = static_cast<const T*>(a.bias);
  alignas(64) T turned[kThinBlock<T>];
  alignas(64) T q[kThinLines * kThinLine];
  alignas(64) T sums[kThinLines * kThinLine];
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const PixelBlock block = pixel_block(blocks.pixels, chunk, g.batch, g.height, g.width);
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
        pack_panel(turned + ((oh - rows.begin) * panels + panel) * panel_size,
                   static_cast<const T*>(a.dy) + (pixel + panel * kPanel<T>)*g.filters, g.filters, width_of(panel),
                   g.filters, true);
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

// --- input gradient --------------------------------------------------------------------------------------------------

// Blocks are of j, in each phase.
template <class T>
RANVIER_INLINE ConvBlocks back_blocks(const ConvGeometry& g) {
  return conv_blocks(g.batch, chunks_of(g.height, g.stride_height), chunks_of(g.width, g.stride_width),
                     panels_of<T>(g.channels, g.groups), g.filters * static_cast<int64_t>(sizeof(T)));
}

template <class T>
void conv_input_gradient(const ConvInputGradientArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  if (is_thin(g)) return thin_input_gradient<T>(a, begin, end);
  const Pass pass = {a.dx,           a.dy,         g.height,    g.width,  g.channels, g.stride_height,
                     g.stride_width, g.out_height, g.out_width, g.filters};
  correlate_chunks<T>(
      pass, a, back_blocks<T>(g),
      [&](int64_t row) __attribute__((always_inline)) { return phase_of(down_of(g), g.out_height, row); },
      [&](int64_t column) __attribute__((always_inline)) { return phase_of(across_of(g), g.out_width, column); }, begin,
      end);
}

// Chunks: (panel, tap).
template <class T>
void conv_pack(const ConvPackArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const int64_t channels = g.channels / g.groups, filters = g.filters / g.groups;
  const int64_t depth = a.back ? filters : channels, width = a.back ? channels : filters;
  const int64_t panels = chunks_of(width, kPanel<T>), taps = g.kernel_height * g.kernel_width;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t panel = chunk / taps, tap = chunk % taps, group = panel / panels, first = panel % panels * kPanel<T>;
    const int64_t columns = width - first < kPanel<T> ? width - first : kPanel<T>;
    const T* w = static_cast<const T*>(a.w) + tap * channels * g.filters + group * filters;
    T* to = static_cast<T*>(a.packed) + panel * taps * depth * kPanel<T>;
    if (!a.back) {
      pack_panel(to + tap * depth * kPanel<T>, w + first, g.filters, columns, depth, false);
      continue;
    }
    // where the tap comes in its phases, which are turned over
    const int64_t kh = tap / g.kernel_width, kw = tap % g.kernel_width;
    const auto phase_with = [](const Axis& axis, int64_t k) __attribute__((always_inline)) {
      const int64_t rest = (k * axis.dilation - axis.pad) % axis.stride;
      return phase_of(axis, 0, rest < 0 ? rest + axis.stride : rest);
    };
    const Phase down = phase_with(down_of(g), kh), across = phase_with(across_of(g), kw);
    const int64_t row = down.taps - 1 - (kh - down.first) / down.step;
    const int64_t column = across.taps - 1 - (kw - across.first) / across.step;
    const int64_t place = down.before * g.kernel_width + down.taps * across.before + row * across.taps + column;
    pack_panel(to + place * depth * kPanel<T>, w + first * g.filters, g.filters, columns, depth, true);
  }
}

// --- kernel gradient -------------------------------------------------------------------------------------------------

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

template <class T>
ConvPlan conv_plan(const ConvGeometry& g) {
  const int64_t channels = g.channels / g.groups, filters = g.filters / g.groups;
  const int64_t taps = g.kernel_height * g.kernel_width;
  const int64_t panels = panels_of<T>(g.filters, g.groups), panels_back = panels_of<T>(g.channels, g.groups);
  const GradientPlan<T> gradient = gradient_plan<T>(g);
  ConvPlan p;
  p.packed = panels * taps * channels * kPanel<T>;
  p.pack_chunks = panels * taps;
  p.packed_back = is_thin(g) ? 0 : panels_back * taps * filters * kPanel<T>;
  p.pack_back_chunks = panels_back * taps;
  p.chunks = forward_blocks<T>(g).chunks;
  p.back_chunks = is_thin(g) ? thin_blocks<T>(g).chunks : back_blocks<T>(g).chunks;
  p.splits = gradient.splits;
  p.gradient_chunks = gradient.tiles * gradient.splits;
  return p;
}

}  // namespace

void fill_conv2d(KernelTable& table) {
  table.conv_plan[0] = conv_plan<float>;
  table.conv_plan[1] = conv_plan<double>;
  table.conv_pack = typed(ConvPackArgs, conv_pack);
  table.conv = typed(ConvArgs, conv);
  table.conv_input_gradient = typed(ConvInputGradientArgs, conv_input_gradient);
  table.conv_kernel_gradient = typed(ConvKernelGradientArgs, conv_kernel_gradient);
  table.part_sums = typed(PartSumsArgs, part_sums);
}

}  // namespace ranvier::RANVIER_TIER
