// Images moved: flipped, shifted, turned, zoomed, cropped, resized, each a matrix that tells where a pixel comes from.
#include "kernels/augment.h"

#include "kernels/loops.h"
#include "kernels/philox.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

// --- sampling --------------------------------------------------------------------------------------------------------

// The pixel that stands for index i of n; -1: none.
RANVIER_INLINE int64_t within(int64_t i, int64_t n, Fill fill) {
  if (i >= 0 && i < n) return i;
  if (fill == Fill::constant) return -1;
  if (fill == Fill::nearest) return i < 0 ? 0 : n - 1;
  const int64_t period = fill == Fill::wrap ? n : 2 * n;  // a b c | a b c; a b c c b a | a b c c b a
  const int64_t m = (i % period + period) % period;
  return m < n ? m : period - 1 - m;
}

// Where a pixel of y comes from: between rows `top` and the next of x, and columns `left` and the next; the weights of
// the lower and the right ones. Without mixing, from (top, left) alone.
struct Corners {
  int64_t top, left;
  double down, right;
  bool inside;  // the image, all of them
};

// A place as a whole number below and a rest; one that is no number, or far away, is beyond the edge.
RANVIER_INLINE int64_t below(double place, double& rest) {
  constexpr double kFar = 1e9;
  if (!(place > -kFar && place < kFar)) place = -kFar;
  const double whole = ::floor(place);
  rest = place - whole;
  return static_cast<int64_t>(whole);
}

RANVIER_INLINE Corners corners(const ResampleArgs& a, const double* m, int64_t i, int64_t j) {
  const double row = static_cast<double>(i), column = static_cast<double>(j), half = a.bilinear ? 0 : 0.5;
  const int64_t more = a.bilinear ? 1 : 0;
  Corners c;
  c.top = below(m[0] * row + m[1] * column + m[2] + half, c.down);
  c.left = below(m[3] * row + m[4] * column + m[5] + half, c.right);
  c.inside = c.top >= 0 && c.top + more < a.height && c.left >= 0 && c.left + more < a.width;
  return c;
}

// Corner k, lower ones from 2 on, right ones odd, in elements of the image; -1: beyond the edge.
RANVIER_INLINE int64_t corner(const Corners& c, int k, const ResampleArgs& a) {
  const int64_t i = within(c.top + k / 2, a.height, a.fill), j = within(c.left + k % 2, a.width, a.fill);
  return i < 0 || j < 0 ? -1 : (i * a.width + j) * a.channels;
}

// `down` of the way from what lies `right` of the way between the upper two, to the same of the lower two.
template <class V, class T>
RANVIER_INLINE V mixed(V a, V b, V c, V d, T down, T right) {
  const V top = a * (T(1) - right) + b * right, bottom = c * (T(1) - right) + d * right;
  return top * (T(1) - down) + bottom * down;
}

template <class T>
void resample(const ResampleArgs& a, int64_t begin, int64_t end) {
  const T value = static_cast<T>(a.value);
  const int64_t pixel = a.channels, row = a.width * a.channels;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t image = chunk / a.out_height, i = chunk - image * a.out_height;
    const double* m = a.matrix + image * a.matrix_step;
    const T* x = static_cast<const T*>(a.x) + image * a.height * row;
    T* y = static_cast<T*>(a.y) + chunk * a.out_width * pixel;
    for (int64_t j = 0; j < a.out_width; ++j, y += pixel) {
      const Corners c = corners(a, m, i, j);
      const T down = static_cast<T>(c.down), right = static_cast<T>(c.right);
      if (c.inside) {
        const T* from = x + c.top * row + c.left * pixel;
        for_lanes<T>(0, pixel, [=, &a](int64_t l, int64_t k) __attribute__((always_inline)) {
          const auto at = [=](int64_t step) __attribute__((always_inline)) { return load_lanes(from + step + l, k); };
          store_lanes(y + l, a.bilinear ? mixed(at(0), at(pixel), at(row), at(row + pixel), down, right) : at(0), k);
        });
        continue;
      }
      int64_t place[4] = {};
      for (int k = 0; k < (a.bilinear ? 4 : 1); ++k) place[k] = corner(c, k, a);
      for (int64_t l = 0; l < pixel; ++l) {
        const auto at = [&](int k) { return place[k] < 0 ? value : x[place[k] + l]; };
        y[l] = a.bilinear ? mixed(at(0), at(1), at(2), at(3), down, right) : at(0);
      }
    }
  }
}

// Each dy goes back to the pixels that its y was mixed of.
template <class T>
void resample_backward(const ResampleArgs& a, int64_t begin, int64_t end) {
  const int64_t pixel = a.channels, row = a.width * a.channels;
  for (int64_t image = begin; image < end; ++image) {
    const double* m = a.matrix + image * a.matrix_step;
    T* dx = static_cast<T*>(const_cast<void*>(a.x)) + image * a.height * row;
    const T* dy = static_cast<const T*>(a.y) + image * a.out_height * a.out_width * pixel;
    memset(dx, 0, static_cast<size_t>(a.height * row) * sizeof(T));
    for (int64_t i = 0; i < a.out_height; ++i) {
      for (int64_t j = 0; j < a.out_width; ++j, dy += pixel) {
        const Corners c = corners(a, m, i, j);
        const T down = static_cast<T>(c.down), right = static_cast<T>(c.right);
        const T weights[4] = {(T(1) - down) * (T(1) - right), (T(1) - down) * right, down * (T(1) - right),
                              down * right};
        for (int k = 0; k < (a.bilinear ? 4 : 1); ++k) {
          const int64_t place = c.inside ? (c.top + k / 2) * row + (c.left + k % 2) * pixel : corner(c, k, a);
          if (place < 0) continue;
          const T weight = a.bilinear ? weights[k] : T(1);
          for_lanes<T>(0, pixel, [=](int64_t l, int64_t n) __attribute__((always_inline)) {
            T* to = dx + place + l;
            store_lanes(to, load_lanes(to, n) + load_lanes(dy + l, n) * weight, n);
          });
        }
      }
    }
  }
}

// --- matrices --------------------------------------------------------------------------------------------------------

void draw_moves(const DrawMovesArgs& a, int64_t, int64_t) {
  const double middle_i = static_cast<double>(a.height - 1) * 0.5, middle_j = static_cast<double>(a.width - 1) * 0.5;
  for (int64_t image = 0; image < a.images; ++image) {
    const auto words = philox(*a.key, static_cast<uint64_t>(image));
    const double u = unit(words.word[0]), v = a.together ? u : unit(words.word[1]);
    const double by_height = a.low_height + (a.high_height - a.low_height) * u;
    const double by_width = a.low_width + (a.high_width - a.low_width) * v;
    double* m = a.matrix + image * 6;
    const auto set = [m](double ii, double ij, double i, double ji, double jj, double j) {
      m[0] = ii, m[1] = ij, m[2] = i, m[3] = ji, m[4] = jj, m[5] = j;
    };
    switch (a.move) {
      case Move::flip: {
        const bool over = u < a.high_height, across = v < a.high_width;
        set(over ? -1 : 1, 0, over ? 2 * middle_i : 0, 0, across ? -1 : 1, across ? 2 * middle_j : 0);
        break;
      }
      case Move::shift:  // down and to the right: y comes from above and from the left
        set(1, 0, -by_height * static_cast<double>(a.height), 0, 1, -by_width * static_cast<double>(a.width));
        break;
      case Move::rotate: {  // against the clock, as a share of the circle, about the middle
        const double angle = by_height * 6.28318530717958647692, c = ::cos(angle), s = ::sin(angle);
        set(c, s, middle_i - c * middle_i - s * middle_j, -s, c, middle_j + s * middle_i - c * middle_j);
        break;
      }
      case Move::zoom: {  // above 1 the picture becomes smaller
        const double down = 1 + by_height, across = 1 + by_width;
        set(down, 0, middle_i - down * middle_i, 0, across, middle_j - across * middle_j);
        break;
      }
      case Move::crop:  // each place as likely
        set(1, 0, ::floor(u * static_cast<double>(a.height - a.out_height + 1)), 0, 1,
            ::floor(v * static_cast<double>(a.width - a.out_width + 1)));
        break;
    }
  }
}

template <class T>
void draw_uniform(const DrawUniformArgs& a, int64_t, int64_t) {
  T* y = static_cast<T*>(a.y);
  for (int64_t i = 0; i < a.n; ++i) {
    y[i] = static_cast<T>(a.low + (a.high - a.low) * unit(philox(*a.key, static_cast<uint64_t>(i)).word[0]));
  }
}

}  // namespace

void fill_augment(KernelTable& table) {
  table.resample = typed(ResampleArgs, resample);
  table.resample_backward = typed(ResampleArgs, resample_backward);
  table.draw_moves = entry<DrawMovesArgs, draw_moves>;
  table.draw_uniform = typed(DrawUniformArgs, draw_uniform);
}

}  // namespace ranvier::RANVIER_TIER
