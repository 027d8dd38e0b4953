// Activations, softmax, and functions of one number.
#pragma once

#include "kernels/types.h"

namespace ranvier {

enum class Activation : int {
  linear,
  relu,
  leaky_relu,
  sigmoid,
  tanh,
  elu,
  selu,
  softplus,
  exponential,
  hard_sigmoid,
  cap,  // derivative from y
  gelu,
  gelu_tanh,
  silu,     // derivative from x
  softmax,  // by rows, kernels of its own
};
constexpr int kActivations = static_cast<int>(Activation::softmax) + 1;

// y = f(x); backward: dx = dy * f'(x), from y where that is enough. Chunks: kElements.
struct ActivationArgs {
  void* y;             // T (n); backward: dx
  const void* x;       // T (n); backward: read for gelu, gelu_tanh and silu only
  const void* dy;      // backward: T (n)
  const void* output;  // backward: T (n), the forward's y
  int64_t n;
  Activation activation;
  double alpha;
};

enum class Function : int { expm1, log, log1p, erf, sin, cos };

// y = f(x). Chunks: kElements.
struct FunctionArgs {
  void* y;        // T (n)
  const void* x;  // T (n)
  int64_t n;
  Function function;
};

// y = softmax of each row; backward: dx = y * (dy - sum(dy * y)). Chunks: one row.
struct SoftmaxArgs {
  void* y;         // T (rows, columns); backward: dx
  const void* x;   // T (rows, columns); backward: the forward's y
  const void* dy;  // backward: T (rows, columns)
  int64_t rows, columns;
};

}  // namespace ranvier
