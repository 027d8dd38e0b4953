// The depthwise convolution: each channel by itself, M filters for each. Vectors are of channels, so here w and y have
// their last axis in the order (M, channels), whatever the op is given.
//
// A register holds the sum of one pixel; for each tap it takes one vector of w and multiplies it by those of several
// pixels. Everything else is as in conv2d.cpp.
#include "kernels/activate.h"
#include "kernels/correlation.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

// Of one image: y's pixel is the sum over parts and taps of x * w. Forward has one part; the input gradient sums over
// M.
template <class T>
struct DepthwiseImage {
  T* y;
  const T* x;
  const T* w;
  const T* bias;
  Axis down, across;
  int64_t y_row, y_column, x_row, x_column, w_row, w_column;  // steps from pixel to pixel, and from tap to tap
  int64_t parts, x_part, w_part;
  int64_t channels;
  Activation activation;
  double alpha;
};

// Some pixels side by side that see the same taps: y, x and w are the first's. Where the number of taps in a row is
// known, and the stride, each vector of x is read once for all the taps that see it (taps 0: neither is known).
template <class T, int pixels, int taps, int stride>
void depthwise_pixels(const DepthwiseImage<T>& c, T* y, const T* x, const T* w, int64_t rows, int64_t columns) {
  const int64_t x_down = c.down.dilation * c.x_row, x_across = c.across.dilation * c.x_column;
  const int64_t next = c.across.stride * c.x_column;
  for_lanes<T>(0, c.channels, [&](int64_t i, int64_t k) __attribute__((always_inline)) {
    // What the next row of outputs reads first, and writes. Pixels a multiple of 2 KB apart share a few sets of the
    // first level, which would not hold that beside this row.
    const T* below = x + i + (rows - 1) * x_down + c.down.stride * c.x_row;
#pragma GCC unroll 8
    for (int p = 0; p < pixels; ++p) {
      if (c.x_column * sizeof(T) % 2048 == 0) continue;
      __builtin_prefetch(below + p * next);
      __builtin_prefetch(y + c.y_row + p * c.y_column + i, 1);
    }
    Vec<T> sum[pixels];
#pragma GCC unroll 8
    for (int p = 0; p < pixels; ++p) sum[p] = c.bias ? load_lanes(c.bias + i, k) : Vec<T>{};
    for (int64_t part = 0; part < c.parts; ++part) {
      for (int64_t row = 0; row < rows; ++row) {
        const T* from = x + i + part * c.x_part + row * x_down;
        const T* weight = w + i + part * c.w_part + row * c.w_row;
        if constexpr (taps > 0) {
          Vec<T> factor[taps];
#pragma GCC unroll 4
          for (int t = 0; t < taps; ++t) factor[t] = load_lanes(weight + t * c.w_column, k);
#pragma GCC unroll 20
          for (int q = 0; q < (pixels - 1) * stride + taps; ++q) {
            const Vec<T> v = in_register(load_lanes(from + q * c.x_column, k));
#pragma GCC unroll 4
            for (int t = 0; t < taps; ++t) {
              const int p = (q - t) / stride;
              if (q >= t && (q - t) % stride == 0 && p < pixels) sum[p] = fma(v, factor[t], sum[p]);
            }
          }
          continue;
        }
        for (int64_t column = 0; column < columns; ++column, from += x_across, weight += c.w_column) {
          const Vec<T> factor = load_lanes(weight, k);
#pragma GCC unroll 8
          for (int p = 0; p < pixels; ++p) sum[p] = fma(load_lanes(from + p * next, k), factor, sum[p]);
        }
      }
    }
    const bool relu = c.activation == Activation::relu;
#pragma GCC unroll 8
    for (int p = 0; p < pixels; ++p) {
      store_lanes(y + p * c.y_column + i, relu ? apply<T, Activation::relu>(sum[p], T(0)) : sum[p], k);
    }
  });
  if (c.activation <= Activation::relu) return;
  for (int p = 0; p < pixels; ++p) {
    apply_row<T>(c.activation, y + p * c.y_column, y + p * c.y_column, c.channels, c.alpha);
  }
}

template <class T, int taps, int stride>
void depthwise_row(const DepthwiseImage<T>& c, T* y, const T* x, const T* w, int64_t rows, int64_t columns,
                   int64_t width) {
  const int64_t next = c.across.stride * c.x_column;
  int64_t p = 0;
  for (; p + 8 <= width; p += 8) {
    depthwise_pixels<T, 8, taps, stride>(c, y + p * c.y_column, x + p * next, w, rows, columns);
  }
  for (; p + 4 <= width; p += 4) {
    depthwise_pixels<T, 4, taps, stride>(c, y + p * c.y_column, x + p * next, w, rows, columns);
  }
  for (; p < width; ++p) {
    depthwise_pixels<T, 1, taps, stride>(c, y + p * c.y_column, x + p * next, w, rows, columns);
  }
}

template <class T>
void depthwise_image(const DepthwiseImage<T>& c, Range rows, Range columns) {
  for_spans(c.down, c.across, rows, columns, [&](Range height, Range width) {
    const Range kh = c.down.taps(height.begin), kw = c.across.taps(width.begin);
    const T* w = c.w + kh.begin * c.w_row + kw.begin * c.w_column;
    const bool dense = c.across.dilation == 1 || kw.size() == 1;
    auto run = depthwise_row<T, 0, 1>;
    if (dense && c.across.stride == 1 && kw.size() == 3) run = depthwise_row<T, 3, 1>;
    if (dense && c.across.stride == 1 && kw.size() == 2) run = depthwise_row<T, 2, 1>;
    if (dense && c.across.stride == 1 && kw.size() == 1) run = depthwise_row<T, 1, 1>;
    if (dense && c.across.stride == 2 && kw.size() == 3) run = depthwise_row<T, 3, 2>;
    for (int64_t row = height.begin; row < height.end; ++row) {
      const T* x = c.x + (row * c.down.stride - c.down.pad + kh.begin * c.down.dilation) * c.x_row +
                   (width.begin * c.across.stride - c.across.pad + kw.begin * c.across.dilation) * c.x_column;
      run(c, c.y + row * c.y_row + width.begin * c.y_column, x, w, kh.size(), kw.size(), width.size());
    }
  });
}

// Chunks of both passes: blocks of rows of one image.
RANVIER_INLINE int64_t row_blocks(int64_t height, int64_t width, int64_t channels) {
  constexpr int64_t kBlock = 32768;  // elements
  const int64_t row = width * channels;
  return clip(height * row / kBlock, 1, height > 0 ? height : 1);
}

template <class T>
void depthwise(const ConvArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const int64_t blocks = row_blocks(g.out_height, g.out_width, g.filters);
  DepthwiseImage<T> c;
  c.down = down_of(g);
  c.across = across_of(g);
  c.y_column = g.filters;
  c.y_row = g.out_width * g.filters;
  c.x_column = g.channels;
  c.x_row = g.width * g.channels;
  c.w_column = g.filters;
  c.w_row = g.kernel_width * g.filters;
  c.parts = 1;
  c.x_part = c.w_part = 0;
  c.channels = g.channels;
  c.activation = a.activation;
  c.alpha = a.alpha;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t image = chunk / blocks;
    const Range rows = part(g.out_height, chunk % blocks, blocks);
    for (int64_t m = 0; m < g.filters; m += g.channels) {
      c.x = static_cast<const T*>(a.x) + image * g.height * c.x_row;
      c.y = static_cast<T*>(a.y) + image * g.out_height * c.y_row + m;
      c.w = static_cast<const T*>(a.w) + m;
      c.bias = a.bias ? static_cast<const T*>(a.bias) + m : nullptr;
      depthwise_image(c, rows, {0, g.out_width});
    }
  }
}

template <class T>
void depthwise_input_gradient(const ConvInputGradientArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const int64_t height = chunks_of(g.height, g.stride_height);
  const int64_t blocks = row_blocks(height, g.out_width, g.filters);
  DepthwiseImage<T> c;
  c.y_column = g.stride_width * g.channels;
  c.y_row = g.stride_height * g.width * g.channels;
  c.x_column = g.filters;
  c.x_row = g.out_width * g.filters;
  c.parts = g.filters / g.channels;
  c.x_part = c.w_part = g.channels;
  c.channels = g.channels;
  c.bias = static_cast<const T*>(a.bias);
  c.activation = a.activation;
  c.alpha = a.alpha;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t image = chunk / blocks;
    const Range rows = part(height, chunk % blocks, blocks);
    c.x = static_cast<const T*>(a.dy) + image * g.out_height * c.x_row;
    for (int64_t row = 0; row < g.stride_height; ++row) {
      const Phase down = phase_of(down_of(g), g.out_height, row);
      for (int64_t column = 0; column < g.stride_width; ++column) {
        const Phase across = phase_of(across_of(g), g.out_width, column);
        c.down = down.axis;
        c.across = across.axis;
        c.w_row = -down.step * g.kernel_width * g.filters;  // the taps in reverse
        c.w_column = -across.step * g.filters;
        c.w = static_cast<const T*>(a.w);
        if (down.taps && across.taps) {
          const int64_t kh = down.first + (down.taps - 1) * down.step;
          c.w += (kh * g.kernel_width + across.first + (across.taps - 1) * across.step) * g.filters;
        }
        c.y = static_cast<T*>(a.dx) + ((image * g.height + row) * g.width + column) * g.channels;
        depthwise_image(c, {rows.begin, rows.end < down.inputs ? rows.end : down.inputs}, {0, across.inputs});
      }
    }
  }
}

// --- kernel gradient -------------------------------------------------------------------------------------------------

// dw of `taps` taps side by side += sum over rows x columns pixels of x dy, k channels. Two pixels at a time: their
// sums are independent.
template <class T, int taps>
RANVIER_INLINE void add_taps(T* dw, const T* x, const T* dy, int64_t rows, int64_t columns, int64_t x_row,
                             int64_t x_column, int64_t x_tap, int64_t dy_row, int64_t dy_column, int64_t k) {
  Vec<T> sum[taps][2] = {};
  for (int64_t row = 0; row < rows; ++row) {
    const T* from = x + row * x_row;
    const T* gradient = dy + row * dy_row;
    int64_t column = 0;
    for (; column + 2 <= columns; column += 2) {
#pragma GCC unroll 2
      for (int p = 0; p < 2; ++p, from += x_column, gradient += dy_column) {
        const Vec<T> g = load_lanes(gradient, k);
#pragma GCC unroll 4
        for (int t = 0; t < taps; ++t) sum[t][p] = fma(load_lanes(from + t * x_tap, k), g, sum[t][p]);
      }
    }
    if (column < columns) {
      const Vec<T> g = load_lanes(gradient, k);
#pragma GCC unroll 4
      for (int t = 0; t < taps; ++t) sum[t][0] = fma(load_lanes(from + t * x_tap, k), g, sum[t][0]);
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < taps; ++t) {
    store_lanes(dw + t * dy_column, load_lanes(dw + t * dy_column, k) + (sum[t][0] + sum[t][1]), k);
  }
}

// dw of 3x3 taps += the same, over pixels that all of them see. `slide`: a pixel's second tap reads what the next
// pixel's first one does.
template <class T, bool slide>
RANVIER_INLINE void add_square(T* dw, int64_t dw_row, const T* x, int64_t x_row_tap, int64_t x_tap, int64_t x_row,
                               int64_t x_column, const T* dy, int64_t dy_row, int64_t dy_column, int64_t rows,
                               int64_t columns, int64_t k) {
  Vec<T> sum[3][3] = {};
  for (int64_t row = 0; row < rows; ++row) {
    const T* from = x + row * x_row;
    const T* gradient = dy + row * dy_row;
    Vec<T> v[3][3];
    const auto read = [&](int tap) __attribute__((always_inline)) {
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) v[i][tap] = load_lanes(from + i * x_row_tap + tap * x_tap, k);
    };
    if (slide) {
      read(0);
      read(1);
    }
    for (int64_t column = 0; column < columns; ++column, from += x_column, gradient += dy_column) {
      if (!slide) {
        read(0);
        read(1);
      }
      read(2);
      const Vec<T> g = load_lanes(gradient, k);
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) {
#pragma GCC unroll 3
        for (int j = 0; j < 3; ++j) sum[i][j] = fma(v[i][j], g, sum[i][j]);
        if (slide) {
          v[i][0] = v[i][1];
          v[i][1] = v[i][2];
        }
      }
    }
  }
#pragma GCC unroll 3
  for (int i = 0; i < 3; ++i) {
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) {
      T* const to = dw + i * dw_row + j * dy_column;
      store_lanes(to, load_lanes(to, k) + sum[i][j], k);
    }
  }
}

template <class T, bool slide>
void depthwise_square(T* dw, int64_t dw_row, const T* x, int64_t x_row_tap, int64_t x_tap, int64_t x_row,
                      int64_t x_column, const T* dy, int64_t dy_row, int64_t dy_column, int64_t rows, int64_t columns,
                      int64_t k) {
  const auto run = [=](int64_t lanes) __attribute__((always_inline)) {
    add_square<T, slide>(dw, dw_row, x, x_row_tap, x_tap, x_row, x_column, dy, dy_row, dy_column, rows, columns, lanes);
  };
  if (k < kLanes<T>) return run(k);
  run(kLanes<T>);
}
template <class T, int taps>
void depthwise_taps(T* dw, const T* x, const T* dy, int64_t rows, int64_t columns, int64_t x_row, int64_t x_column,
                    int64_t x_tap, int64_t dy_row, int64_t dy_column, int64_t k) {
  if (k < kLanes<T>) return add_taps<T, taps>(dw, x, dy, rows, columns, x_row, x_column, x_tap, dy_row, dy_column, k);
  add_taps<T, taps>(dw, x, dy, rows, columns, x_row, x_column, x_tap, dy_row, dy_column, kLanes<T>);
}

// What the first and the last of some taps see, between them all see; what one of them sees before that, and after it.
RANVIER_INLINE Range shared(Range first, Range last) {
  return {first.begin < last.end ? first.begin : last.end, last.end};
}
RANVIER_INLINE Range before(Range own, Range all) {
  return {own.begin, own.end < all.begin ? own.end : all.begin};
}
RANVIER_INLINE Range after(Range own, Range all) {
  return {own.begin > all.end ? own.begin : all.end, own.end};
}

// Chunks: parts of the pixels, each with its dw.
struct DepthwiseParts {
  int64_t blocks, splits;  // blocks of rows of an image; parts of all blocks
};
RANVIER_INLINE DepthwiseParts depthwise_parts(const ConvGeometry& g) {
  constexpr int64_t kMost = 32;
  const int64_t blocks = row_blocks(g.out_height, g.out_width, g.filters);
  return {blocks, clip(g.batch * blocks, 1, kMost)};
}

template <class T>
void depthwise_kernel_gradient(const ConvKernelGradientArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const DepthwiseParts parts = depthwise_parts(g);
  const int64_t size = g.kernel_height * g.kernel_width * g.filters;
  const Axis down = down_of(g), across = across_of(g);
  const int64_t x_column = across.stride * g.channels, x_row = down.stride * g.width * g.channels;
  const int64_t x_tap = across.dilation * g.channels, x_row_tap = down.dilation * g.width * g.channels,
                dy_row = g.out_width * g.filters;
  for (int64_t split = begin; split < end; ++split) {
    T* dw = static_cast<T*>(a.dw) + split * size;
    if (!a.add_dw) for_lanes<T>(0, size, [=](int64_t i, int64_t k) { store_lanes(dw + i, Vec<T>{}, k); });
    const Range blocks = part(g.batch * parts.blocks, split, parts.splits);
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
      const int64_t image = block / parts.blocks;
      const Range rows = part(g.out_height, block % parts.blocks, parts.blocks);
      const T* x = static_cast<const T*>(a.x) + image * g.height * g.width * g.channels;
      const T* dy = static_cast<const T*>(a.dy) + image * g.out_height * dy_row;
      const auto rows_of = [&](int64_t kh) __attribute__((always_inline)) {
        const Range oh = down.outputs_of(kh, g.out_height);
        return Range{clip(oh.begin, rows.begin, rows.end), clip(oh.end, rows.begin, rows.end)};
      };
      const auto columns_of = [&](int64_t kw)
                                  __attribute__((always_inline)) { return across.outputs_of(kw, g.out_width); };
      // Of high x wide taps from (kh, kw) on, over those pixels, all channels: 3x3, 1x3 or 1x1.
      const auto add = [&](int64_t kh, int64_t kw, int64_t high, int64_t wide, Range oh,
                           Range ow) __attribute__((always_inline)) {
        if (oh.size() <= 0 || ow.size() <= 0) return;
        const T* from = x + (oh.begin * down.stride - down.pad + kh * down.dilation) * g.width * g.channels +
                        (ow.begin * across.stride - across.pad + kw * across.dilation) * g.channels;
        const T* gradient = dy + oh.begin * dy_row + ow.begin * g.filters;
        T* to = dw + (kh * g.kernel_width + kw) * g.filters;
        const auto square = x_tap == x_column ? depthwise_square<T, true> : depthwise_square<T, false>;
        const auto line = wide == 3 ? depthwise_taps<T, 3> : depthwise_taps<T, 1>;
        for (int64_t m = 0; m < g.filters; m += g.channels) {
          for_lanes<T>(0, g.channels, [&](int64_t c, int64_t k) __attribute__((always_inline)) {
            if (high == 3) {
              square(to + m + c, g.kernel_width * g.filters, from + c, x_row_tap, x_tap, x_row, x_column,
                     gradient + m + c, dy_row, g.filters, oh.size(), ow.size(), k);
            } else {
              line(to + m + c, from + c, gradient + m + c, oh.size(), ow.size(), x_row, x_column, x_tap, dy_row,
                   g.filters, k);
            }
          });
        }
      };
      // Of three taps side by side first the columns that all of them see, and then what each has beside.
      const auto add_rows = [&](int64_t kh, int64_t high, Range oh) {
        if (oh.size() <= 0) return;
        int64_t kw = 0;
        for (; kw + 3 <= g.kernel_width; kw += 3) {
          const Range all = shared(columns_of(kw), columns_of(kw + 2));
          add(kh, kw, high, 3, oh, all);
          for (int64_t i = 0; i < 3 * high; ++i) {
            const Range own = columns_of(kw + i % 3);
            add(kh + i / 3, kw + i % 3, 1, 1, oh, before(own, all));
            add(kh + i / 3, kw + i % 3, 1, 1, oh, after(own, all));
          }
        }
        for (int64_t i = 0; i < (g.kernel_width - kw) * high; ++i) {
          add(kh + i % high, kw + i / high, 1, 1, oh, columns_of(kw + i / high));
        }
      };
      int64_t kh = 0;
      for (; kh + 3 <= g.kernel_height; kh += 3) {
        const Range all = shared(rows_of(kh), rows_of(kh + 2));
        add_rows(kh, 3, all);
        for (int64_t i = kh; i < kh + 3; ++i) {
          add_rows(i, 1, before(rows_of(i), all));
          add_rows(i, 1, after(rows_of(i), all));
        }
      }
      for (; kh < g.kernel_height; ++kh) add_rows(kh, 1, rows_of(kh));
    }
  }
}

template <class T>
ConvPlan depthwise_plan(const ConvGeometry& g) {
  ConvPlan p = {};
  const int64_t height = chunks_of(g.height, g.stride_height);
  p.chunks = g.batch * row_blocks(g.out_height, g.out_width, g.filters);
  p.back_chunks = g.batch * row_blocks(height, g.out_width, g.filters);
  p.splits = p.gradient_chunks = depthwise_parts(g).splits;
  return p;
}

}  // namespace

void fill_depthwise(KernelTable& table) {
  table.depthwise_plan[0] = depthwise_plan<float>;
  table.depthwise_plan[1] = depthwise_plan<double>;
  table.depthwise = typed(ConvArgs, depthwise);
  table.depthwise_input_gradient = typed(ConvInputGradientArgs, depthwise_input_gradient);
  table.depthwise_kernel_gradient = typed(ConvKernelGradientArgs, depthwise_kernel_gradient);
}

}  // namespace ranvier::RANVIER_TIER
