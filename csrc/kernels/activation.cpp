// Stand-alone activations and softmax, forward and backward; functions of one number.
#include "kernels/activation.h"

#include "kernels/activate.h"
#include "kernels/tier.h"
#include "kernels/trigonometry.h"

namespace ranvier::RANVIER_TIER {
namespace {

// A result of this many bytes does not stay in a cache.
constexpr int64_t kLarge = int64_t{32} << 20;

// y = f(x) of the elements of chunks [begin, end)
template <class T, class F>
RANVIER_INLINE void map_chunks(void* y_, const void* x_, int64_t n, int64_t begin, int64_t end, F f) {
  const Range e = elements(begin, end, n);
  T* y = static_cast<T*>(y_) + e.begin;
  const T* x = static_cast<const T*>(x_) + e.begin;
  if (n * static_cast<int64_t>(sizeof(T)) >= kLarge && y != x) {
    map_lanes_around<T>(y, x, e.end - e.begin, f);
  } else {
    map_lanes<T>(y, x, e.end - e.begin, f);
  }
}

template <class T, Activation f>
void activation(const ActivationArgs& a, int64_t begin, int64_t end) {
  const T alpha = static_cast<T>(a.alpha);
  map_chunks<T>(a.y, a.x, a.n, begin, end,
                [=](Vec<T> v) __attribute__((always_inline)) { return apply<T, f>(v, alpha); });
}
template <class T>
void activation(const ActivationArgs& a, int64_t begin, int64_t end) {
  switch (a.activation) {
#define CASE(name)       \
  case Activation::name: \
    return activation<T, Activation::name>(a, begin, end);
    RANVIER_EACH_ACTIVATION(CASE)
#undef CASE
    case Activation::softmax:
      return;
  }
}

template <class T, Function f>
RANVIER_INLINE Vec<T> value_of(Vec<T> x) {
  if constexpr (f == Function::expm1) return expm1<T>(x);
  if constexpr (f == Function::log) return log<T>(x);
  if constexpr (f == Function::log1p) return log1p<T>(x);
  if constexpr (f == Function::erf) return erf<T>(x);
  if constexpr (f == Function::sin) return sin<T>(x);
  if constexpr (f == Function::cos) return cos<T>(x);
}
template <class T>
void function(const FunctionArgs& a, int64_t begin, int64_t end) {
  switch (a.function) {
#define CASE(name)                                  \
  case Function::name:                              \
    return map_chunks<T>(a.y, a.x, a.n, begin, end, \
                         [](Vec<T> v) __attribute__((always_inline)) { return value_of<T, Function::name>(v); });
    CASE(expm1) CASE(log) CASE(log1p) CASE(erf) CASE(sin) CASE(cos)
#undef CASE
  }
}

template <class T>
void activation_backward(const ActivationArgs& a, int64_t begin, int64_t end) {
  const Range e = elements(begin, end, a.n);
  const bool from_input = a.activation >= Activation::gelu;
  backward_row<T>(a.activation, static_cast<T*>(a.y) + e.begin, static_cast<const T*>(a.dy) + e.begin,
                  static_cast<const T*>(from_input ? a.x : a.output) + e.begin, e.end - e.begin, a.alpha);
}

// y = e^(x - max x) / sum
template <class T>
void softmax(const SoftmaxArgs& a, int64_t begin, int64_t end) {
  const int64_t n = a.columns;
  for_row_blocks<T>(begin, end, n, [&](int64_t row, int64_t rows) {
    const T* x = static_cast<const T*>(a.x) + row * n;
    T* y = static_cast<T*>(a.y) + row * n;
    T top[kBlockRows], share[kBlockRows];
    for (int64_t r = 0; r < rows; ++r) top[r] = largest(x + r * n, n);
    for (int64_t r = 0; r < rows; ++r) share[r] = T(1) / exponentials(y + r * n, x + r * n, top[r], n);
    for (int64_t r = 0; r < rows; ++r) {
      for_lanes<T>(r * n, (r + 1) * n, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
        store_lanes(y + i, load_lanes(y + i, k) * share[r], k);
      });
    }
  });
}

// dx = y * (dy - sum(dy * y))
template <class T>
void softmax_backward(const SoftmaxArgs& a, int64_t begin, int64_t end) {
  const int64_t n = a.columns;
  for (int64_t row = begin; row < end; ++row) {
    const T* y = static_cast<const T*>(a.x) + row * n;
    const T* dy = static_cast<const T*>(a.dy) + row * n;
    T* dx = static_cast<T*>(a.y) + row * n;
    const T dot = sum<T>(n, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
      return load_lanes(dy + i, k) * load_lanes(y + i, k);
    });
    for_lanes<T>(0, n, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
      store_lanes(dx + i, load_lanes(y + i, k) * (load_lanes(dy + i, k) - dot), k);
    });
  }
}

}  // namespace

void fill_activation(KernelTable& table) {
  table.activation = typed(ActivationArgs, activation);
  table.activation_backward = typed(ActivationArgs, activation_backward);
  table.function = typed(FunctionArgs, function);
  table.softmax = typed(SoftmaxArgs, softmax);
  table.softmax_backward = typed(SoftmaxArgs, softmax_backward);
}

}  // namespace ranvier::RANVIER_TIER
