// Optimizers.
#pragma once

#include "kernels/types.h"

namespace ranvier {

// What the optimizer kernels read of the state, kept in a buffer so that a repeated step sees it change.
struct OptimizerState {
  double learning_rate;
  double beta_1_power, beta_2_power;  // beta^step
  double rate;                        // Adam's learning_rate * sqrt(1 - beta_2^step) / (1 - beta_1^step)
  double step;
};

// Advances the state by one step. One chunk.
struct TickArgs {
  OptimizerState* state;
  double beta_1, beta_2;
  const double* rates;  // (n): the learning rate of step i, from 0, at i % n; null: as the state has it
  int64_t n;
};

// parts = the sum of squares of each chunk of g. Chunks: kElements.
struct SquaresArgs {
  double* parts;  // (chunks)
  const void* g;  // T (n)
  int64_t n;
};

// scale = what shortens gradients to `limit` whose squares add up to the sum of the parts, 1 if they are no longer. One
// chunk.
struct ClipScaleArgs {
  double* scale;  // (1)
  const double* parts;
  int64_t n;
  double limit;
};

// g *= scale; without one each of g is brought between -limit and limit. Chunks: kElements.
struct ClipArgs {
  void* g;              // T (n)
  const double* scale;  // (1) or null
  int64_t n;
  double limit;
};

enum class Rule : int { sgd, rmsprop, adam };

// One pass over p. Chunks: kElements.
struct UpdateArgs {
  Rule rule;
  void* p;        // T (n)
  const void* g;  // T (n)
  void* m;        // T (n): momentum or first moment; null where there is none
  void* v;        // T (n): second moment; null where there is none
  const OptimizerState* state;
  int64_t n;
  double momentum, rho, beta_1, beta_2, epsilon;
  bool nesterov;
  double weight_decay;  // first p -= learning_rate * weight_decay * p
};

}  // namespace ranvier
