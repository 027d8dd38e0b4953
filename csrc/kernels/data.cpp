// Data on its way in: a batch gathered by row index and converted, and scaled.
#include "kernels/data.h"

#include "kernels/loops.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

template <class To, class From>
void convert(To* y, const void* from, int64_t n) {
  const From* x = static_cast<const From*>(from);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<To>(x[i]);
}

using Convert = void (*)(void* y, const void* x, int64_t n);
template <class To, class From>
void convert_entry(void* y, const void* x, int64_t n) {
  convert<To, From>(static_cast<To*>(y), x, n);
}

template <class To>
Convert convert_from(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return convert_entry<To, float>;
    case DType::f64:
      return convert_entry<To, double>;
    case DType::i32:
      return convert_entry<To, int32_t>;
    case DType::i64:
      return convert_entry<To, int64_t>;
    case DType::u8:
      return convert_entry<To, uint8_t>;
    case DType::i8:
      return convert_entry<To, int8_t>;
    case DType::u16:
      return convert_entry<To, uint16_t>;
    case DType::i16:
      return convert_entry<To, int16_t>;
    case DType::u32:
      return convert_entry<To, uint32_t>;
    case DType::u64:
      return convert_entry<To, uint64_t>;
  }
  return nullptr;
}
Convert converter(DType to, DType from) {
  if (to == DType::f32) return convert_from<float>(from);
  return to == DType::f64 ? convert_from<double>(from) : convert_from<int32_t>(from);
}

RANVIER_INLINE char* row_at(const Source& source, const Feed& feed, int64_t i) {
  const int64_t row = feed.cursor + i;
  return source.data + (feed.order ? feed.order[row] : row) * source.row_bytes;
}

void gather(const GatherArgs& a, int64_t begin, int64_t end) {
  const Convert convert = converter(a.y_dtype, a.x_dtype);
  const int64_t y_row = a.columns * bytes_of(a.y_dtype);
  const int64_t x_row = a.columns * bytes_of(a.x_dtype);
  for (int64_t i = begin; i < end; ++i) {
    if (i + 1 < end) {  // rows lie anywhere in memory: the next is on its way while this one is converted
      const char* next = row_at(*a.x, *a.feed, i + 1);
      for (int64_t byte = 0; byte < x_row; byte += 64) __builtin_prefetch(next + byte);
    }
    convert(static_cast<char*>(a.y) + i * y_row, row_at(*a.x, *a.feed, i), a.columns);
  }
}

void scatter(const ScatterArgs& a, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    memcpy(row_at(*a.y, *a.feed, i), static_cast<const char*>(a.x) + i * a.row_bytes, static_cast<size_t>(a.row_bytes));
  }
}

void advance(const AdvanceArgs& a, int64_t, int64_t) {
  a.feed->cursor += a.step;
}

void cast(const CastArgs& a, int64_t begin, int64_t end) {
  const Range e = elements(begin, end, a.n);
  converter(a.y_dtype, a.x_dtype)(static_cast<char*>(a.y) + e.begin * bytes_of(a.y_dtype),
                                  static_cast<const char*>(a.x) + e.begin * bytes_of(a.x_dtype), e.end - e.begin);
}

template <class T>
void normalization(const NormalizationArgs& a, int64_t, int64_t) {
  const T* mean = static_cast<const T*>(a.mean);
  const T* variance = static_cast<const T*>(a.variance);
  T* scale = static_cast<T*>(a.scale);
  T* offset = static_cast<T*>(a.offset);
  for (int64_t c = 0; c < a.columns; ++c) {
    const int64_t i = a.given == 1 ? 0 : c;
    const double root = ::sqrt(static_cast<double>(variance[i])), m = static_cast<double>(mean[i]);
    const double deviation = root > 1e-7 ? root : 1e-7;
    scale[c] = static_cast<T>(a.invert ? deviation : 1 / deviation);
    offset[c] = static_cast<T>(a.invert ? m : -m / deviation);
  }
}

// y = x * scale + offset; backward: the same with dy, and no offset
template <class T>
void affine(const AffineArgs& a, int64_t begin, int64_t end) {
  const Range e = elements(begin, end, a.n);
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
  const Range e = elements(begin, end, a.n);
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
  table.scatter = entry<ScatterArgs, scatter>;
  table.advance = entry<AdvanceArgs, advance>;
  table.cast = entry<CastArgs, cast>;
  table.normalization = typed(NormalizationArgs, normalization);
  table.affine = typed(AffineArgs, affine);
  table.add = typed(AddArgs, add);
}

}  // namespace ranvier::RANVIER_TIER
