// One tier's table of kernels.
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

// Told by the compiler's own flags, not by the build's name for the tier: proof of what runs.
const char* isa() {
#if defined(__AVX512F__) && defined(__AVX512VL__)
  return "avx512";
#elif defined(__AVX2__) && defined(__FMA__)
  return "avx2";
#elif defined(__SSE4_2__)
  return "sse4";
#else
  return "generic";
#endif
}

}  // namespace

void fill(KernelTable& table) {
  table.isa = isa;
  fill_activation(table);
  fill_data(table);
  fill_dense(table);
  fill_dropout(table);
  fill_losses(table);
  fill_merge(table);
  fill_metrics(table);
  fill_optimizers(table);
  fill_yardstick(table);
  fill_conv2d(table);
  fill_depthwise(table);
  fill_transpose(table);
  fill_winograd(table);
  fill_augment(table);
  fill_norm(table);
  fill_pool(table);
}

}  // namespace ranvier::RANVIER_TIER
