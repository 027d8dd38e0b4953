// A tile of the matrix product, kRows rows by two vectors of columns: the inner loops of gemm.h and of convolutions.
//
// A tile's sums live in registers while p runs over k: each step loads two vectors of B's row p and multiplies them by
// kRows broadcast elements of A. Two vectors and kRows broadcasts feed 2 * kRows multiply-adds, so the loads are half
// of what the ports can do, and B may come from the second-level cache: 128 bytes in 14 cycles on AVX-512.
#pragma once

#include "kernels/activate.h"

namespace ranvier::RANVIER_TIER {
namespace {

// 2 * kRows sums, two vectors of B and a broadcast must fit the registers (32 on AVX-512 and AArch64, 16 elsewhere),
// and 2 * kRows chains must cover the latency of the multiply-add (4 cycles on 2 ports).
#if defined(__AVX512F__)
constexpr int kRows = 14;
#elif defined(__aarch64__)
constexpr int kRows = 12;
#else
constexpr int kRows = 6;
#endif

template <class T>
constexpr int64_t kPanel = 2 * kLanes<T>;  // columns of a tile
// Rows of A this many bytes apart, or a multiple, fall into one set of the first level, which holds 12 lines: 11 rows
// at a time leave B room (64x1024x1024: 2.5 %).
constexpr int64_t kSameSet = 4096, kRoomy = 11;
template <class T>
RANVIER_INLINE bool same_set(int64_t step) {
  return kRows > kRoomy && step * static_cast<int64_t>(sizeof(T)) % kSameSet == 0;
}
// On the baseline tier a broadcast of floats costs as much as a multiplication, and a product overwrites a factor:
// there the copy holds each element of A once for each lane, and each product loads its own.
template <class T>
constexpr int64_t kRepeat = kFused ? 1 : kLanes<T>;
// Few rows of A make few chains of sums: more vectors keep the ports busy, and read more of each row of B, the whole of
// it at best (1x256x256: 2.0 us of 16 vectors, 2.8 of 8). Up to how many rows a tile's sums fit the registers:
constexpr int kMostVectors = kRows > 6 ? 16 : 8;
constexpr int most_rows(int vectors) {
  if (vectors > 8) return 1;
  if (vectors > 6) return kRows > 6 ? 3 : 1;
  if (vectors > 4) return kRows > 6 ? 3 : 2;
  if (vectors > 3) return kRows > 6 ? 6 : 3;
  if (vectors > 2) return kRows > 6 ? 8 : 4;
  return kRows;
}
// How far copies of what lies scattered in memory ask ahead, in rows: its latency is some hundred cycles. They ask for
// the last element of a vector: one that crosses a line begins in the line that the vector before it has asked for.
constexpr int64_t kAhead = 32;
// The same of the next panel, whose rows have four steps each or more. (Fewer fall into one set of the first level.)
constexpr int64_t kNextAhead = 8, kNextSteps = 4;
// One row does little with what it reads of B, and waits for it, a piece of another page each time (1x2048x2048: 1.4
// times as fast, 1x1000x1000 1.1; two rows no difference). Of a B that is near it takes 10 % longer.
constexpr int64_t kRowAhead = 4;

// Where the products of a tile are, if they are not one run: `outer` times `inner` runs of `depth`, these steps apart.
struct Runs {
  int64_t outer, inner, a_outer, a_inner, b_outer, b_inner;
};

// Where a tile reads and writes.
template <class T>
struct Tile {
  T* c;
  const T* a;
  const T* b;
  const T* bias;                   // null: none, or not now
  int64_t c_row, a_row, a_column;  // strides
  int64_t b_row, depth, lanes;     // lanes of the last vector
  bool go_on;                      // from what C holds
  bool relu;
  bool around = false;                                  // C goes around the caches
  T* kept = nullptr;                                    // where a copy of B's panel, or of `next`, goes, row after row
  const T* next = nullptr;                              // rows of the next panel of B, as far apart as those of B
  int64_t next_row = 0, next_rows = 0, next_steps = 0;  // their stride, their number, steps of p for each
  const T* a_next = nullptr;  // the next tile's A: the first of each row is asked for; null: unknown
  const T* c_next = nullptr;  // the next tile's C, to be in the cache by then; null: unknown
  const T* ahead = nullptr;   // what to ask for meanwhile: ahead_step elements further at each p; null: nothing
  int64_t ahead_step = 0;
  bool from_afar = false;  // B, for one row: its rows are asked for in time
  Runs runs = {};          // of a tile of many
};

// What a tile copies while it multiplies: nothing, the panel of B that it reads, or rows of the next one.
enum class Copies { nothing, panel, next };

// `padded`: B's rows may be read beyond `lanes`. `repeated`: A holds each element kRepeat times. Not inlined, lest its
// loop share registers with what is around it (3 % of 64x1024x1024).
template <class T, int rows, int vectors, Copies copies = Copies::nothing, bool many = false, bool repeated = false>
__attribute__((noinline)) void tile(const Tile<T>& t, bool padded) {
  constexpr int kL = kLanes<T>;
  const int64_t a_row = repeated ? kRepeat<T> : t.a_row, a_column = repeated ? kRows * kRepeat<T> : t.a_column;
  const int64_t b_row = t.b_row, lanes = t.lanes;
  if (t.c_next) {  // into the second level: by then the first would have lost it again
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) __builtin_prefetch(t.c_next + i * t.c_row + v * kL + kL - 1, 0, 2);
    }
  }
  if (t.a_next) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) __builtin_prefetch(t.a_next + i * a_row);
  }
  Vec<T> sum[rows][vectors];
  if (t.go_on) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) {
        const T* c = t.c + i * t.c_row + v * kL;
        sum[i][v] = v + 1 < vectors ? load(c) : load_lanes(c, lanes);
      }
    }
  } else {
    Vec<T> start[vectors] = {};
    if (t.bias) {
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) {
        start[v] = v + 1 < vectors ? load(t.bias + v * kL) : load_lanes(t.bias + v * kL, lanes);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) sum[i][v] = start[v];
    }
  }

  const T* ahead = t.ahead ? t.ahead : t.b;
  const int64_t ahead_step = t.ahead_step;
  const bool from_afar = vectors == kMostVectors && t.from_afar;
  T* kept = t.kept;
  const T* next = t.next;
  const int64_t next_row = t.next_row, next_steps = t.next_steps, next_end = t.next_rows * next_steps;
  int64_t next_p = next_end > 0 ? 0 : -1;  // when the next row's turn is
  const auto run = [&](const T* a, const T* b, auto last) __attribute__((always_inline)) {
    // Without AVX a product overwrites a factor. Copies of registers take their turn on the ports that multiply and
    // loads come 2 a cycle, so some rows share theirs and the others' products load their own: 12 loads in the 6 cycles
    // of 12 products and 12 sums (measured on Zen 5: 7 % faster than if none shared; which rows do matters as well).
    const T* again = repeated ? elsewhere(a) : a;
    // Four rows of A have addresses of one register and two strides. Left alone, the compiler has a stride for each
    // row, and puts those beyond its registers into vectors': to get them back it waits for the products before.
    constexpr int kFours = (rows + 3) / 4;
    const T* four[kFours];
#pragma GCC unroll 4
    for (int j = 0; j < kFours; ++j) four[j] = repeated ? a : elsewhere(a + 4 * j * a_row);
    const auto step = [&](int64_t p) __attribute__((always_inline)) {
      if constexpr (copies == Copies::next) {
        if (p == next_p) {
#pragma GCC unroll 16
          for (int v = 0; v < vectors; ++v) {
            __builtin_prefetch(next + kNextAhead * next_row + v * kL + kL - 1);
            store(kept + v * kL, load(next + v * kL));
          }
          next += next_row;
          kept += vectors * kL;
          next_p += next_steps;
          if (next_p == next_end) next_p = -1;
        }
      }
      __builtin_prefetch(ahead, 0, 2);
      const auto b_of = [&](int v) __attribute__((always_inline)) {
        const Vec<T> bv = v + 1 < vectors ? load(b + v * kL) : last(b + v * kL);
        if constexpr (copies == Copies::panel) {
          __builtin_prefetch(b + kAhead * b_row + v * kL + kL - 1);
          store(kept + p * vectors * kL + v * kL, bv);
        }
        return bv;
      };
      if constexpr (rows <= 3 && kFused) {  // B's vectors one by one, which the compiler would read for each product
        Vec<T> av[rows];
#pragma GCC unroll 4
        for (int i = 0; i < rows; ++i) av[i] = splat<T>(four[0][i * a_row]);
        if (from_afar) {
#pragma GCC unroll 16
          for (int v = 0; v < vectors; ++v) __builtin_prefetch(b + kRowAhead * b_row + v * kL + kL - 1);
        }
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) {
          const Vec<T> bv = rows > 1 ? in_register(b_of(v)) : b_of(v);
#pragma GCC unroll 4
          for (int i = 0; i < rows; ++i) sum[i][v] = fma(av[i], bv, sum[i][v]);
        }
      } else {
        Vec<T> bv[vectors];
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) bv[v] = b_of(v);
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
          if constexpr (repeated) {
            Vec<T> av[vectors];
#pragma GCC unroll 16
            for (int v = 0; v < vectors; ++v) {
              const bool share = i == 1 || i == 2;
              const T* from = (v > 0 ? again : a) + i * a_row;
              av[v] =
                  share && v > 0 ? av[0] : load(static_cast<const T*>(__builtin_assume_aligned(from, sizeof(Vec<T>))));
              if (share) av[v] = in_register(av[v]);
            }
#pragma GCC unroll 16
            for (int v = 0; v < vectors; ++v) sum[i][v] = add_in_place(sum[i][v], av[v] * bv[v]);
          } else {
            const Vec<T> av = splat<T>(four[i / 4][i % 4 * a_row]);
#pragma GCC unroll 16
            for (int v = 0; v < vectors; ++v) sum[i][v] = fma(av, bv[v], sum[i][v]);
          }
        }
      }
#pragma GCC unroll 4
      for (int j = 0; j < kFours; ++j) four[j] += a_column;
      a += a_column;
      again += a_column;
      b += b_row;
      ahead += ahead_step;
    };
    int64_t p = 0;
    if constexpr (repeated) {
      for (; p + 2 <= t.depth; p += 2) {
        step(p);
        step(p + 1);
      }
    }
    for (; p < t.depth; ++p) step(p);
  };
  const auto steps = [&](auto last) __attribute__((always_inline)) {
    if constexpr (!many) return run(t.a, t.b, last);
    for (int64_t i = 0; i < t.runs.outer; ++i) {
      for (int64_t j = 0; j < t.runs.inner; ++j) {
        run(t.a + i * t.runs.a_outer + j * t.runs.a_inner, t.b + i * t.runs.b_outer + j * t.runs.b_inner, last);
      }
    }
  };
  if (copies == Copies::next || padded || lanes == kL) {
    steps([](const T* p) __attribute__((always_inline)) { return load(p); });
  } else {
    steps([=](const T* p) __attribute__((always_inline)) { return load_n(p, lanes); });
  }

  T* const c = t.c;
  const int64_t c_row = t.c_row;  // which no store changes
  const bool relu = t.relu;
  const auto put = [&](auto whole) __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) {
        const Vec<T> y = relu ? apply<T, Activation::relu>(sum[i][v], T(0)) : sum[i][v];
        T* to = c + i * c_row + v * kL;
        if (v + 1 < vectors || lanes == kL) {
          whole(to, y);
        } else {
          store_n(to, y, lanes);
        }
      }
    }
  };
  if (t.around) {
    put([](T* to, Vec<T> y) __attribute__((always_inline)) { stream(to, y); });
  } else {
    put([](T* to, Vec<T> y) __attribute__((always_inline)) { store(to, y); });
  }
}

// The tile of `rows` rows and `vectors` vectors, found at run time.
template <class T, int vectors, int rows, Copies copies = Copies::nothing, bool many = false, bool repeated = false>
RANVIER_INLINE void tile_of_rows(int64_t wanted, const Tile<T>& t, bool padded) {
  if constexpr (rows > 1) {
    if (wanted < rows) return tile_of_rows<T, vectors, rows - 1, copies, many, repeated>(wanted, t, padded);
  }
  tile<T, rows, vectors, copies, many, repeated>(t, padded);
}
template <class T, int vectors>
RANVIER_INLINE void tile_of_few_rows(int64_t rows, int64_t wanted, const Tile<T>& t, bool padded) {
  if constexpr (vectors > 3) {
    if (wanted < vectors) return tile_of_few_rows<T, vectors - 1>(rows, wanted, t, padded);
  }
  tile_of_rows<T, vectors, most_rows(vectors)>(rows, t, padded);
}
template <class T, bool repeated = false>
void tile_at(int64_t rows, int64_t vectors, const Tile<T>& t, bool padded) {
  if (vectors == 2) return tile_of_rows<T, 2, kRows, Copies::nothing, false, repeated>(rows, t, padded);
  if (vectors == 1) return tile_of_rows<T, 1, kRows, Copies::nothing, false, repeated>(rows, t, padded);
  tile_of_few_rows<T, kMostVectors>(rows, vectors, t, padded);
}
// As above, and keeps a copy of B's panel, or of rows of the next.
template <class T, Copies copies, bool repeated>
void tile_that_copies(int64_t rows, const Tile<T>& t, bool padded) {
  tile_of_rows<T, 2, kRows, copies, false, repeated>(rows, t, padded);
}
// A tile of many runs, of one or two vectors.
template <class T>
void tile_of_runs(int64_t rows, int64_t vectors, const Tile<T>& t, bool padded) {
  if (vectors == 2) return tile_of_rows<T, 2, kRows, Copies::nothing, true>(rows, t, padded);
  tile_of_rows<T, 1, kRows, Copies::nothing, true>(rows, t, padded);
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
