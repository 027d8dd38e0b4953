// How Winograd's tiles write their outputs, a room of winograd.cpp: A^T m A with bias, activation and the slope that it
// is taken through, or of each window the largest. And what is asked for before that.
#pragma once

#include "kernels/activate.h"
#include "kernels/gemm.h"
#include "kernels/places.h"
#include "kernels/winograd_tiles.h"

namespace ranvier::RANVIER_TIER {
namespace {

// Whether y goes around the caches.
template <class T>
RANVIER_INLINE bool streams(const WinogradArgs& a) {
  const ConvGeometry& s = a.g;
  return !a.pooled && a.activation <= Activation::relu && a.through_activation <= Activation::relu &&
         streams<T>(a.y, s.batch * s.out_height * s.out_width, s.filters);
}

// What becomes of a tile's outputs: y = max(A^T m A + start, floor), times relu's slope at `kept`.
template <class T>
struct Outputs {
  T* y;
  const T* kept;        // as y; null: nothing
  int64_t row, column;  // steps from pixel to pixel
  Vec<T> start, floor;
};

// A vector of filters. Not inline, as transform_patch.
template <class T, class Down, class Across, bool slopes, bool around>
__attribute__((noinline)) void write_outputs(const Outputs<T>& outputs, const T* m, int64_t step) {
  const Outputs<T> o = outputs;  // which no store changes
  both_ways<T, Down, Across>([=](int i, int j)
                                 __attribute__((always_inline)) { return load(m + (i * kLinePoints + j) * step); },
                             [=](int i, int j, Vec<T> v) __attribute__((always_inline)) {
                               const int64_t at = i * o.row + j * o.column;
                               v = at_least<T>(v + o.start, o.floor);
                               if constexpr (slopes) {
                                 const Vec<T> y = load(o.kept + at);
                                 v = v * slope<T, Activation::relu>(y, y, T(0));
                               }
                               if constexpr (around) {
                                 stream(o.y + at, v);
                               } else {
                                 store(o.y + at, v);
                               }
                             });
}
template <class T, class Whole, class Rest, bool slopes, bool around>
RANVIER_INLINE void write_outputs_of(int kind, const Outputs<T>& o, const T* m, int64_t step) {
  switch (kind) {
    case kCorner:
      return write_outputs<T, Rest, Rest, slopes, around>(o, m, step);
    case kRight:
      return write_outputs<T, Whole, Rest, slopes, around>(o, m, step);
    case kWhole:
      return write_outputs<T, Whole, Whole, slopes, around>(o, m, step);
    case kBottom:
      return write_outputs<T, Rest, Whole, slopes, around>(o, m, step);
  }
}

// y's columns [column, column + a panel) of one tile = f(A^T m A + bias)
template <class T, class Whole, class Rest>
void write_tile(const WinogradArgs& a, const Place& p, int64_t column, const T* m, int64_t step, bool around) {
  constexpr int64_t kL = kLanes<T>;
  const ConvGeometry& s = a.g;
  const int64_t down = tall(p.kind) ? Whole::kTo : Rest::kTo, across = wide(p.kind) ? Whole::kTo : Rest::kTo;
  const int64_t rows = s.out_height - p.row < down ? s.out_height - p.row : down;
  const int64_t columns = s.out_width - p.column < across ? s.out_width - p.column : across;
  const int64_t last = s.filters - column < kPanel<T> ? s.filters - column : kPanel<T>;
  const int64_t at = ((p.image * s.out_height + p.row) * s.out_width + p.column) * s.filters + column;
  const int64_t line = s.out_width * s.filters;
  T* const y = static_cast<T*>(a.y) + at;
  const T* const bias = a.bias ? static_cast<const T*>(a.bias) + column : nullptr;
  around = kStreams && around;  // known to the compiler where vectors are shorter than a line
  const bool slopes = a.through && a.through_activation == Activation::relu;
  const T* const kept = a.through ? static_cast<const T*>(a.through) + at : nullptr;
  alignas(64) T edge[Whole::kTo * Whole::kTo * kL];
  Outputs<T> o;
  o.floor = splat<T>(a.activation == Activation::relu ? T(0) : -T(INFINITY));
  for (int64_t f = 0; f < last; f += kL) {
    const int64_t lanes = last - f < kL ? last - f : kL;
    o.start = bias ? load_lanes(bias + f, lanes) : Vec<T>{};
    if (rows == down && columns == across && lanes == kL) {
      o.y = y + f;
      o.kept = kept + f;
      o.row = line;
      o.column = s.filters;
      if (slopes) {
        around ? write_outputs_of<T, Whole, Rest, true, true>(p.kind, o, m + f, step)
               : write_outputs_of<T, Whole, Rest, true, false>(p.kind, o, m + f, step);
      } else {
        around ? write_outputs_of<T, Whole, Rest, false, true>(p.kind, o, m + f, step)
               : write_outputs_of<T, Whole, Rest, false, false>(p.kind, o, m + f, step);
      }
      continue;
    }
    o.y = edge;
    o.row = across * kL;
    o.column = kL;
    write_outputs_of<T, Whole, Rest, false, false>(p.kind, o, m + f, step);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        const int64_t pixel = i * line + j * s.filters + f;
        Vec<T> v = load(edge + (i * across + j) * kL);
        if (slopes) {
          const Vec<T> below = load_lanes(kept + pixel, lanes);
          v = v * slope<T, Activation::relu>(below, below, T(0));
        }
        store_lanes(y + pixel, v, lanes);
      }
    }
  }
  const bool others = a.activation > Activation::relu, through = a.through && !slopes;
  if (!others && !through) return;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      T* const pixel = y + i * line + j * s.filters;
      if (others) apply_row<T>(a.activation, pixel, pixel, last, a.alpha);
      if (through) backward_row<T>(a.through_activation, pixel, pixel, kept + (pixel - y), last, a.through_alpha);
    }
  }
}

// Of one tile's outputs, as of write_tile, the largest of each window and where it is.
template <class T, class Whole, class Rest>
void pool_tile(const WinogradArgs& a, const Place& p, int64_t column, const T* m, int64_t step, bool) {
  constexpr int64_t kL = kLanes<T>;
  const ConvGeometry& s = a.g;
  const int64_t down = tall(p.kind) ? Whole::kTo : Rest::kTo, across = wide(p.kind) ? Whole::kTo : Rest::kTo;
  const int64_t height = s.out_height / 2, width = s.out_width / 2;
  const int64_t rows = common({p.row / 2, (p.row + down) / 2}, {0, height}).size();
  const int64_t columns = common({p.column / 2, (p.column + across) / 2}, {0, width}).size();
  const int64_t last = s.filters - column < kPanel<T> ? s.filters - column : kPanel<T>;
  const int64_t first = ((p.image * height + p.row / 2) * width + p.column / 2) * s.filters + column;
  const T* const bias = a.bias ? static_cast<const T*>(a.bias) + column : nullptr;
  alignas(64) T outputs[Whole::kTo * Whole::kTo * kL];
  Outputs<T> o;
  o.y = outputs;
  o.row = across * kL;
  o.column = kL;
  o.floor = splat<T>(a.activation == Activation::relu ? T(0) : -T(INFINITY));
  for (int64_t f = 0; f < last; f += kL) {
    const int64_t lanes = last - f < kL ? last - f : kL;
    o.start = bias ? load_lanes(bias + f, lanes) : Vec<T>{};
    write_outputs_of<T, Whole, Rest, false, false>(p.kind, o, m + f, step);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        const T* window = outputs + 2 * (i * o.row + j * o.column);
        Largest<T> best = {load(window), splat_place<T>(0)};
        meet(best, load(window + o.column), 1);
        meet(best, load(window + o.row), 2);
        meet(best, load(window + o.row + o.column), 3);
        const int64_t at = first + (i * width + j) * s.filters + f;
        store_lanes(static_cast<T*>(a.y) + at, best.value, lanes);
        if (a.where) store_places<T>(a.where + at, best.place, lanes);
      }
    }
  }
}

// Asks for what will be written of these tiles, a panel of it, and for the outputs it goes through.
template <class T>
RANVIER_INLINE void claim(const WinogradArgs& a, const Place* begin, const Place* end, int64_t out, int64_t column,
                          bool around) {
  const ConvGeometry& s = a.g;
  const int64_t by = a.pooled ? 2 : 1, height = s.out_height / by, width = s.out_width / by;
  const T* y = static_cast<const T*>(a.y);
  const T* kept = static_cast<const T*>(a.through);
  for (const Place* p = begin; p < end; ++p) {
    const int64_t columns = (wide(p->kind) ? out : 2) / by, last = (p->row + (tall(p->kind) ? out : 2)) / by;
    for (int64_t i = p->row / by; i < last && i < height; ++i) {
      int64_t at = ((p->image * height + i) * width + p->column / by) * s.filters + column;
      for (int64_t j = 0; j < columns; ++j, at += s.filters) {
        for (int64_t f = 0; f < kPanel<T>; f += kLine<T>) {
          if (!around) ask_to_write(y + at + f);
          if (kept) __builtin_prefetch(kept + at + f);
        }
        if (a.where) ask_to_write(a.where + at);
      }
    }
  }
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
