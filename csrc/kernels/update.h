// The optimizers' steps, with Keras's formulas: a shared tool of the flat pass over all parameters and of the products
// that apply a step to each tile of a gradient as soon as it is complete. Both give the same bits.
#pragma once

#include "kernels/vec.h"

namespace ranvier::RANVIER_TIER {
namespace {

// Each takes elements [begin, end).

// v = momentum v - lr g;  p += v, or with Nesterov's look ahead p += momentum v - lr g
template <class T>
void sgd(const UpdateArgs& a, int64_t begin, int64_t end) {
  T* p = static_cast<T*>(a.p);
  T* velocity = static_cast<T*>(a.m);
  const T* g = static_cast<const T*>(a.g);
  const T rate = static_cast<T>(a.state->learning_rate), momentum = static_cast<T>(a.momentum);
  const bool nesterov = a.nesterov;
  for_lanes<T>(begin, end, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
    Vec<T> step = -rate * load_lanes(g + i, k);
    if (velocity) {
      const Vec<T> v = fma(splat<T>(momentum), load_lanes(velocity + i, k), step);
      store_lanes(velocity + i, v, k);
      step = nesterov ? fma(splat<T>(momentum), v, step) : v;
    }
    store_lanes(p + i, load_lanes(p + i, k) + step, k);
  });
}

// v = rho v + (1 - rho) g^2;  step = lr g / sqrt(v + epsilon), gathered by momentum if there is one;  p -= step
template <class T>
void rmsprop(const UpdateArgs& a, int64_t begin, int64_t end) {
  T* p = static_cast<T*>(a.p);
  T* velocity = static_cast<T*>(a.m);
  T* second = static_cast<T*>(a.v);
  const T* g = static_cast<const T*>(a.g);
  const T rate = static_cast<T>(a.state->learning_rate), momentum = static_cast<T>(a.momentum);
  const T rho = static_cast<T>(a.rho), rest = static_cast<T>(1.0 - a.rho), epsilon = static_cast<T>(a.epsilon);
  for_lanes<T>(begin, end, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
    const Vec<T> gi = load_lanes(g + i, k);
    const Vec<T> v = fma(splat<T>(rho), load_lanes(second + i, k), rest * gi * gi);
    store_lanes(second + i, v, k);
    Vec<T> step = rate * gi / sqrt(v + epsilon);
    if (velocity) {
      step = fma(splat<T>(momentum), load_lanes(velocity + i, k), step);
      store_lanes(velocity + i, step, k);
    }
    store_lanes(p + i, load_lanes(p + i, k) - step, k);
  });
}

// m += (1 - beta_1)(g - m);  v += (1 - beta_2)(g^2 - v);  p -= rate m / (sqrt(v) + epsilon)   (Kingma and Ba, 2015)
template <class T>
void adam(const UpdateArgs& a, int64_t begin, int64_t end) {
  T* p = static_cast<T*>(a.p);
  T* first = static_cast<T*>(a.m);
  T* second = static_cast<T*>(a.v);
  const T* g = static_cast<const T*>(a.g);
  const T rate = static_cast<T>(a.state->rate), epsilon = static_cast<T>(a.epsilon);
  const Vec<T> new_1 = splat<T>(static_cast<T>(1.0 - a.beta_1)), new_2 = splat<T>(static_cast<T>(1.0 - a.beta_2));
  for_lanes<T>(begin, end, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
    const Vec<T> gi = load_lanes(g + i, k), m0 = load_lanes(first + i, k), v0 = load_lanes(second + i, k);
    const Vec<T> m = fma(new_1, gi - m0, m0), v = fma(new_2, fma(gi, gi, -v0), v0);
    store_lanes(first + i, m, k);
    store_lanes(second + i, v, k);
    store_lanes(p + i, load_lanes(p + i, k) - rate * m / (sqrt(v) + epsilon), k);
  });
}

template <class T>
void update(const UpdateArgs& a, int64_t begin, int64_t end) {
  switch (a.rule) {
    case Rule::sgd:
      return sgd<T>(a, begin, end);
    case Rule::rmsprop:
      return rmsprop<T>(a, begin, end);
    case Rule::adam:
      return adam<T>(a, begin, end);
  }
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
