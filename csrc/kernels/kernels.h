// The table of all kernels, and with it their arguments.
#pragma once

#include "kernels/activation.h"
#include "kernels/augment.h"
#include "kernels/conv2d.h"
#include "kernels/data.h"
#include "kernels/dense.h"
#include "kernels/dropout.h"
#include "kernels/losses.h"
#include "kernels/merge.h"
#include "kernels/metrics.h"
#include "kernels/norm.h"
#include "kernels/optimizers.h"
#include "kernels/pool.h"
#include "kernels/transpose.h"
#include "kernels/types.h"
#include "kernels/winograd.h"
#include "kernels/yardstick.h"

namespace ranvier {

struct KernelTable {
  const char* (*isa)();  // the tier, as told by the kernels' own compilation

  int64_t (*matmul_chunks[2])(const MatmulArgs&);   // by DType
  bool (*packs[2])(const MatmulArgs&);              // whether to pack b
  bool (*turns[2])(const MatmulArgs&);              // or a instead
  int64_t (*packed_size[2])(int64_t n, int64_t k);  // elements
  int64_t panel[2];                                 // columns of one
  TypedKernel matmul, pack, column_sum, dense_backward;
  TypedKernel activation, activation_backward, function, softmax, softmax_backward;
  TypedKernel mean_squared_error, mean_absolute_error;
  TypedKernel binary_crossentropy, binary_crossentropy_logits;
  TypedKernel categorical_crossentropy, categorical_crossentropy_logits;
  TypedKernel sparse_crossentropy, sparse_crossentropy_logits;
  TypedKernel mean, accumulate, penalty, total;
  TypedKernel binary_accuracy, categorical_accuracy, sparse_accuracy;
  Kernel tick, clip_scale;
  TypedKernel update, squares, clip;
  Kernel gather, scatter, advance, cast;
  TypedKernel normalization, affine, add;
  Kernel draw;
  TypedKernel dropout;
  TypedKernel merge, sum_over;
  Kernel copy_rows;
  int64_t peak_flops[2];  // of one step of a chunk, by DType
  TypedKernel peak, triad;
  ConvPlan (*conv_plan[2])(const ConvGeometry&);
  TypedKernel conv_pack, conv, conv_input_gradient, conv_kernel_gradient, part_sums;
  ConvPlan (*depthwise_plan[2])(const ConvGeometry&);
  TypedKernel depthwise, depthwise_input_gradient, depthwise_kernel_gradient;
  TypedKernel transpose;
  WinogradPlan (*winograd_plan[2])(const ConvGeometry&);  // by DType
  TypedKernel winograd, winograd_kernel, winograd_gradient, winograd_sum;
  TypedKernel resample, resample_backward, draw_uniform;
  Kernel draw_moves;
  TypedKernel max_pool, max_pool_backward, average_pool, average_pool_backward;
  TypedKernel batch_moments, batch_statistics, batch_norm, batch_norm_sums, batch_norm_gradients, batch_norm_backward;
  TypedKernel moving_average;
};

}  // namespace ranvier
