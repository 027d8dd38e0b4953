// Stand-alone activations and softmax, forward and backward.
#include "kernels/activate.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

template <class T>
void activation(const ActivationArgs& a, int64_t begin, int64_t end) {
  const Elements e = elements(begin, end, a.n);
  apply_row<T>(a.activation, static_cast<T*>(a.y) + e.begin, static_cast<const T*>(a.x) + e.begin, e.end - e.begin,
               a.alpha);
}

template <class T>
void activation_backward(const ActivationArgs& a, int64_t begin, int64_t end) {
  const Elements e = elements(begin, end, a.n);
  const bool from_input = a.activation == Activation::gelu || a.activation == Activation::silu;
  backward_row<T>(a.activation, static_cast<T*>(a.y) + e.begin, static_cast<const T*>(a.dy) + e.begin,
                  static_cast<const T*>(from_input ? a.x : a.output) + e.begin, e.end - e.begin, a.alpha);
}

// y = e^(x - max x) / sum
template <class T>
void softmax(const SoftmaxArgs& a, int64_t begin, int64_t end) {
  const int64_t n = a.columns;
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(a.x) + row * n;
    T* y = static_cast<T*>(a.y) + row * n;
    const T top = largest(x, n);
    for_lanes<T>(0, n, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
      store_lanes(y + i, exp<T>(load_lanes(x + i, k) - top), k);
    });
    const T total =
        sum<T>(n, [=](int64_t i, int64_t k) __attribute__((always_inline)) { return load_lanes(y + i, k); });
    for_lanes<T>(0, n, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
      store_lanes(y + i, load_lanes(y + i, k) / total, k);
    });
  }
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
  table.softmax = typed(SoftmaxArgs, softmax);
  table.softmax_backward = typed(SoftmaxArgs, softmax_backward);
}

}  // namespace ranvier::RANVIER_TIER
