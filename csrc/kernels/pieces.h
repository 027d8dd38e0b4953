// Functions in 16 pieces, tanh, erf and gelu in float: a table for each. Each piece is a polynomial around a centre c,
// f(z) = row[1] + row[2] d + row[3] d^2 + ... with d = z - c and c = row[0], of which a permutation of registers picks
// each lane's coefficients. Neither a division nor an exponential, and half the instructions.
//
// Fits by least squares, reweighted towards the least largest relative error, in 40 digits; each coefficient rounded,
// and the others fitted again. Centres are such that f(c) is a float nearly exactly.
#pragma once

#include "kernels/vec.h"

namespace ranvier::RANVIER_TIER {
namespace {

// `first`: the index of the first row, of which the lowest four bits count; the others follow.
template <int width>
struct Pieces {
  int first;
  float row[16][width];
};

// --- tables ----------------------------------------------------------------------------------------------------------

// tanh z by z + 0.625, in four pieces an octave
constexpr Pieces<7> kTanhPieces = {
    9,
    {
        {0, 0, 1.0f, 3.1182984e-07f, -0.3333556f, 0.0004722094f, 0.12998892f},
        {0.18825255f, 0.1860598f, 0.96538174f, -0.17961851f, -0.2883711f, 0.113252416f, 0.09627144f},
        {0.31495017f, 0.30493373f, 0.90701544f, -0.27657938f, -0.21801755f, 0.1583601f, 0.04797126f},
        {0.49253398f, 0.4562253f, 0.79185843f, -0.36126068f, -0.09911832f, 0.16455369f, -0.025823964f},
        {0.7574281f, 0.63955957f, 0.5909636f, -0.37795636f, 0.04472508f, 0.097368486f, -0.06308771f},
        {1.0057205f, 0.7639862f, 0.4163251f, -0.3180685f, 0.10423631f, 0.026793644f, -0.046437956f},
        {1.2443346f, 0.8466873f, 0.2831206f, -0.23971619f, 0.10858374f, -0.01170832f, -0.019347783f},
        {1.6286322f, 0.92586654f, 0.14277096f, -0.13219391f, 0.07481648f, -0.024835236f, 0.0010985008f},
        {2.1106844f, 0.9710676f, 0.057027668f, -0.055376932f, 0.034770142f, -0.01534486f, 0.004453093f},
        {2.6223822f, 0.98950523f, 0.020879395f, -0.02065922f, 0.013483822f, -0.006510654f, 0.0023590503f},
        {3.1194477f, 0.9961036f, 0.0077776453f, -0.0077468264f, 0.0051248744f, -0.0025487274f, 0.00097599474f},
        {3.859996f, 0.99911267f, 0.0017738668f, -0.0017702272f, 0.0011796243f, -0.00061452715f, 0.0002367107f},
        {4.8847923f, 0.9998857f, 0.00022864265f, -0.00022832371f, 0.00015202304f, -7.9739664e-05f, 3.2476913e-05f},
        {5.8469396f, 0.9999833f, 3.3377153e-05f, -3.3339773e-05f, 2.2280385e-05f, -1.1631266e-05f, 4.402757e-06f},
        {6.886659f, 0.9999979f, 4.172597e-06f, -4.167712e-06f, 2.774917e-06f, -1.4548516e-06f, 5.957657e-07f},
        {8.317738f, 0.9999999f, 2.3833181e-07f, -2.3370754e-07f, 1.5916139e-07f, -9.481263e-08f, 3.3969396e-08f},
    }};
// erf z, less d, by z + 1.5 in eight pieces an octave
constexpr Pieces<7> kErfPieces = {
    12,
    {
        {0, 0, 0.12837917f, 3.0461365e-07f, -0.37614232f, 0.00029016958f, 0.110967726f},
        {0.18416172f, 0.2054787f, 0.09075127f, -0.20087452f, -0.33891937f, 0.09801855f, 0.09383056f},
        {0.31734276f, 0.34641716f, 0.02027869f, -0.32377777f, -0.27160004f, 0.15078202f, 0.063896954f},
        {0.43684554f, 0.46328813f, -0.06765447f, -0.40729073f, -0.19216524f, 0.17747615f, 0.026370574f},
        {0.63335997f, 0.62959033f, -0.24449016f, -0.47850576f, -0.049830783f, 0.17444135f, -0.026610197f},
        {0.97837126f, 0.83352697f, -0.56674474f, -0.42388266f, 0.13214551f, 0.077580184f, -0.06686488f},
        {1.240772f, 0.9206922f, -0.75797963f, -0.30030438f, 0.16742635f, -0.0068284743f, -0.06076288f},
        {1.4952588f, 0.96553725f, -0.87936914f, -0.18040065f, 0.13909891f, -0.04834103f, -0.03053953f},
        {1.7429941f, 0.98629737f, -0.9459177f, -0.09427742f, 0.091247685f, -0.050589256f, -0.002063759f},
        {1.9913919f, 0.99514127f, -0.97861063f, -0.042597976f, 0.049351633f, -0.035548363f, 0.011364703f},
        {2.2357788f, 0.9984324f, -0.9923872f, -0.017019767f, 0.022850543f, -0.019608445f, 0.0122476695f},
        {2.479064f, 0.999545f, -0.9975824f, -0.005992827f, 0.009121904f, -0.008969998f, 0.008127435f},
        {2.9763398f, 0.99997437f, -0.9998394f, -0.00046257282f, 0.0010826711f, -0.0002937795f, 0.0027613963f},
        {3.4942393f, 0.9999992f, -0.9999942f, -1.4937468e-05f, 8.6384425e-05f, 8.919941e-05f, 0.00032892745f},
        {3.994972f, 1.0f, -0.99999994f, -8.969874e-06f, -6.54903e-05f, -0.00018033144f, -0.00014744987f},
        {4.494972f, 1.0f, -1.0f, -1.293786e-07f, -8.72503e-07f, -2.3193534e-06f, -1.6790318e-06f},
    }};
// z Phi(-z) by z / 0.37 rounded; from 5.365 on, 0
constexpr Pieces<9> kGeluPieces = {
    0,
    {
        {0, 0, 0.5f, -0.3989423f, 8.675531e-07f, 0.06646861f, 0.0002419154f, -0.011232219f, 0.00270482f},
        {0.3629921f, 0.13006203f, 0.22272553f, -0.3488992f, 0.087407604f, 0.04816704f, -0.018631915f, -0.005965454f,
         0.0014341788f},
        {0.7544563f, 0.16996968f, -0.0011470692f, -0.21471213f, 0.12947522f, 0.0042473744f, -0.02276255f, 0.0024701967f,
         0.0027630134f},
        {1.2111359f, 0.13676348f, -0.11912775f, -0.051074836f, 0.09796974f, -0.03286023f, -0.007780693f, 0.0067868773f,
         0.00014951314f},
        {1.5821583f, 0.08987722f, -0.12374084f, 0.028712688f, 0.045039184f, -0.03450509f, 0.004957396f, 0.0042538266f,
         -0.0010862445f},
        {1.9291472f, 0.051809743f, -0.09285588f, 0.053416744f, 0.0055551007f, -0.021201238f, 0.009034739f,
         -9.963887e-05f, -0.0018495809f},
        {2.3261597f, 0.023273265f, -0.052019265f, 0.045475382f, -0.014586586f, -0.0051092105f, 0.006344099f,
         -0.001857717f, -0.00023682015f},
        {2.6787763f, 0.009896973f, -0.025860494f, 0.02855267f, -0.015643626f, 0.0024195046f, 0.0023204896f,
         -0.0016831255f, 0.00019940348f},
        {3.0626493f, 0.0033595278f, -0.010128552f, 0.013524579f, -0.010065172f, 0.004019901f, -0.00026313504f,
         -0.0006212236f, 0.00036130898f},
        {3.426712f, 0.0010467519f, -0.0035490277f, 0.0054792864f, -0.0049738227f, 0.0027972567f, -0.0008577284f,
         1.969682e-06f, 0.00019029729f},
        {3.7970884f, 0.0002779575f, -0.001047674f, 0.0018328404f, -0.0019461901f, 0.0013646308f, -0.0006285928f,
         0.00016181143f, 2.6144075e-05f},
        {4.1648874f, 6.486942e-05f, -0.0002687496f, 0.0005238235f, -0.0006324458f, 0.0005218727f, -0.00030354678f,
         0.00012059804f, -2.5195633e-05f},
        {4.5365515f, 1.2970349e-05f, -5.8613397e-05f, 0.00012588601f, -0.00016987215f, 0.0001600633f, -0.000110201516f,
         5.556797e-05f, -2.2493305e-05f},
        {4.9015846f, 2.329887e-06f, -1.1386959e-05f, 2.66519e-05f, -3.959131e-05f, 4.1656425e-05f, -3.2709588e-05f,
         1.9242527e-05f, -1.1069865e-05f},
        {5.265492f, 3.680959e-07f, -1.9338895e-06f, 4.8949255e-06f, -7.923511e-06f, 9.177155e-06f, -8.034613e-06f,
         5.3780755e-06f, -3.8071696e-06f},
        {0, 0, 0, 0, 0, 0, 0, 0, 0},
    }};

// --- a piece for each lane -------------------------------------------------------------------------------------------

#if defined(__AVX512F__) || defined(__AVX2__)
// The columns of the pieces' table: an index picks of each by a permutation.
template <int width>
struct Table {
  alignas(64) float column[width][16];
};
template <int width>
constexpr Table<width> table_of(const Pieces<width>& pieces) {
  Table<width> y = {};
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < width; ++k) y.column[k][(pieces.first + i) & 15] = pieces.row[i][k];
  }
  return y;
}

template <int width>
RANVIER_INLINE Vec<float> coefficient(const Table<width>& table, int k, IVec<float> index) {
  const float* column = table.column[k];
#if defined(__AVX512F__)
  return (Vec<float>)_mm512_maskz_permutexvar_ps(0xFFFF, (__m512i)index, _mm512_load_ps(column));
#else
  const __m256 low = _mm256_permutevar8x32_ps(_mm256_load_ps(column), (__m256i)index);
  const __m256 high = _mm256_permutevar8x32_ps(_mm256_load_ps(column + 8), (__m256i)index);
  return (Vec<float>)_mm256_blendv_ps(low, high, (__m256)(index << 28));
#endif
}
template <int width>
RANVIER_INLINE void coefficients(Vec<float> (&c)[width], const Table<width>& table, IVec<float> index) {
#pragma GCC unroll 16
  for (int k = 0; k < width; ++k) c[k] = coefficient(table, k, index);
}
#else
// The rows of the pieces' table: each lane reads its own, and four at a time are turned into columns.
template <int width>
struct Table {
  alignas(16) float row[16][(width + 3) / 4 * 4];
};
template <int width>
constexpr Table<width> table_of(const Pieces<width>& pieces) {
  Table<width> y = {};
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < width; ++k) y.row[(pieces.first + i) & 15][k] = pieces.row[i][k];
  }
  return y;
}

template <int width>
RANVIER_INLINE void coefficients(Vec<float> (&c)[width], const Table<width>& table, IVec<float> index) {
  index &= 15;
#pragma GCC unroll 4
  for (int k = 0; k < width; k += 4) {
    Vec<float> square[4];
#pragma GCC unroll 4
    for (int l = 0; l < 4; ++l) square[l] = load(table.row[index[l]] + k);
    transpose_square<float>(square);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      if (k + j < width) c[k + j] = square[j];
    }
  }
}
#endif

// f(z) = value + slope * d, by the piece whose index stands in the lowest four bits.
struct Piece {
  Vec<float> value, slope, d;
};
template <int width>
RANVIER_INLINE Piece piece_at(const Table<width>& table, IVec<float> index, Vec<float> z) {
  Vec<float> c[width];
  coefficients(c, table, index);
  const Vec<float> d = z - c[0];
  Vec<float> slope = c[width - 1];
#pragma GCC unroll 16
  for (int k = width - 2; k > 1; --k) slope = fma(slope, d, c[k]);
  return {c[1], slope, d};
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
