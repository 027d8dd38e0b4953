// Data on its way in: a batch gathered by row index and converted, and scaled.
#include "kernels/tier.h"
#include "kernels/vec.h"

namespace ranvier::RANVIER_TIER {
namespace {

template <class To, class From>
void convert_rows(const GatherArgs& a, int64_t begin, int64_t end) {
  const int64_t start = a.cursor ? *a.cursor : 0;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t row = a.index ? a.index[start + r] : start + r;
    const From* x = reinterpret_cast<const From*>(static_cast<const char*>(a.x) + row * a.x_row);
    To* y = static_cast<To*>(a.y) + r * a.columns;
    const int64_t n = a.columns;
#pragma omp simd
    for (int64_t c = 0; c < n; ++c) y[c] = static_cast<To>(x[c]);
  }
}

template <class To>
void convert_from(const GatherArgs& a, int64_t begin, int64_t end) {
  switch (a.x_dtype) {
    case DType::f32: return convert_rows<To, float>(a, begin, end);
    case DType::f64: return convert_rows<To, double>(a, begin, end);
    case DType::i32: return convert_rows<To, int32_t>(a, begin, end);
    case DType::i64: return convert_rows<To, int64_t>(a, begin, end);
    case DType::u8: return convert_rows<To, uint8_t>(a, begin, end);
    case DType::i8: return convert_rows<To, int8_t>(a, begin, end);
    case DType::u16: return convert_rows<To, uint16_t>(a, begin, end);
    case DType::i16: return convert_rows<To, int16_t>(a, begin, end);
    case DType::u32: return convert_rows<To, uint32_t>(a, begin, end);
    case DType::u64: return convert_rows<To, uint64_t>(a, begin, end);
  }
}

void gather(const GatherArgs& a, int64_t begin, int64_t end) {
  switch (a.y_dtype) {
    case DType::f32: return convert_from<float>(a, begin, end);
    case DType::f64: return convert_from<double>(a, begin, end);
    default: return convert_from<int32_t>(a, begin, end);
  }
}

void advance(const AdvanceArgs& a, int64_t, int64_t) { *a.cursor += a.step; }

// y = x * scale + offset; backward: the same with dy, and no offset
template <class T>
void affine(const AffineArgs& a, int64_t begin, int64_t end) {
  const Elements e = elements(begin, end, a.n);
  const T* x = static_cast<const T*>(a.x);
  const T* scale = static_cast<const T*>(a.scale);
  const T* offset = static_cast<const T*>(a.offset);
  T* y = static_cast<T*>(a.y);
  for (int64_t i = e.begin; i < e.end;) {
    const int64_t column = i % a.columns;
    const int64_t n = a.columns - column < e.end - i ? a.columns - column : e.end - i;  // to the end of the row
    for_lanes<T>(0, n, [=](int64_t j, int64_t k) __attribute__((always_inline)) {
      const Vec<T> s = scale ? load_lanes(scale + column + j, k) : splat<T>(T(1));
      const Vec<T> o = offset ? load_lanes(offset + column + j, k) : Vec<T>{};
      store_lanes(y + i + j, fma(load_lanes(x + i + j, k), s, o), k);
    });
    i += n;
  }
}

template <class T>
void add(const AddArgs& a, int64_t begin, int64_t end) {
  const Elements e = elements(begin, end, a.n);
  T* y = static_cast<T*>(a.y);
  const T* left = static_cast<const T*>(a.a);
  const T* right = static_cast<const T*>(a.b);
  for_lanes<T>(e.begin, e.end, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
    store_lanes(y + i, load_lanes(left + i, k) + load_lanes(right + i, k), k);
  });
}

}  // namespace

void fill_data(KernelTable& table) {
  table.gather = entry<GatherArgs, gather>;
  table.advance = entry<AdvanceArgs, advance>;
  table.affine = typed(AffineArgs, affine);
  table.add = typed(AddArgs, add);
}

}  // namespace ranvier::RANVIER_TIER
