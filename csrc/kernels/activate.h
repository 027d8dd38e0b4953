// Each activation beside its derivative: a shared tool of the dense and activation kernels.
//
// apply<f> gives y = f(x). slope<f> gives f'(x): from y where y tells it (y is all that a fused layer keeps), from x
// for gelu, gelu_tanh and silu.
#pragma once

#include "kernels/activation.h"
#include "kernels/functions.h"

namespace ranvier::RANVIER_TIER {
namespace {

// Klambauer et al., Self-Normalizing Neural Networks, 2017.
constexpr double kSeluScale = 1.05070098735548049342, kSeluAlpha = 1.67326324235437728482;

template <class T, Activation f>
RANVIER_INLINE Vec<T> apply(Vec<T> x, [[maybe_unused]] T alpha) {
  if constexpr (f == Activation::linear) return x;
  if constexpr (f == Activation::relu) return at_least<T>(x, Vec<T>{});
  if constexpr (f == Activation::leaky_relu) return x < T(0) ? alpha * x : x;
  if constexpr (f == Activation::sigmoid) return sigmoid<T>(x);
  if constexpr (f == Activation::tanh) return tanh<T>(x);
  if constexpr (f == Activation::elu) return x > T(0) ? x : alpha * expm1<T>(x);
  if constexpr (f == Activation::selu) {
    return T(kSeluScale) * (x > T(0) ? x : T(kSeluAlpha) * expm1<T>(x));
  }
  if constexpr (f == Activation::softplus) return softplus<T>(x);
  if constexpr (f == Activation::exponential) return exp<T>(x);
  if constexpr (f == Activation::hard_sigmoid) {
    return at_most<T>(at_least<T>(fma(x, splat<T>(T(1.0 / 6)), splat<T>(T(0.5))), Vec<T>{}), splat<T>(T(1)));
  }
  if constexpr (f == Activation::cap) return at_most<T>(x, splat<T>(alpha));
  if constexpr (f == Activation::gelu) return gelu<T>(x);
  if constexpr (f == Activation::gelu_tanh) return gelu_tanh<T>(x);
  if constexpr (f == Activation::silu) return silu<T>(x);
}

template <class T, Activation f>
RANVIER_INLINE Vec<T> slope([[maybe_unused]] Vec<T> x, [[maybe_unused]] Vec<T> y, [[maybe_unused]] T alpha) {
  const Vec<T> one = splat<T>(T(1)), zero = {};
  if constexpr (f == Activation::linear) return one;
  if constexpr (f == Activation::relu) return y > zero ? one : zero;
  if constexpr (f == Activation::leaky_relu) return y > zero ? one : splat<T>(alpha);
  if constexpr (f == Activation::sigmoid) return y * (one - y);
  if constexpr (f == Activation::tanh) return fma(-y, y, one);
  if constexpr (f == Activation::elu) return y > zero ? one : y + alpha;
  if constexpr (f == Activation::selu) {
    return y > zero ? splat<T>(T(kSeluScale)) : y + T(kSeluScale * kSeluAlpha);
  }
  if constexpr (f == Activation::softplus) return -expm1<T>(-y);  // sigmoid(x) = 1 - e^-y
  if constexpr (f == Activation::exponential) return y;
  if constexpr (f == Activation::hard_sigmoid) return ((y > zero) & (y < one)) ? splat<T>(T(1.0 / 6)) : zero;
  if constexpr (f == Activation::cap) return y < alpha ? one : zero;
  if constexpr (f == Activation::gelu) return gelu_slope<T>(x);
  if constexpr (f == Activation::gelu_tanh) return gelu_tanh_slope<T>(x);
  if constexpr (f == Activation::silu) {
    const Vec<T> s = sigmoid<T>(x);
    return s * fma(x, one - s, one);
  }
}

// Every activation with a value for each element (softmax works on rows and has kernels of its own); first those whose
// slope the output tells.
#define RANVIER_EACH_ACTIVATION_BY_OUTPUT(CASE) \
  CASE(linear)                                  \
  CASE(relu)                                    \
  CASE(leaky_relu)                              \
  CASE(sigmoid) CASE(tanh) CASE(elu) CASE(selu) CASE(softplus) CASE(exponential) CASE(hard_sigmoid) CASE(cap)
#define RANVIER_EACH_ACTIVATION(CASE)     \
  RANVIER_EACH_ACTIVATION_BY_OUTPUT(CASE) \
  CASE(gelu)                              \
  CASE(gelu_tanh)                         \
  CASE(silu)

// y[0..n) = f(x[0..n)); x may be y.
template <class T, Activation f>
void apply_row(T* y, const T* x, int64_t n, T alpha) {
  map_lanes<T>(y, x, n, [=](Vec<T> v) __attribute__((always_inline)) { return apply<T, f>(v, alpha); });
}

template <class T>
void apply_row(Activation f, T* y, const T* x, int64_t n, double alpha) {
  switch (f) {
#define CASE(name)       \
  case Activation::name: \
    return apply_row<T, Activation::name>(y, x, n, static_cast<T>(alpha));
    RANVIER_EACH_ACTIVATION(CASE)
#undef CASE
    case Activation::softmax:
      return;
  }
}

// dx[0..n) = dy f', from `kept`: the output, or the input for the gelus and silu. dx may be dy.
template <class T, Activation f>
void backward_row(T* dx, const T* dy, const T* kept, int64_t n, T alpha) {
  for_lanes<T>(0, n, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
    const Vec<T> v = load_lanes(kept + i, k);
    store_lanes(dx + i, load_lanes(dy + i, k) * slope<T, f>(v, v, alpha), k);
  });
}

template <class T>
void backward_row(Activation f, T* dx, const T* dy, const T* kept, int64_t n, double alpha) {
  switch (f) {
#define CASE(name)       \
  case Activation::name: \
    return backward_row<T, Activation::name>(dx, dy, kept, n, static_cast<T>(alpha));
    RANVIER_EACH_ACTIVATION(CASE)
#undef CASE
    case Activation::softmax:
      return;
  }
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
