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
void squares(const SquaresArgs& a, int64_t begin, int64_t end) {
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const Range e = elements(chunk, chunk + 1, a.n);
    const T* g = static_cast<const T*>(a.g) + e.begin;
    a.parts[chunk] =
        static_cast<double>(sum<T>(e.end - e.begin, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
          const Vec<T> v = load_lanes(g + i, k);
          return v * v;
        }));
  }
}

void clip_scale(const ClipScaleArgs& a, int64_t, int64_t) {
  double total = 0;
  for (int64_t i = 0; i < a.n; ++i) total += a.parts[i];
  const double norm = ::sqrt(total);
  *a.scale = norm <= a.limit ? 1.0 : a.limit / norm;  // NaN if there is one
}

template <class T>
void clip(const ClipArgs& a, int64_t begin, int64_t end) {
  const Range e = elements(begin, end, a.n);
  T* g = static_cast<T*>(a.g);
  if (a.scale) {
    const T scale = static_cast<T>(*a.scale);
    if (scale == T(1)) return;
    return for_lanes<T>(e.begin, e.end, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
      store_lanes(g + i, scale * load_lanes(g + i, k), k);
    });
  }
  const Vec<T> high = splat<T>(static_cast<T>(a.limit));
  for_lanes<T>(e.begin, e.end, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
    const Vec<T> v = load_lanes(g + i, k);
    store_lanes(g + i, v > high ? high : (v < -high ? -high : v), k);
  });
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
  table.squares = typed(SquaresArgs, squares);
  table.clip_scale = entry<ClipScaleArgs, clip_scale>;
  table.clip = typed(ClipArgs, clip);
}

}  // namespace ranvier::RANVIER_TIER
