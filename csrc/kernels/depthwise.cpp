// The depthwise convolution: each channel by itself, M filters for each. Vectors are of channels, so here w and y have
// their last axis in the order (M, channels), whatever the op is given.
//
// A register holds the sum of one pixel; for each tap it takes one vector of w and multiplies it by those of several
// pixels. 3x3 taps over many channels go the other way about: by rows of x, each vector of which is read once for all
// nine (depthwise_columns). Everything else is as in conv2d.cpp.
#include "kernels/conv2d.h"

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
  bool by_columns;
  bool around;  // y goes around the caches: in runs of channels that pays sooner than elsewhere
};

// What is stored of a sum, and what remains to be done with some pixels' channels from y on.
template <class T>
RANVIER_INLINE Vec<T> rectified(const DepthwiseImage<T>& c, Vec<T> sum) {
  return c.activation == Activation::relu ? apply<T, Activation::relu>(sum, T(0)) : sum;
}
template <class T>
RANVIER_INLINE void activate(const DepthwiseImage<T>& c, T* y, int pixels, int64_t channels) {
  if (c.activation <= Activation::relu) return;
  for (int p = 0; p < pixels; ++p) {
    apply_row<T>(c.activation, y + p * c.y_column, y + p * c.y_column, channels, c.alpha);
  }
}

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
#pragma GCC unroll 8
    for (int p = 0; p < pixels; ++p) store_lanes(y + p * c.y_column + i, rectified(c, sum[p]), k);
  });
  activate(c, y, pixels, c.channels);
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

// Some columns of y and some channels, with 3x3 taps one pixel apart. Row by row of x: each vector is read once for all
// the taps that see it, and the sums of the two rows of y that end below wait in `waiting`. So x and y are runs of
// channels, which the caches and their prefetchers like better than single lines of many pixels.
template <class T, int pixels>
void depthwise_columns(const DepthwiseImage<T>& c, Vec<T>* waiting, Range rows, int64_t column, Range channels) {
  const int64_t left = column - c.across.pad;
  const Range seen = inside(left, pixels + 2, c.across.size);
  for (int64_t newest = rows.begin; newest < rows.end + 2; ++newest) {  // its first row of taps sees this row of x
    const int64_t row = newest - c.down.pad;
    const bool within = row >= 0 && row < c.down.size;
    const T* x = c.x + row * c.x_row + left * c.x_column;
    T* y = c.y + (newest - 2) * c.y_row + column * c.y_column;
    Vec<T>* other = waiting;
    for_lanes<T>(channels.begin, channels.end, [&](int64_t i, int64_t k) __attribute__((always_inline)) {
      Vec<T> sum[3][pixels];  // of the rows that see this one last, second and first
#pragma GCC unroll 8
      for (int p = 0; p < pixels; ++p) {
        sum[2][p] = c.bias ? load_lanes(c.bias + i, k) : Vec<T>{};
        sum[1][p] = newest == rows.begin ? sum[2][p] : other[p];
        sum[0][p] = newest == rows.begin ? sum[2][p] : other[pixels + p];
      }
      if (within) {
        Vec<T> w[3][3];
#pragma GCC unroll 3
        for (int h = 0; h < 3; ++h) {
#pragma GCC unroll 3
          for (int t = 0; t < 3; ++t) w[h][t] = in_register(load_lanes(c.w + i + h * c.w_row + t * c.w_column, k));
        }
#pragma GCC unroll 10
        for (int q = 0; q < pixels + 2; ++q) {
          if (q < seen.begin || q >= seen.end) continue;
          const Vec<T> v = in_register(load_lanes(x + q * c.x_column + i, k));
#pragma GCC unroll 3
          for (int h = 0; h < 3; ++h) {
#pragma GCC unroll 3
            for (int t = 0; t < 3; ++t) {
              const int p = q - t;
              if (p >= 0 && p < pixels) sum[2 - h][p] = fma(v, w[h][t], sum[2 - h][p]);
            }
          }
        }
      }
#pragma GCC unroll 8
      for (int p = 0; p < pixels; ++p) {
        other[p] = sum[2][p];
        other[pixels + p] = sum[1][p];
      }
      other += 2 * pixels;
      if (newest < rows.begin + 2) return;
#pragma GCC unroll 8
      for (int p = 0; p < pixels; ++p) {
        const Vec<T> v = rectified(c, sum[0][p]);
        T* to = y + p * c.y_column + i;
        if (c.around && k == kLanes<T>) {
          stream(to, v);
        } else {
          store_lanes(to, v, k);
        }
      }
    });
    if (newest >= rows.begin + 2) activate(c, y + channels.begin, pixels, channels.size());
  }
}

// The whole of an image so; seven columns and nine taps take 31 registers.
template <class T>
struct DepthwiseColumns {
  static constexpr int kWide = 7;
  static constexpr int64_t kRun = 512 / sizeof(T);  // channels at once

  // With fewer channels the runs are short, and rows of a strip of pixels the better order.
  static bool pays(const ConvGeometry& g) {
    const bool square = g.kernel_height == 3 && g.kernel_width == 3;
    const bool plain = g.stride_height * g.stride_width * g.dilation_height * g.dilation_width == 1;
    return kVectorBytes == 64 && square && plain && g.filters == g.channels && g.channels >= 2 * kRun;
  }
  static void run(const DepthwiseImage<T>& c, Range rows, Range columns) {
    Vec<T> waiting[kRun / kLanes<T> * 2 * kWide];
    // Vectors that begin where a line of y does, if those of all pixels can.
    const int64_t past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(c.y) % kVectorBytes / sizeof(T));
    const int64_t first = past && c.y_column % kLanes<T> == 0 ? kLanes<T> - past : kRun;
    for (int64_t column = columns.begin, pixels; column < columns.end; column += pixels) {
      const int64_t left = columns.end - column;
      pixels = left >= kWide ? kWide : left >= 4 ? 4 : left >= 2 ? 2 : 1;
      const auto some = pixels == kWide ? depthwise_columns<T, kWide>
                        : pixels == 4   ? depthwise_columns<T, 4>
                        : pixels == 2   ? depthwise_columns<T, 2>
                                        : depthwise_columns<T, 1>;
      for (int64_t i = 0, next = first; i < c.channels; i = next, next += kRun) {
        some(c, waiting, rows, column, {i, clip(next, 0, c.channels)});
      }
    }
  }
};

// In strips so narrow that the first level holds what the next row sees as well; of a multiple of eight pixels.
template <class T>
void depthwise_image(const DepthwiseImage<T>& c, Range rows, Range columns) {
  if constexpr (kVectorBytes == 64) {
    if (c.by_columns) return DepthwiseColumns<T>::run(c, rows, columns);
  }
  constexpr int64_t kStrip = 4096 / sizeof(T);  // elements of a row of it
  const int64_t strip = clip(kStrip / clip(c.channels, 1, kStrip) / 8 * 8, 8, kStrip);
  for_spans(c.down, c.across, rows, columns, [&](Range height, Range width) {
    const Range kh = c.down.taps(height.begin), kw = c.across.taps(width.begin);
    const T* w = c.w + kh.begin * c.w_row + kw.begin * c.w_column;
    const bool dense = c.across.dilation == 1 || kw.size() == 1;
    auto run = depthwise_row<T, 0, 1>;
    if (dense && c.across.stride == 1 && kw.size() == 3) run = depthwise_row<T, 3, 1>;
    if (dense && c.across.stride == 1 && kw.size() == 2) run = depthwise_row<T, 2, 1>;
    if (dense && c.across.stride == 1 && kw.size() == 1) run = depthwise_row<T, 1, 1>;
    if (dense && c.across.stride == 2 && kw.size() == 3) run = depthwise_row<T, 3, 2>;
    for (int64_t column = width.begin; column < width.end; column += strip) {
      const int64_t pixels = clip(width.end - column, 0, strip);
      for (int64_t row = height.begin; row < height.end; ++row) {
        const T* x = c.x + (row * c.down.stride - c.down.pad + kh.begin * c.down.dilation) * c.x_row +
                     (column * c.across.stride - c.across.pad + kw.begin * c.across.dilation) * c.x_column;
        run(c, c.y + row * c.y_row + column * c.y_column, x, w, kh.size(), kw.size(), pixels);
      }
    }
  });
}

// Chunks of both passes: blocks of rows of one image.
RANVIER_INLINE int64_t row_blocks(int64_t height, int64_t width, int64_t channels) {
  constexpr int64_t kBlock = 32768;  // elements
  const int64_t row = width * channels;
  return clip(height * row / kBlock, 1, height > 0 ? height : 1);
}
// The rows of chunk `begin`, or of all up to `end` that go on in its image; `begin` is the next chunk then.
RANVIER_INLINE Range take_rows(int64_t* begin, int64_t end, int64_t height, int64_t blocks, bool all) {
  const int64_t first = *begin % blocks, next = all ? clip(first + end - *begin, 0, blocks) : first + 1;
  *begin += next - first;
  return {part(height, first, blocks).begin, part(height, next - 1, blocks).end};
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
  c.by_columns = DepthwiseColumns<T>::pays(g);
  c.around = c.by_columns && a.activation <= Activation::relu &&
             streams<T>(a.y, g.batch * g.out_height * g.out_width, g.filters, 8 << 20);
  while (begin < end) {
    const int64_t image = begin / blocks;
    const Range rows = take_rows(&begin, end, g.out_height, blocks, c.by_columns);
    for (int64_t m = 0; m < g.filters; m += g.channels) {
      c.x = static_cast<const T*>(a.x) + image * g.height * c.x_row;
      c.y = static_cast<T*>(a.y) + image * g.out_height * c.y_row + m;
      c.w = static_cast<const T*>(a.w) + m;
      c.bias = a.bias ? static_cast<const T*>(a.bias) + m : nullptr;
      depthwise_image(c, rows, {0, g.out_width});
    }
  }
  if (c.around) stream_end();
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
  c.by_columns = DepthwiseColumns<T>::pays(g);
  c.around = false;
  while (begin < end) {
    const int64_t image = begin / blocks;
    const Range rows = take_rows(&begin, end, height, blocks, c.by_columns);
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
        depthwise_image(c, common(rows, {0, down.inputs}), {0, across.inputs});
      }
    }
  }
}

// --- kernel gradient -------------------------------------------------------------------------------------------------

// Pixels that see the same taps: dw of those taps, k channels, are `sum` (three a row) += x dy.
template <class T>
struct DepthwiseSums {
  Vec<T>* sum;
  const T* x;
  const T* dy;
  int64_t x_row, x_column, x_row_tap, x_tap, dy_row, dy_column;
};

// `rows` rows of dy at once: a vector of x serves all those that see it. `slide`: a pixel's second tap reads what the
// next pixel's first one does, and registers keep it.
template <class T, int high, int wide, int rows, bool slide>
RANVIER_INLINE void add_rows(const DepthwiseSums<T>& s, int64_t row, int64_t columns, int64_t k) {
  const T* x = s.x + row * s.x_row;
  const T* dy = s.dy + row * s.dy_row;
  Vec<T> sum[high][wide];
#pragma GCC unroll 3
  for (int i = 0; i < high; ++i) {
#pragma GCC unroll 3
    for (int j = 0; j < wide; ++j) sum[i][j] = s.sum[i * 3 + j];
  }
  Vec<T> v[rows + high - 1][wide];
  if (slide) {
#pragma GCC unroll 6
    for (int r = 0; r < rows + high - 1; ++r) {
#pragma GCC unroll 3
      for (int j = 1; j < wide; ++j) v[r][j] = load_lanes(x + r * s.x_row_tap + (j - 1) * s.x_tap, k);
    }
  }
  for (int64_t column = 0; column < columns; ++column, x += s.x_column, dy += s.dy_column) {
    Vec<T> g[rows];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      g[r] = in_register(load_lanes(dy + r * s.dy_row, k));
      if (high == 3) __builtin_prefetch(dy + r * s.dy_row + kLanes<T>, 0, 2);  // the next channels
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows + high - 1; ++r) {
      const T* from = x + r * s.x_row_tap;
      if (high == 3) __builtin_prefetch(from + (wide - 1) * s.x_tap + kLanes<T>, 0, 2);
#pragma GCC unroll 3
      for (int j = 0; j < wide; ++j) {
        const bool kept = slide && j + 1 < wide;
        v[r][j] = kept ? v[r][j + 1] : load_lanes(from + j * s.x_tap, k);
        if (slide && !kept) v[r][j] = in_register(v[r][j]);
#pragma GCC unroll 3
        for (int i = 0; i < high; ++i) {
          if (i <= r && r - i < rows) sum[i][j] = fma(v[r][j], g[r - i], sum[i][j]);
        }
      }
    }
  }
#pragma GCC unroll 3
  for (int i = 0; i < high; ++i) {
#pragma GCC unroll 3
    for (int j = 0; j < wide; ++j) s.sum[i * 3 + j] = sum[i][j];
  }
}

template <class T, int high, int wide>
void add_pixels(const DepthwiseSums<T>& s, int64_t rows, int64_t columns, int64_t k) {
  const auto run = [&](int64_t lanes) __attribute__((always_inline)) {
    constexpr bool square = high == 3 && wide == 3;
    constexpr bool slide = square && kVectorBytes == 64;  // of 32 registers it takes 31
    int64_t row = 0;
    if (square && s.x_row == s.x_row_tap && s.x_column == s.x_tap) {
      for (; row + 4 <= rows; row += 4) add_rows<T, high, wide, square ? 4 : 1, slide>(s, row, columns, lanes);
      for (; row < rows; ++row) add_rows<T, high, wide, 1, slide>(s, row, columns, lanes);
    }
    for (; row < rows; ++row) add_rows<T, high, wide, 1, false>(s, row, columns, lanes);
  };
  if (k < kLanes<T>) return run(k);
  run(kLanes<T>);
}

// Along one axis: outputs that see the same taps, of at most three.
struct Spans {
  struct {
    Range outputs, taps;
  } all[7];  // both ends of the taps only move on
  int count;
};
RANVIER_INLINE Spans spans_of(const Axis& axis, Range outputs) {
  Spans s;
  s.count = 0;
  for (int64_t o = outputs.begin; o < outputs.end;) {
    const Range same = axis.span(o, outputs.end), taps = axis.taps(o);
    if (taps.size() > 0) s.all[s.count++] = {same, taps};
    o = same.end;
  }
  return s;
}
// Its taps from `first` on, three at most.
RANVIER_INLINE Axis three_taps(const Axis& axis, int64_t first) {
  return {axis.size, clip(axis.kernel - first, 0, 3), axis.stride, axis.dilation, axis.pad - first * axis.dilation};
}

// What a chunk's rows of one image add to 3x3 taps of dw, of some channels: dw is the first tap's, x and dy the
// image's.
template <class T>
void add_square(const ConvGeometry& g, T* dw, const T* x, const T* dy, const Axis& down, const Axis& across, Range rows,
                Range channels) {
  constexpr decltype(&add_pixels<T, 1, 1>) kAdd[3][3] = {
      {add_pixels<T, 1, 1>, add_pixels<T, 1, 2>, add_pixels<T, 1, 3>},
      {add_pixels<T, 2, 1>, add_pixels<T, 2, 2>, add_pixels<T, 2, 3>},
      {add_pixels<T, 3, 1>, add_pixels<T, 3, 2>, add_pixels<T, 3, 3>},
  };
  const Spans high = spans_of(down, rows), wide = spans_of(across, {0, g.out_width});
  const int64_t x_line = g.width * g.channels, dy_line = g.out_width * g.filters;
  Vec<T> sum[3][3];
  DepthwiseSums<T> s = {};
  s.x_row = down.stride * x_line;
  s.x_column = across.stride * g.channels;
  s.x_row_tap = down.dilation * x_line;
  s.x_tap = across.dilation * g.channels;
  s.dy_row = dy_line;
  s.dy_column = g.filters;
  const auto add = [&](int64_t c, int64_t k) {
    for (Vec<T>(&row)[3] : sum) row[0] = row[1] = row[2] = Vec<T>{};
    for (int i = 0; i < high.count; ++i) {
      for (int j = 0; j < wide.count; ++j) {
        const auto &h = high.all[i], &w = wide.all[j];
        s.sum = &sum[h.taps.begin][w.taps.begin];
        s.x = x + c + (h.outputs.begin * down.stride - down.pad + h.taps.begin * down.dilation) * x_line +
              (w.outputs.begin * across.stride - across.pad + w.taps.begin * across.dilation) * g.channels;
        s.dy = dy + c + h.outputs.begin * dy_line + w.outputs.begin * g.filters;
        kAdd[h.taps.size() - 1][w.taps.size() - 1](s, h.outputs.size(), w.outputs.size(), k);
      }
    }
    for (int64_t i = 0; i < down.kernel; ++i) {
      for (int64_t j = 0; j < across.kernel; ++j) {
        T* to = dw + (i * g.kernel_width + j) * g.filters + c;
        store_lanes(to, load_lanes(to, k) + sum[i][j], k);
      }
    }
  };
  // Vectors that begin where a cache line does, if those of all pixels can, and one more is little.
  int64_t c = channels.begin;
  const int64_t past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(x + c) % kVectorBytes / sizeof(T));
  if (past && g.channels % kLanes<T> == 0 && channels.size() >= 4 * kLanes<T>) {
    add(c, kLanes<T> - past);
    c += kLanes<T> - past;
  }
  for_lanes<T>(c, channels.end, add);
}

// Chunks: parts of the pixels, each with its dw, times runs of channels.
struct DepthwiseParts {
  int64_t blocks, splits, runs;  // blocks of rows of an image; parts of all blocks; runs of channels
};
constexpr int64_t kRun = 256;  // channels
RANVIER_INLINE DepthwiseParts depthwise_parts(const ConvGeometry& g) {
  constexpr int64_t kMost = 32;
  const int64_t runs = chunks_of(g.channels, kRun);
  const int64_t blocks = row_blocks(g.out_height, g.out_width, chunks_of(g.filters, runs));
  return {blocks, clip(g.batch * blocks, 1, kMost), runs};
}

template <class T>
void depthwise_kernel_gradient(const ConvKernelGradientArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const DepthwiseParts parts = depthwise_parts(g);
  const int64_t taps = g.kernel_height * g.kernel_width;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t split = chunk / parts.runs, run = chunk % parts.runs;
    const Range channels = {run * kRun, clip((run + 1) * kRun, 0, g.channels)};
    T* dw = static_cast<T*>(a.dw) + split * taps * g.filters;
    if (!a.add_dw) {
      for (int64_t m = 0; m < taps * g.filters; m += g.channels) {
        for_lanes<T>(channels.begin, channels.end, [=](int64_t c, int64_t k) { store_lanes(dw + m + c, Vec<T>{}, k); });
      }
    }
    const Range blocks = part(g.batch * parts.blocks, split, parts.splits);
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
      const int64_t image = block / parts.blocks;
      const Range rows = part(g.out_height, block % parts.blocks, parts.blocks);
      const T* x = static_cast<const T*>(a.x) + image * g.height * g.width * g.channels;
      const T* dy = static_cast<const T*>(a.dy) + image * g.out_height * g.out_width * g.filters;
      for (int64_t kh = 0; kh < g.kernel_height; kh += 3) {
        for (int64_t kw = 0; kw < g.kernel_width; kw += 3) {
          const Axis down = three_taps(down_of(g), kh), across = three_taps(across_of(g), kw);
          for (int64_t m = 0; m < g.filters; m += g.channels) {
            add_square(g, dw + (kh * g.kernel_width + kw) * g.filters + m, x, dy + m, down, across, rows, channels);
          }
        }
      }
    }
  }
}

template <class T>
ConvPlan depthwise_plan(const ConvGeometry& g) {
  ConvPlan p = {};
  const int64_t height = chunks_of(g.height, g.stride_height);
  p.chunks = g.batch * row_blocks(g.out_height, g.out_width, g.filters);
  p.back_chunks = g.batch * row_blocks(height, g.out_width, g.filters);
  const DepthwiseParts parts = depthwise_parts(g);
  p.splits = parts.splits;
  p.gradient_chunks = parts.splits * parts.runs;
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
