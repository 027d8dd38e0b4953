// Losses: the value of each row and the gradient of their mean, in one visit; the mean; regularisation.
//
// The gradient of the mean over the rows is each row's gradient divided by the number of rows.
#include "kernels/losses.h"

#include "kernels/functions.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

constexpr double kClip = 1e-7;  // Keras's epsilon: probabilities are clipped to [kClip, 1 - kClip]

template <class T>
struct Row {
  T* loss;
  T* gradient;  // null when not wanted
  const T* y_true;
  const T* y_pred;
};
template <class T>
RANVIER_INLINE Row<T> row_of(const LossArgs& a, int64_t row) {
  T* gradient = static_cast<T*>(a.gradient);
  return {static_cast<T*>(a.loss) + row, gradient ? gradient + row * a.columns : nullptr,
          static_cast<const T*>(a.y_true) + row * a.columns, static_cast<const T*>(a.y_pred) + row * a.columns};
}

// An elementwise loss: the row's mean of value(t, p), with its slope. both(t, p, value, slope) fills the two.
template <class T, class Both>
RANVIER_INLINE void elementwise(const LossArgs& a, int64_t begin, int64_t end, Both both) {
  const int64_t n = a.columns;
  const T mean = T(1) / static_cast<T>(n), scale = T(1) / (static_cast<T>(a.rows) * static_cast<T>(n));
  for (int64_t row = begin; row < end; ++row) {
    const Row<T> r = row_of<T>(a, row);
    *r.loss = mean * sum<T>(n, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
                Vec<T> value, slope;
                both(load_lanes(r.y_true + i, k), load_lanes(r.y_pred + i, k), value, slope);
                if (r.gradient) store_lanes(r.gradient + i, scale * slope, k);
                return k < kLanes<T> ? first_lanes<T>(value, k, T(0)) : value;
              });
  }
}

// (p - t)^2
template <class T>
void mean_squared_error(const LossArgs& a, int64_t begin, int64_t end) {
  elementwise<T>(a, begin, end, [](Vec<T> t, Vec<T> p, Vec<T>& value, Vec<T>& slope) __attribute__((always_inline)) {
    const Vec<T> d = p - t;
    value = d * d;
    slope = T(2) * d;
  });
}

// |p - t|; the slope at 0 is 0
template <class T>
void mean_absolute_error(const LossArgs& a, int64_t begin, int64_t end) {
  elementwise<T>(a, begin, end, [](Vec<T> t, Vec<T> p, Vec<T>& value, Vec<T>& slope) __attribute__((always_inline)) {
    const Vec<T> d = p - t, one = splat<T>(T(1));
    value = abs<T>(d);
    slope = d == T(0) ? Vec<T>{} : copysign<T>(one, d);
  });
}

// -(t log p + (1 - t) log(1 - p)), p clipped; no slope where it is
template <class T>
void binary_crossentropy(const LossArgs& a, int64_t begin, int64_t end) {
  elementwise<T>(a, begin, end, [](Vec<T> t, Vec<T> p, Vec<T>& value, Vec<T>& slope) __attribute__((always_inline)) {
    const Vec<T> low = splat<T>(T(kClip)), high = splat<T>(T(1) - T(kClip));
    const Vec<T> q = at_most<T>(at_least<T>(p, low), high), rest = T(1) - q;
    value = -(t * log<T>(q) + (T(1) - t) * log<T>(rest));
    slope = ((p < low) | (p > high)) ? Vec<T>{} : (q - t) / (q * rest);
  });
}

// From the logit z: max(z, 0) - z t + log(1 + e^-|z|), slope sigmoid(z) - t
template <class T>
void binary_crossentropy_logits(const LossArgs& a, int64_t begin, int64_t end) {
  elementwise<T>(a, begin, end, [](Vec<T> t, Vec<T> z, Vec<T>& value, Vec<T>& slope) __attribute__((always_inline)) {
    value = softplus<T>(z) - z * t;
    slope = sigmoid<T>(z) - t;
  });
}

// The row's targets: given for each class, or one label.
template <class T>
RANVIER_INLINE Vec<T> target(const Row<T>& r, int64_t i, int64_t k, int64_t label) {
  if (label < 0) return load_lanes(r.y_true + i, k);
  IVec<T> place;
  for (int l = 0; l < kLanes<T>; ++l) place[l] = l;
  return place == static_cast<typename VecOf<T>::Int>(label - i) ? splat<T>(T(1)) : Vec<T>{};
}

// -sum t log p with p = y / sum y clipped; the slope runs back through clip and division:
// with s = -t / p (0 where clipped), dy = (s - sum(s p)) / sum y.
template <class T>
void crossentropy_row(const LossArgs& a, int64_t row, int64_t label) {
  const int64_t n = a.columns;
  const Row<T> r = row_of<T>(a, row);
  const T total =
      sum<T>(n, [=](int64_t i, int64_t k) __attribute__((always_inline)) { return load_lanes(r.y_pred + i, k); });
  const Vec<T> low = splat<T>(T(kClip)), high = splat<T>(T(1) - T(kClip));
  const auto clipped = [=](Vec<T> p) __attribute__((always_inline)) { return at_most<T>(at_least<T>(p, low), high); };
  *r.loss = -sum<T>(n, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
    return target<T>(r, i, k, label) * log<T>(clipped(load_lanes(r.y_pred + i, k) / total));  // the filler's t is 0
  });
  if (!r.gradient) return;
  const auto slope = [=](Vec<T> t, Vec<T> p) __attribute__((always_inline)) {
    return ((p < low) | (p > high)) ? Vec<T>{} : -t / clipped(p);
  };
  const T dot = sum<T>(n, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
    const Vec<T> p = load_lanes(r.y_pred + i, k) / total;
    return slope(target<T>(r, i, k, label), p) * p;
  });
  const T scale = T(1) / (static_cast<T>(a.rows) * total);
  for_lanes<T>(0, n, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
    const Vec<T> p = load_lanes(r.y_pred + i, k) / total;
    store_lanes(r.gradient + i, scale * (slope(target<T>(r, i, k, label), p) - dot), k);
  });
}

// Fused softmax and cross-entropy: with L = log sum e^z, the loss is sum t (L - z) and dz = softmax(z) sum(t) - t.
// With labels, t is 1 at the row's label and 0 elsewhere.
template <class T>
void crossentropy_logits(const LossArgs& a, int64_t begin, int64_t end, const int32_t* labels) {
  const int64_t n = a.columns;
  const T scale = T(1) / static_cast<T>(a.rows);
  for_row_blocks<T>(begin, end, n, [&](int64_t row, int64_t rows) {
    T top[kBlockRows], total[kBlockRows], log_total[kBlockRows];
    for (int64_t r = 0; r < rows; ++r) top[r] = largest(row_of<T>(a, row + r).y_pred, n);
    for (int64_t r = 0; r < rows; ++r) {
      const Row<T> s = row_of<T>(a, row + r);
      total[r] = exponentials(s.gradient, s.y_pred, top[r], n);
    }
    for_lanes<T>(0, rows, [&](int64_t i, int64_t k) __attribute__((always_inline)) {
      store_lanes(log_total + i, log<T>(load_lanes(total + i, k)), k);
    });
    for (int64_t r = 0; r < rows; ++r) {
      const Row<T> s = row_of<T>(a, row + r);
      if (labels) {
        const int32_t label = labels[row + r];
        *s.loss = log_total[r] - (s.y_pred[label] - top[r]);
        if (!s.gradient) continue;
        const T share = T(1) / total[r], own = s.gradient[label];
        for_lanes<T>(0, n, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
          store_lanes(s.gradient + i, scale * (load_lanes(s.gradient + i, k) * share), k);
        });
        s.gradient[label] = scale * (own * share - T(1));
      } else {
        const T weight =
            sum<T>(n, [=](int64_t i, int64_t k) __attribute__((always_inline)) { return load_lanes(s.y_true + i, k); });
        *s.loss = sum<T>(n, [=, &log_total, &top](int64_t i, int64_t k) __attribute__((always_inline)) {
          const Vec<T> t = load_lanes(s.y_true + i, k), z = load_lanes(s.y_pred + i, k);
          return t == T(0) ? Vec<T>{} : t * (log_total[r] - (z - top[r]));
        });
        if (!s.gradient) continue;
        const T share = weight / total[r];
        for_lanes<T>(0, n, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
          const Vec<T> e = load_lanes(s.gradient + i, k), t = load_lanes(s.y_true + i, k);
          store_lanes(s.gradient + i, scale * (e * share - t), k);
        });
      }
    }
  });
}

template <class T>
void categorical_crossentropy(const LossArgs& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) crossentropy_row<T>(a, row, -1);
}
template <class T>
void categorical_crossentropy_logits(const LossArgs& a, int64_t begin, int64_t end) {
  crossentropy_logits<T>(a, begin, end, nullptr);
}
template <class T>
void sparse_crossentropy(const LossArgs& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    crossentropy_row<T>(a, row, static_cast<const int32_t*>(a.y_true)[row]);
  }
}
template <class T>
void sparse_crossentropy_logits(const LossArgs& a, int64_t begin, int64_t end) {
  crossentropy_logits<T>(a, begin, end, static_cast<const int32_t*>(a.y_true));
}

template <class T>
void mean(const MeanArgs& a, int64_t, int64_t) {
  const T* x = static_cast<const T*>(a.x);
  const T total =
      sum<T>(a.n, [=](int64_t i, int64_t k) __attribute__((always_inline)) { return load_lanes(x + i, k); });
  *static_cast<T*>(a.value) = total / static_cast<T>(a.n);
}

template <class T>
void accumulate(const AccumulateArgs& a, int64_t, int64_t) {
  const double value = static_cast<double>(*static_cast<const T*>(a.value));
  a.sums->total += value * a.weight;
  a.sums->count += a.weight;
  if (a.sums->first_bad < 0 && !(value - value == 0.0)) a.sums->first_bad = a.sums->steps;
  a.sums->steps += 1;
}

// l1 |x| + l2 x^2, slope l1 sign(x) + 2 l2 x
template <class T>
void penalty(const PenaltyArgs& a, int64_t begin, int64_t end) {
  const T l1 = static_cast<T>(a.l1), l2 = static_cast<T>(a.l2), scale = static_cast<T>(a.scale);
  const bool add = a.accumulate;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const Range e = elements(chunk, chunk + 1, a.n);
    const T* x = static_cast<const T*>(a.x) + e.begin;
    T* dx = a.dx ? static_cast<T*>(a.dx) + e.begin : nullptr;
    a.parts[chunk] = static_cast<double>(sum<T>(e.size(), [=](int64_t i, int64_t k) __attribute__((always_inline)) {
      const Vec<T> v = load_lanes(x + i, k);
      if (dx) {
        const Vec<T> sign = v == T(0) ? Vec<T>{} : copysign<T>(splat<T>(T(1)), v);
        const Vec<T> slope = scale * fma(splat<T>(T(2) * l2), v, l1 * sign);
        store_lanes(dx + i, add ? load_lanes(dx + i, k) + slope : slope, k);
      }
      return fma(splat<T>(l2) * v, v, l1 * abs<T>(v));
    }));
  }
}
template <class T>
void total(const TotalArgs& a, int64_t, int64_t) {
  double sum = 0;
  for (int64_t i = 0; i < a.n; ++i) sum += a.parts[i];
  *static_cast<T*>(a.value) = static_cast<T>(a.scale) * static_cast<T>(sum);
}

}  // namespace

void fill_losses(KernelTable& table) {
  table.mean_squared_error = typed(LossArgs, mean_squared_error);
  table.mean_absolute_error = typed(LossArgs, mean_absolute_error);
  table.binary_crossentropy = typed(LossArgs, binary_crossentropy);
  table.binary_crossentropy_logits = typed(LossArgs, binary_crossentropy_logits);
  table.categorical_crossentropy = typed(LossArgs, categorical_crossentropy);
  table.categorical_crossentropy_logits = typed(LossArgs, categorical_crossentropy_logits);
  table.sparse_crossentropy = typed(LossArgs, sparse_crossentropy);
  table.sparse_crossentropy_logits = typed(LossArgs, sparse_crossentropy_logits);
  table.mean = typed(MeanArgs, mean);
  table.accumulate = typed(AccumulateArgs, accumulate);
  table.penalty = typed(PenaltyArgs, penalty);
  table.total = typed(TotalArgs, total);
}

}  // namespace ranvier::RANVIER_TIER
