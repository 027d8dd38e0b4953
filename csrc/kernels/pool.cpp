// Pooling over windows of an image: the largest and the mean, forward and backward. Vectors run along the channels.
//
// Backward gathers: each pixel of dx adds up what the windows that hold it send back, in their order, so chunks write
// disjoint rows also where windows overlap.
#include "kernels/pool.h"

#include "kernels/activate.h"
#include "kernels/correlation.h"
#include "kernels/places.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

// Calls window(y, x, rows, columns) for each output of some rows: where its channels are, where its window begins in x
// (an offset, below 0 where padding comes first), and which of it lies inside.
template <class Window>
RANVIER_INLINE void each_window(const PoolGeometry& g, int64_t begin, int64_t end, Window window) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t image = row / g.out_height, oh = row - image * g.out_height;
    const int64_t top = oh * g.stride_height - g.pad_top;
    const Range rows = inside(top, g.pool_height, g.height);
    for (int64_t ow = 0; ow < g.out_width; ++ow) {
      const int64_t left = ow * g.stride_width - g.pad_left;
      const Range columns = inside(left, g.pool_width, g.width);
      const int64_t x = ((image * g.height + top) * g.width + left) * g.channels;
      window((row * g.out_width + ow) * g.channels, x, rows, columns);
    }
  }
}

// `size`: of all windows in both directions, none of which has padding, known to the compiler; or 0.
template <class T, class I, int size>
void max_windows(const PoolArgs& a, int64_t begin, int64_t end) {
  const PoolGeometry& g = a.g;
  const T* x = static_cast<const T*>(a.x);
  T* y = static_cast<T*>(a.y);
  I* where = static_cast<I*>(a.where);
  each_window(g, begin, end, [&](int64_t out, int64_t from, Range rows, Range columns) __attribute__((always_inline)) {
    if constexpr (size > 0) rows = columns = {0, size};
    for_lanes<T>(0, g.channels, [&](int64_t c, int64_t k) __attribute__((always_inline)) {
      const auto cell = [&](int64_t kh, int64_t kw) __attribute__((always_inline)) {
        return load_lanes(x + (from + (kh * g.width + kw) * g.channels + c), k);
      };
      const int64_t first = rows.begin * g.pool_width + columns.begin;
      Largest<T> best = {cell(rows.begin, columns.begin), splat_place<T>(first)};
#pragma GCC unroll 2
      for (int64_t kh = rows.begin; kh < rows.end; ++kh) {
#pragma GCC unroll 2
        for (int64_t kw = columns.begin; kw < columns.end; ++kw) meet(best, cell(kh, kw), kh * g.pool_width + kw);
      }
      store_lanes(y + out + c, best.value, k);
      if (where) store_places<T>(where + out + c, best.place, k);
    });
  });
}
// Windows of 2x2 inside the image.
RANVIER_INLINE bool by_twos(const PoolGeometry& g) {
  return g.pool_height == 2 && g.pool_width == 2 && g.pad_top == 0 && g.pad_left == 0 &&
         (g.out_height - 1) * g.stride_height + 2 <= g.height && (g.out_width - 1) * g.stride_width + 2 <= g.width;
}
template <class T>
void max_pool(const PoolArgs& a, int64_t begin, int64_t end) {
  if (by_twos(a.g)) return max_windows<T, uint8_t, 2>(a, begin, end);
  a.wide ? max_windows<T, int32_t, 0>(a, begin, end) : max_windows<T, uint8_t, 0>(a, begin, end);
}

// Large windows are added up in blocks of blocks, so that the error does not grow with their size.
template <class T>
void average_pool(const PoolArgs& a, int64_t begin, int64_t end) {
  constexpr int64_t kBlock = 64;
  const PoolGeometry& g = a.g;
  const T* x = static_cast<const T*>(a.x);
  T* y = static_cast<T*>(a.y);
  each_window(g, begin, end, [&](int64_t out, int64_t from, Range rows, Range columns) __attribute__((always_inline)) {
    const T share = T(1) / static_cast<T>(rows.size() * columns.size());
    for_lanes<T>(0, g.channels, [&](int64_t c, int64_t k) __attribute__((always_inline)) {
      Vec<T> total = {}, middle = {}, part = {};
      int64_t cells = 0;
      for (int64_t kh = rows.begin; kh < rows.end; ++kh) {
        for (int64_t kw = columns.begin; kw < columns.end; ++kw) {
          part += load_lanes(x + (from + (kh * g.width + kw) * g.channels + c), k);
          if (++cells % kBlock == 0) {
            middle += part;
            part = Vec<T>{};
          }
          if (cells % (kBlock * kBlock) == 0) {
            total += middle;
            middle = Vec<T>{};
          }
        }
      }
      store_lanes(y + out + c, (total + middle + part) * share, k);
    });
  });
}

// dx of each pixel of some rows is the sum of what the windows send back that hold it, times the slope of f. add(total,
// output, out, oh, ow, i, j, k) adds the share of one window to that of pixel i, j of the image, k channels from `out`
// on; `output` begins as before(offset in x, k) and is what f gave there.
template <class T, Activation f, class Before, class Add>
RANVIER_INLINE void gather_windows(const PoolBackwardArgs& a, int64_t begin, int64_t end, Before before, Add add) {
  const PoolGeometry& g = a.g;
  T* dx = static_cast<T*>(a.dx);
  const T alpha = static_cast<T>(a.alpha);
  const Axis down = {g.height, g.pool_height, g.stride_height, 1, g.pad_top};
  for (int64_t row = begin; row < end; ++row) {
    const int64_t image = row / g.height, i = row - image * g.height;
    const Range rows = common(down.readers_of({i, i + 1}), {0, g.out_height});
    Range columns = {0, 0};
    for (int64_t j = 0; j < g.width; ++j) {
      const int64_t at = j + g.pad_left;
      while (columns.begin * g.stride_width + g.pool_width <= at) ++columns.begin;
      while (columns.end < g.out_width && columns.end * g.stride_width <= at) ++columns.end;
      for_lanes<T>(0, g.channels, [&](int64_t c, int64_t k) __attribute__((always_inline)) {
        const int64_t pixel = (row * g.width + j) * g.channels + c;
        Vec<T> total = {}, output = before(pixel, k);
        const auto add_window = [&](int64_t oh, int64_t ow) __attribute__((always_inline)) {
          add(total, output, ((image * g.out_height + oh) * g.out_width + ow) * g.channels + c, oh, ow, i, j, k);
        };
        if (rows.size() == 1 && columns.size() == 1) {  // as where no windows overlap
          add_window(rows.begin, columns.begin);
        } else {
          for (int64_t oh = rows.begin; oh < rows.end; ++oh) {
            for (int64_t ow = columns.begin; ow < columns.end; ++ow) add_window(oh, ow);
          }
        }
        const Vec<T> v = f == Activation::linear ? total : total * slope<T, f>(output, output, alpha);
        a.around ? stream(dx + pixel, v) : store_lanes(dx + pixel, v, k);
      });
    }
  }
  if (a.around) stream_end();
}

template <class T, Activation f>
void max_backward_gathered(const PoolBackwardArgs& a, int64_t begin, int64_t end) {
  const PoolGeometry& g = a.g;
  const T* dy = static_cast<const T*>(a.dy);
  const T* y = static_cast<const T*>(a.kept);
  gather_windows<T, f>(
      a, begin, end, [](int64_t, int64_t) __attribute__((always_inline)) { return Vec<T>{}; },
      [&](Vec<T>& total, Vec<T>& output, int64_t out, int64_t oh, int64_t ow, int64_t i, int64_t j, int64_t k)
          __attribute__((always_inline)) {
            const int64_t kh = i + g.pad_top - oh * g.stride_height;
            const int64_t kw = j + g.pad_left - ow * g.stride_width;
            const IVec<T> at = a.wide ? load_places<T>(static_cast<const int32_t*>(a.where) + out, k)
                                      : load_places<T>(static_cast<const uint8_t*>(a.where) + out, k);
            const IVec<T> here = at == splat_place<T>(kh * g.pool_width + kw);
            total += here ? load_lanes(dy + out, k) : Vec<T>{};
            if constexpr (f != Activation::linear) output = here ? load_lanes(y + out, k) : output;
          });
}
// Windows of 2x2 that cover the image side by side: each is read once for the pixels of both its rows.
template <class T, Activation f>
void max_backward_by_twos(const PoolBackwardArgs& a, int64_t begin, int64_t end) {
  const PoolGeometry& g = a.g;
  const T* dy = static_cast<const T*>(a.dy);
  const T* y = static_cast<const T*>(a.kept);
  const uint8_t* where = static_cast<const uint8_t*>(a.where);
  const T alpha = static_cast<T>(a.alpha);
  for (int64_t row = begin; row < end;) {
    const int64_t first = row % 2, last = row + 1 < end ? 2 : first + 1;  // g.height is even
    T* const dx = static_cast<T*>(a.dx) + (row - first) * g.width * g.channels;
    for (int64_t ow = 0; ow < g.out_width; ++ow) {
      const int64_t out = (row / 2 * g.out_width + ow) * g.channels;
      for_lanes<T>(0, g.channels, [&](int64_t c, int64_t k) __attribute__((always_inline)) {
        Vec<T> dz = load_lanes(dy + out + c, k);
        if constexpr (f != Activation::linear) {
          const Vec<T> output = load_lanes(y + out + c, k);
          dz *= slope<T, f>(output, output, alpha);
        }
        const IVec<T> at = load_places<T>(where + out + c, k);
        for (int64_t kh = first; kh < last; ++kh) {
#pragma GCC unroll 2
          for (int64_t kw = 0; kw < 2; ++kw) {
            const Vec<T> v = at == splat_place<T>(kh * 2 + kw) ? dz : Vec<T>{};
            T* const pixel = dx + (kh * g.width + ow * 2 + kw) * g.channels + c;
            a.around ? stream(pixel, v) : store_lanes(pixel, v, k);
          }
        }
      });
    }
    row += last - first;
  }
  if (a.around) stream_end();
}
template <class T, Activation f>
void max_backward(const PoolBackwardArgs& a, int64_t begin, int64_t end) {
  const PoolGeometry& g = a.g;
  const bool cover = g.stride_height == 2 && g.stride_width == 2 && g.height % 2 == 0 && g.width % 2 == 0;
  cover&& by_twos(g) ? max_backward_by_twos<T, f>(a, begin, end) : max_backward_gathered<T, f>(a, begin, end);
}
template <class T>
void max_pool_backward(const PoolBackwardArgs& a, int64_t begin, int64_t end) {
  switch (a.activation) {
#define CASE(name)       \
  case Activation::name: \
    return max_backward<T, Activation::name>(a, begin, end);
    RANVIER_EACH_ACTIVATION_BY_OUTPUT(CASE)
#undef CASE
    default:
      return;
  }
}

template <class T, Activation f>
void average_backward(const PoolBackwardArgs& a, int64_t begin, int64_t end) {
  const PoolGeometry& g = a.g;
  const T* dy = static_cast<const T*>(a.dy);
  const T* x = static_cast<const T*>(a.kept);
  gather_windows<T, f>(
      a, begin, end,
      [=](int64_t pixel, int64_t k) __attribute__((always_inline)) {
        if constexpr (f == Activation::linear) return Vec<T>{};
        return load_lanes(x + pixel, k);
      },
      [&](Vec<T>& total, Vec<T>&, int64_t out, int64_t oh, int64_t ow, int64_t, int64_t, int64_t k)
          __attribute__((always_inline)) {
            const Range rows = inside(oh * g.stride_height - g.pad_top, g.pool_height, g.height);
            const Range columns = inside(ow * g.stride_width - g.pad_left, g.pool_width, g.width);
            const int64_t count = rows.size() * columns.size();
            total += load_lanes(dy + out, k) * (T(1) / static_cast<T>(count));
          });
}
template <class T>
void average_pool_backward(const PoolBackwardArgs& a, int64_t begin, int64_t end) {
  switch (a.activation) {
#define CASE(name)       \
  case Activation::name: \
    return average_backward<T, Activation::name>(a, begin, end);
    RANVIER_EACH_ACTIVATION_BY_OUTPUT(CASE)
#undef CASE
    default:
      return;
  }
}

}  // namespace

void fill_pool(KernelTable& table) {
  table.max_pool = typed(PoolArgs, max_pool);
  table.max_pool_backward = typed(PoolBackwardArgs, max_pool_backward);
  table.average_pool = typed(PoolArgs, average_pool);
  table.average_pool_backward = typed(PoolBackwardArgs, average_pool_backward);
}

}  // namespace ranvier::RANVIER_TIER
