// The convolution. Forward: y = f(x * w + b). Backward, with dz = dy * f'(z) (activation.cpp):
//   dx[ih, iw, c] = sum of dz[oh, ow, f] w[kh, kw, c, f] over the taps with oh * stride - pad + kh * dilation = ih, ...
//   dw[kh, kw, c, f] = sum over the pixels of x[oh * stride - pad + kh * dilation, ..., c] dz[oh, ow, f]
//
// All three are products of many runs (gemm.h), without a copy of what they read:
//   y    a tile is some pixels by two vectors of filters. Its sums run over kh, and there over kw and c at once, which
//        lie one after the other in x; w is packed in panels in the same order.
//   dx   with a stride of 1 the same with w turned over. With strides, the pixels of dx that share a remainder (a
//        phase) see every stride-th tap only: each phase is such a convolution with a kernel of its own. Of few
//        channels it is computed in another way, see conv2d_thin.h.
//   dw   a tile is some channels of one tap by two vectors of filters, and its sums run over the pixels; db beside it:
//        conv2d_kernel_gradient.h.
// Zeros around the image are never multiplied: pixels that see the same taps are taken together (spans).
#include "kernels/conv2d.h"

#include "kernels/conv2d_blocks.h"
#include "kernels/conv2d_kernel_gradient.h"
#include "kernels/conv2d_thin.h"
#include "kernels/correlation.h"
#include "kernels/gemm.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

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
  // Pixels of one set of the cache go fewer at a time, as in gemm.h: 1x1 on 2048 channels 4 %, and on 1024 10 % while
  // others use the core's caches as well. Not where that would make two tiles of one.
  const auto cut_along = [&](int i) __attribute__((always_inline)) {
    const bool roomy = same_set<T>(sides[i].x) && sides[i].size > kRows;
    return chunks_of(sides[i].size, roomy ? kRoomy : kRows);
  };
  const auto tiles_along = [&](int i) __attribute__((always_inline)) {
    return cut_along(i) * sides[(i + 1) % 3].size * sides[(i + 2) % 3].size;
  };
  int best = 0;
  for (int i = 1; i < 3; ++i) {
    if (tiles_along(i) < tiles_along(best)) best = i;
  }
  const Side along = sides[best], inner = sides[best == 0 ? 1 : 0], outer = sides[best == 2 ? 1 : 2];
  const int64_t tiles = cut_along(best);
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
      pack_panels(to + tap * depth * kPanel<T>, w + first, g.filters, columns, depth);
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
    pack_transposed(to + place * depth * kPanel<T>, w + first * g.filters, g.filters, columns, depth);
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
  p.back_chunks = is_thin(g) ? thin_blocks<T>(g).count() : back_blocks<T>(g).chunks;
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
