// Normalization by batch: statistics of the columns, y = f(x * scale + offset), and the way back.
//
// Ioffe and Szegedy, Batch Normalization, 2015. All of it waits for memory, so it goes through x twice on the way
// forward and twice on the way back. The second walk is in the reverse order: it begins with what the first has left in
// the cache.
#include "kernels/norm.h"

#include "kernels/loops.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

constexpr int kStrip = 4;        // vectors side by side
constexpr int64_t kRows = 64;    // rows that are added up in T; blocks of them in double
constexpr int64_t kFolded = 64;  // columns of folded rows at most

template <int n>
struct Vectors {
  static constexpr int count = n;
};

// Calls strip(column, lanes, vectors) for strips of four vectors, then for single ones.
template <class T, class Strip>
RANVIER_INLINE void each_strip(int64_t columns, Strip strip) {
  constexpr int64_t kWide = kStrip * kLanes<T>;
  int64_t c = 0;
  for (; c + kWide <= columns; c += kWide) strip(c, static_cast<int64_t>(kLanes<T>), Vectors<kStrip>());
  for_lanes<T>(c, columns, [&](int64_t i, int64_t k) __attribute__((always_inline)) { strip(i, k, Vectors<1>()); });
}

// Calls block(first row, rows) for the blocks of some chunks.
template <class Block>
RANVIER_INLINE void each_block(int64_t first, int64_t last, Block block) {
  for (int64_t r = first; r < last; r += kRows) block(r, last - r < kRows ? last - r : kRows);
}

// Whether rows of `columns` elements at p can be stored around the caches.
template <class T>
RANVIER_INLINE bool streamed(const void* p, int64_t columns, bool wanted) {
  return wanted && reinterpret_cast<uintptr_t>(p) % kVectorBytes == 0 && columns % kLanes<T> == 0;
}

RANVIER_INLINE int64_t last_row(int64_t chunk, int64_t block, int64_t rows) {
  return (chunk + 1) * block < rows ? (chunk + 1) * block : rows;
}

// Mean and sum of squared deviations of `before` values, and of `count` more, made those of all (Chan, Golub and
// LeVeque, Updating Formulae, 1979).
RANVIER_INLINE void merge_moments(double& mean, double& squares, double more_mean, double more_squares, double before,
                                  double count) {
  const double share = count / (before + count), delta = more_mean - mean;
  mean += delta * share;
  squares += more_squares + delta * delta * before * share;
}

// Two walks over rows that fit into the first cache: the mean, then what is left of it.
template <class T, int n>
RANVIER_INLINE void block_moments(const T* x, int64_t step, int64_t rows, int64_t k, double before, double* mean,
                                  double* squares) {
  constexpr int kL = kLanes<T>;
  const T share = T(1) / static_cast<T>(rows);
  Vec<T> middle[n] = {}, rest[n] = {}, square[n] = {};
  for (int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < n; ++v) middle[v] += load_lanes(x + r * step + v * kL, k);
  }
  for (int v = 0; v < n; ++v) middle[v] *= share;
  for (int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < n; ++v) {
      const Vec<T> d = load_lanes(x + r * step + v * kL, k) - middle[v];
      rest[v] += d;
      square[v] = fma(d, d, square[v]);
    }
  }
  T lanes[3][n * kL] = {};
  for (int v = 0; v < n; ++v) {
    store(lanes[0] + v * kL, middle[v]);
    store(lanes[1] + v * kL, rest[v]);
    store(lanes[2] + v * kL, square[v]);
  }
  const double count = static_cast<double>(rows);
  const int64_t columns = n == 1 && k < kL ? k : n * kL;
#pragma omp simd
  for (int64_t c = 0; c < columns; ++c) {
    const double left = static_cast<double>(lanes[1][c]);
    merge_moments(mean[c], squares[c], static_cast<double>(lanes[0][c]) + left / count,
                  static_cast<double>(lanes[2][c]) - left * left / count, before, count);
  }
}

template <class T>
void batch_moments(const BatchMomentsArgs& a, int64_t begin, int64_t end) {
  const int64_t n = a.columns;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t first = chunk * a.block;
    double* mean = a.parts + chunk * 2 * n;
    double* squares = mean + n;
    for (int64_t c = 0; c < 2 * n; ++c) mean[c] = 0;
    each_block(first, last_row(chunk, a.block, a.rows), [&](int64_t row, int64_t rows) __attribute__((always_inline)) {
      const T* x = static_cast<const T*>(a.x) + row * n;
      const double before = static_cast<double>(row - first);
      each_strip<T>(n, [&](int64_t c, int64_t k, auto vectors) __attribute__((always_inline)) {
        block_moments<T, decltype(vectors)::count>(x + c, n, rows, k, before, mean + c, squares + c);
      });
    });
  }
}

// The statistics of all: chunk by chunk, and in each one group of columns after the other.
template <class T>
void batch_statistics(const BatchStatisticsArgs& a, int64_t begin, int64_t end) {
  const int64_t channels = a.channels, wide = channels * a.fold, chunks = chunks_of(a.rows, a.block);
  T* statistics = static_cast<T*>(a.statistics);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t c0 = chunk * kColumns, n = channels - c0 < kColumns ? channels - c0 : kColumns;
    double mean[kColumns] = {}, variance[kColumns] = {};
    if (a.parts) {
      double before = 0;
      for (int64_t part = 0; part < chunks; ++part) {
        const double count = static_cast<double>(last_row(part, a.block, a.rows) - part * a.block);
        for (int64_t f = 0; f < a.fold; ++f) {
          const double* more = a.parts + part * 2 * wide + f * channels + c0;
#pragma omp simd
          for (int64_t c = 0; c < n; ++c) merge_moments(mean[c], variance[c], more[c], more[wide + c], before, count);
          before += count;
        }
      }
      for (int64_t c = 0; c < n; ++c) variance[c] /= before;
    } else {
      for (int64_t c = 0; c < n; ++c) {
        mean[c] = static_cast<double>(static_cast<const T*>(a.mean)[c0 + c]);
        variance[c] = static_cast<double>(static_cast<const T*>(a.variance)[c0 + c]);
      }
    }
    for (int64_t c = 0; c < n; ++c) {
      const double gamma = a.gamma ? static_cast<double>(static_cast<const T*>(a.gamma)[c0 + c]) : 1.0;
      const double beta = a.beta ? static_cast<double>(static_cast<const T*>(a.beta)[c0 + c]) : 0.0;
      const double inverse = 1.0 / ::sqrt(variance[c] + a.epsilon);
      const T scale = static_cast<T>(gamma * inverse);
      T* column = statistics + c0 + c;
      column[0] = static_cast<T>(mean[c]);
      column[channels] = static_cast<T>(variance[c]);
      column[2 * channels] = static_cast<T>(inverse);
      column[3 * channels] = scale;
      column[4 * channels] = static_cast<T>(beta - mean[c] * static_cast<double>(scale));
    }
  }
}

// Some rows of the statistics, repeated for folded rows.
template <class T, int n>
class Repeated {
 public:
  // The i-th is row first + i of `rows`, which has `channels` columns.
  Repeated(const T* rows, int first, int64_t channels, int64_t fold) {
    for (int i = 0; i < n; ++i) {
      row_[i] = rows + (first + i) * channels;
      if (fold == 1) continue;
      for (int64_t c = 0; c < channels * fold; ++c) copy_[i][c] = row_[i][c % channels];
      row_[i] = copy_[i];
    }
  }
  const T* operator[](int i) const { return row_[i]; }

 private:
  const T* row_[n];
  T copy_[n][kFolded];
};

template <class T, bool relu>
void normalize(const BatchNormArgs& a, int64_t begin, int64_t end) {
  const int64_t n = a.channels * a.fold;
  const Repeated<T, 2> of(static_cast<const T*>(a.statistics), 3, a.channels, a.fold);
  const T *scale = of[0], *offset = of[1];
  const bool around = streamed<T>(a.y, n, a.around);
  for (int64_t chunk = end - 1; chunk >= begin; --chunk) {
    const int64_t last = last_row(chunk, a.block, a.rows);
    for (int64_t row = chunk * a.block; row < last; ++row) {
      const T* x = static_cast<const T*>(a.x) + row * n;
      T* y = static_cast<T*>(a.y) + row * n;
      for_lanes<T>(0, n, [=](int64_t c, int64_t k) __attribute__((always_inline)) {
        const Vec<T> z = fma(load_lanes(x + c, k), load_lanes(scale + c, k), load_lanes(offset + c, k));
        const Vec<T> v = relu ? at_least<T>(z, Vec<T>{}) : z;
        around ? stream(y + c, v) : store_lanes(y + c, v, k);
      });
    }
  }
  if (around) stream_end();
}
template <class T>
void batch_norm(const BatchNormArgs& a, int64_t begin, int64_t end) {
  a.relu ? normalize<T, true>(a, begin, end) : normalize<T, false>(a, begin, end);
}

// The sums of g and of g (x - mean), g = dy where y > 0.
template <class T, int n, bool relu>
RANVIER_INLINE void block_sums(const T* dy, const T* x, int64_t step, int64_t rows, int64_t k, const T* mean,
                               const T* scale, const T* offset, double* sums, double* products) {
  constexpr int kL = kLanes<T>;
  Vec<T> sum[n] = {}, product[n] = {};
  Vec<T> m[n], s[n], o[n];
  for (int v = 0; v < n; ++v) {
    m[v] = load_lanes(mean + v * kL, k);
    s[v] = load_lanes(scale + v * kL, k);
    o[v] = load_lanes(offset + v * kL, k);
  }
  for (int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < n; ++v) {
      const Vec<T> xs = load_lanes(x + r * step + v * kL, k);
      Vec<T> g = load_lanes(dy + r * step + v * kL, k);
      if (relu) g = fma(xs, s[v], o[v]) > T(0) ? g : Vec<T>{};
      sum[v] += g;
      product[v] = fma(g, xs - m[v], product[v]);
    }
  }
  T lanes[2][n * kL] = {};
  for (int v = 0; v < n; ++v) {
    store(lanes[0] + v * kL, sum[v]);
    store(lanes[1] + v * kL, product[v]);
  }
  const int64_t columns = n == 1 && k < kL ? k : n * kL;
  for (int64_t c = 0; c < columns; ++c) {
    sums[c] += static_cast<double>(lanes[0][c]);
    products[c] += static_cast<double>(lanes[1][c]);
  }
}

template <class T, bool relu>
void sums_of(const BatchNormSumsArgs& a, int64_t begin, int64_t end) {
  const int64_t n = a.channels * a.fold;
  const Repeated<T, 5> of(static_cast<const T*>(a.statistics), 0, a.channels, a.fold);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    double* sums = a.parts + chunk * 2 * n;
    for (int64_t c = 0; c < 2 * n; ++c) sums[c] = 0;
    each_block(chunk * a.block, last_row(chunk, a.block, a.rows),
               [&](int64_t row, int64_t rows) __attribute__((always_inline)) {
                 const T* dy = static_cast<const T*>(a.dy) + row * n;
                 const T* x = static_cast<const T*>(a.x) + row * n;
                 each_strip<T>(n, [&](int64_t c, int64_t k, auto vectors) __attribute__((always_inline)) {
                   block_sums<T, decltype(vectors)::count, relu>(dy + c, x + c, n, rows, k, of[0] + c, of[3] + c,
                                                                 of[4] + c, sums + c, sums + n + c);
                 });
               });
  }
}
template <class T>
void batch_norm_sums(const BatchNormSumsArgs& a, int64_t begin, int64_t end) {
  a.relu ? sums_of<T, true>(a, begin, end) : sums_of<T, false>(a, begin, end);
}

// dbeta = sum g, dgamma = sum g (x - mean) / deviation, and with them the slope and the height of
// dx = scale g + slope (x - mean) + height: where the statistics are x's own, it moves them, and they take their share.
template <class T>
void batch_norm_gradients(const BatchNormGradientsArgs& a, int64_t begin, int64_t end) {
  const int64_t channels = a.channels, wide = channels * a.fold, chunks = chunks_of(a.rows, a.block);
  const T* statistics = static_cast<const T*>(a.statistics);
  const double count = static_cast<double>(a.rows * a.fold);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t c0 = chunk * kColumns, n = channels - c0 < kColumns ? channels - c0 : kColumns;
    double sums[kColumns] = {}, products[kColumns] = {};
    for (int64_t part = 0; part < chunks * a.fold; ++part) {
      const double* more = a.parts + part / a.fold * 2 * wide + part % a.fold * channels + c0;
      for (int64_t c = 0; c < n; ++c) {
        sums[c] += more[c];
        products[c] += more[wide + c];
      }
    }
    for (int64_t c = 0; c < n; ++c) {
      const T* column = statistics + c0 + c;
      const double inverse = static_cast<double>(column[2 * channels]),
                   scale = static_cast<double>(column[3 * channels]);
      T* slope = static_cast<T*>(a.terms) + c0 + c;
      slope[0] = a.given ? T(0) : static_cast<T>(-scale * products[c] * inverse * inverse / count);
      slope[channels] = a.given ? T(0) : static_cast<T>(-scale * sums[c] / count);
      if (a.dgamma) {
        T& dgamma = static_cast<T*>(a.dgamma)[c0 + c];
        dgamma = static_cast<T>(products[c] * inverse) + (a.add_dgamma ? dgamma : T(0));
      }
      if (a.dbeta) {
        T& dbeta = static_cast<T*>(a.dbeta)[c0 + c];
        dbeta = static_cast<T>(sums[c]) + (a.add_dbeta ? dbeta : T(0));
      }
    }
  }
}

template <class T, bool relu>
void input_gradient(const BatchNormBackwardArgs& a, int64_t begin, int64_t end) {
  const int64_t n = a.channels * a.fold;
  const Repeated<T, 5> of(static_cast<const T*>(a.statistics), 0, a.channels, a.fold);
  const Repeated<T, 2> terms(static_cast<const T*>(a.terms), 0, a.channels, a.fold);
  const T *mean = of[0], *scale = of[3], *offset = of[4], *slope = terms[0], *height = terms[1];
  const bool around = streamed<T>(a.dx, n, a.around);
  for (int64_t chunk = end - 1; chunk >= begin; --chunk) {
    const int64_t last = last_row(chunk, a.block, a.rows);
    for (int64_t row = chunk * a.block; row < last; ++row) {
      const T* dy = static_cast<const T*>(a.dy) + row * n;
      const T* x = static_cast<const T*>(a.x) + row * n;
      T* dx = static_cast<T*>(a.dx) + row * n;
      for_lanes<T>(0, n, [=](int64_t c, int64_t k) __attribute__((always_inline)) {
        const Vec<T> xs = load_lanes(x + c, k), s = load_lanes(scale + c, k);
        Vec<T> g = load_lanes(dy + c, k);
        if (relu) g = fma(xs, s, load_lanes(offset + c, k)) > T(0) ? g : Vec<T>{};
        const Vec<T> share = fma(xs - load_lanes(mean + c, k), load_lanes(slope + c, k), load_lanes(height + c, k));
        const Vec<T> v = fma(g, s, share);
        around ? stream(dx + c, v) : store_lanes(dx + c, v, k);
      });
    }
  }
  if (around) stream_end();
}
template <class T>
void batch_norm_backward(const BatchNormBackwardArgs& a, int64_t begin, int64_t end) {
  a.relu ? input_gradient<T, true>(a, begin, end) : input_gradient<T, false>(a, begin, end);
}

// moving = moving * momentum + value * (1 - momentum)
template <class T>
void moving_average(const MovingAverageArgs& a, int64_t begin, int64_t end) {
  const Range e = elements(begin, end, a.n);
  const T keep = static_cast<T>(a.momentum), take = static_cast<T>(1 - a.momentum);
  T* moving = static_cast<T*>(a.moving);
  const T* value = static_cast<const T*>(a.value);
  for_lanes<T>(e.begin, e.end, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
    store_lanes(moving + i, load_lanes(moving + i, k) * keep + load_lanes(value + i, k) * take, k);
  });
}

}  // namespace

void fill_norm(KernelTable& table) {
  table.batch_moments = typed(BatchMomentsArgs, batch_moments);
  table.batch_statistics = typed(BatchStatisticsArgs, batch_statistics);
  table.batch_norm = typed(BatchNormArgs, batch_norm);
  table.batch_norm_sums = typed(BatchNormSumsArgs, batch_norm_sums);
  table.batch_norm_gradients = typed(BatchNormGradientsArgs, batch_norm_gradients);
  table.batch_norm_backward = typed(BatchNormBackwardArgs, batch_norm_backward);
  table.moving_average = typed(MovingAverageArgs, moving_average);
}

}  // namespace ranvier::RANVIER_TIER
