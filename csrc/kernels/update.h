// The optimizers' steps, with Keras's formulas: a shared tool of the flat pass over all parameters and of the products
// that apply a step to each tile of a gradient as soon as it is complete. Both give the same bits.
#pragma once

#include "kernels/loops.h"
#include "kernels/optimizers.h"

namespace ranvier::RANVIER_TIER {
namespace {

// A part of a variable: rows of it, `row` elements apart, from element `begin` on; and their gradient.
template <class T>
struct Part {
  const T* g;
  int64_t begin, rows, columns, row, g_row;
};

// Runs body(i, gradient, k) over a part: k lanes at element i.
template <class T, class Body>
RANVIER_INLINE void for_part(const Part<T>& part, Body body) {
  for (int64_t r = 0; r < part.rows; ++r) {
    const T* g = part.g + r * part.g_row;
    const int64_t begin = part.begin + r * part.row;
    for_lanes<T>(0, part.columns, [=](int64_t c, int64_t k) __attribute__((always_inline)) {
      body(begin + c, load_lanes(g + c, k), k);
    });
  }
}

// p - learning_rate weight_decay p: apart from the gradient, and before the step (Loshchilov and Hutter, 2019).
template <class T>
RANVIER_INLINE T decay_of(const UpdateArgs& a) {
  return static_cast<T>(a.state->learning_rate * a.weight_decay);
}
template <class T>
RANVIER_INLINE Vec<T> decayed(Vec<T> p, T decay) {
  return fma(splat<T>(-decay), p, p);  // p itself where there is none
}

// v = momentum v - lr g;  p += v, or with Nesterov's look ahead p += momentum v - lr g
template <class T>
RANVIER_INLINE void sgd(const UpdateArgs& a, const Part<T>& part) {
  T* p = static_cast<T*>(a.p);
  T* velocity = static_cast<T*>(a.m);
  const T rate = static_cast<T>(a.state->learning_rate), momentum = static_cast<T>(a.momentum);
  const bool nesterov = a.nesterov;
  const T decay = decay_of<T>(a);
  for_part<T>(part, [=](int64_t i, Vec<T> gi, int64_t k) __attribute__((always_inline)) {
    Vec<T> step = -rate * gi;
    if (velocity) {
      const Vec<T> v = fma(splat<T>(momentum), load_lanes(velocity + i, k), step);
      store_lanes(velocity + i, v, k);
      step = nesterov ? fma(splat<T>(momentum), v, step) : v;
    }
    store_lanes(p + i, decayed<T>(load_lanes(p + i, k), decay) + step, k);
  });
}

// v = rho v + (1 - rho) g^2;  step = lr g / sqrt(v + epsilon), gathered by momentum if there is one;  p -= step
template <class T>
RANVIER_INLINE void rmsprop(const UpdateArgs& a, const Part<T>& part) {
  T* p = static_cast<T*>(a.p);
  T* velocity = static_cast<T*>(a.m);
  T* second = static_cast<T*>(a.v);
  const T rate = static_cast<T>(a.state->learning_rate), momentum = static_cast<T>(a.momentum);
  const T decay = decay_of<T>(a);
  const T rho = static_cast<T>(a.rho), rest = static_cast<T>(1.0 - a.rho), epsilon = static_cast<T>(a.epsilon);
  for_part<T>(part, [=](int64_t i, Vec<T> gi, int64_t k) __attribute__((always_inline)) {
    const Vec<T> v = fma(splat<T>(rho), load_lanes(second + i, k), rest * gi * gi);
    store_lanes(second + i, v, k);
    Vec<T> step = rate * gi / sqrt(v + epsilon);
    if (velocity) {
      step = fma(splat<T>(momentum), load_lanes(velocity + i, k), step);
      store_lanes(velocity + i, step, k);
    }
    store_lanes(p + i, decayed<T>(load_lanes(p + i, k), decay) - step, k);
  });
}

// m += (1 - beta_1)(g - m);  v += (1 - beta_2)(g^2 - v);  p -= rate m / (sqrt(v) + epsilon)   (Kingma and Ba, 2015)
template <class T>
RANVIER_INLINE void adam(const UpdateArgs& a, const Part<T>& part) {
  T* p = static_cast<T*>(a.p);
  T* first = static_cast<T*>(a.m);
  T* second = static_cast<T*>(a.v);
  const T rate = static_cast<T>(a.state->rate), epsilon = static_cast<T>(a.epsilon), decay = decay_of<T>(a);
  const Vec<T> new_1 = splat<T>(static_cast<T>(1.0 - a.beta_1)), new_2 = splat<T>(static_cast<T>(1.0 - a.beta_2));
  for_part<T>(part, [=](int64_t i, Vec<T> gi, int64_t k) __attribute__((always_inline)) {
    const Vec<T> m0 = load_lanes(first + i, k), v0 = load_lanes(second + i, k);
    const Vec<T> m = fma(new_1, gi - m0, m0), v = fma(new_2, fma(gi, gi, -v0), v0);
    store_lanes(first + i, m, k);
    store_lanes(second + i, v, k);
    store_lanes(p + i, decayed<T>(load_lanes(p + i, k), decay) - rate * m / (sqrt(v) + epsilon), k);
  });
}

// Inline: a call for each tile would cost small nets a tenth of their step.
template <class T>
RANVIER_INLINE void update(const UpdateArgs& a, const Part<T>& part) {
  switch (a.rule) {
    case Rule::sgd:
      return sgd<T>(a, part);
    case Rule::rmsprop:
      return rmsprop<T>(a, part);
    case Rule::adam:
      return adam<T>(a, part);
  }
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
