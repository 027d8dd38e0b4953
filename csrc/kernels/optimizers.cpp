// Optimizers: one pass over the flat parameters, gradients and moments (update.h holds the formulas).
#include "kernels/optimizers.h"

#include "kernels/tier.h"
#include "kernels/update.h"

namespace ranvier::RANVIER_TIER {
namespace {

void tick(const TickArgs& a, int64_t, int64_t) {
  OptimizerState* s = a.state;
  if (a.rates) s->learning_rate = a.rates[static_cast<int64_t>(s->step) % a.n];
  s->step += 1;
  s->beta_1_power *= a.beta_1;
  s->beta_2_power *= a.beta_2;
  s->rate = s->learning_rate * ::sqrt(1.0 - s->beta_2_power) / (1.0 - s->beta_1_power);
}

template <class T>
void update_chunks(const UpdateArgs& a, int64_t begin, int64_t end) {
  const Range e = elements(begin, end, a.n);
  update<T>(a, {static_cast<const T*>(a.g) + e.begin, e.begin, 1, e.end - e.begin, 0, 0});
}

}  // namespace

void fill_optimizers(KernelTable& table) {
  table.tick = entry<TickArgs, tick>;
  table.update = typed(UpdateArgs, update_chunks);
}

}  // namespace ranvier::RANVIER_TIER
