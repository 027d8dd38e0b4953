// What one tier's kernel files share by name: each family fills its part of the tier's table.
#pragma once

#include "kernels/kernels.h"

#define typed(Args, kernel)                                 \
  TypedKernel {                                             \
    entry<Args, kernel<float>>, entry<Args, kernel<double>> \
  }

namespace ranvier::RANVIER_TIER {

void fill_activation(KernelTable& table);
void fill_data(KernelTable& table);
void fill_dense(KernelTable& table);
void fill_dropout(KernelTable& table);
void fill_losses(KernelTable& table);
void fill_merge(KernelTable& table);
void fill_metrics(KernelTable& table);
void fill_optimizers(KernelTable& table);
void fill_conv2d(KernelTable& table);
void fill_depthwise(KernelTable& table);
void fill_transpose(KernelTable& table);
void fill_augment(KernelTable& table);
void fill_yardstick(KernelTable& table);
void fill_winograd(KernelTable& table);
void fill_norm(KernelTable& table);
void fill_pool(KernelTable& table);

// The tier's whole table.
void fill(KernelTable& table);

}  // namespace ranvier::RANVIER_TIER
