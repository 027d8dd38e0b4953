// The contract of the kernels: one plain args struct and one table entry a kernel.
//
// A kernel does arithmetic on raw pointers. It does not throw, allocate or keep state, and knows neither Python nor
// threads: it is given a range of its chunks, and whoever calls it decides who does which. Chunks depend on shapes
// only and write disjoint outputs, so any split gives the same bits. "T" below is float or double: the table holds
// both. All arrays are C-contiguous; shapes stand behind the pointers, outputs first.
#pragma once

#include <stdint.h>

namespace ranvier {

enum class DType : uint8_t { f32, f64, i32, i64, u8, i8, u16, i16, u32, u64 };

static inline constexpr int64_t bytes_of(DType dtype) {  // of one element
  switch (dtype) {
    case DType::u8:
    case DType::i8:
      return 1;
    case DType::u16:
    case DType::i16:
      return 2;
    case DType::f32:
    case DType::i32:
    case DType::u32:
      return 4;
    default:
      return 8;
  }
}

using Kernel = void (*)(const void* args, int64_t begin, int64_t end);

// One kernel, compiled for float and for double.
struct TypedKernel {
  Kernel f32, f64;
  Kernel operator[](DType dtype) const { return dtype == DType::f32 ? f32 : f64; }
};

constexpr int64_t kElements = 4096;  // elements in one chunk of an elementwise kernel
constexpr int64_t kColumns = 64;     // columns in one chunk of a kernel that walks columns
static inline constexpr int64_t chunks_of(int64_t n, int64_t size) {
  return (n + size - 1) / size;
}

// --- optimizers ------------------------------------------------------------------------------------------------------

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

// --- where a user's data are -----------------------------------------------------------------------------------------

// A user's array, whose place changes from run to run: row r begins at data + r * row_bytes, its columns contiguous.
struct Source {
  char* data;
  int64_t row_bytes;
};
// Where a run is: the next batch is rows order[cursor], order[cursor + 1], ... (null: cursor, cursor + 1, ...).
struct Feed {
  const int64_t* order;
  int64_t cursor;
};

// --- dense -----------------------------------------------------------------------------------------------------------

enum class Activation : int {
  linear,
  relu,
  leaky_relu,
  sigmoid,
  tanh,
  elu,
  selu,
  softplus,
  exponential,
  hard_sigmoid,
  cap,  // derivative from y
  gelu,
  gelu_tanh,
  silu,     // derivative from x
  softmax,  // by rows, kernels of its own
};
constexpr int kActivations = static_cast<int>(Activation::softmax) + 1;

// c = activation(a @ b + bias), or c += a @ b. Chunks: matmul_chunks(args).
struct MatmulArgs {
  void* c;           // T (m, n)
  const void* a;     // T (m, k), element (i, p) at a[i * a_row + p * a_column]: either operand of a gradient
  const void* b;     // T (k, n), or in the panels that pack made
  const void* bias;  // T (n) or null
  int64_t m, n, k, a_row, a_column;
  Activation activation;  // any but softmax
  double alpha;
  bool accumulate;           // add to c; then no bias
  bool packed;               // b is in panels
  const UpdateArgs* update;  // c is a variable's gradient, and this its optimizer's step, taken tile by tile; or null

  bool transposed = false;  // b is (n, k), and not packed
  // The sum of b's rows, from the same pass: where c is a kernel's gradient, its bias's.
  void* row_sum = nullptr;   // T (n) or null
  bool add_row_sum = false;  // to what is there
  // c times f' of this activation's output: where c is the gradient of what a layer below made, that layer's dz. Null:
  // c.
  const void* through = nullptr;                       // T (m, n), its output
  Activation through_activation = Activation::linear;  // one whose derivative follows from its output
  double through_alpha = 0;
  // So many products, whose operands lie so many elements apart.
  int64_t batches = 1, c_batch = 0, a_batch = 0, b_batch = 0;
  // Where a is a batch that lies in the user's array still: its rows, from the feed's place on. Null: a and a_row.
  const Source* source = nullptr;
  const Feed* feed = nullptr;  // without an order
};

// The second operand of a product in panels. Chunks: packed_size / (k * columns of a panel): chunks_of(n, panel).
struct PackArgs {
  void* packed;   // T (packed_size(n, k))
  const void* b;  // T (k, n), or (n, k) if transposed
  int64_t n, k;
  bool transposed;
};

// y = sum of the rows of x, or y += it. Chunks: kColumns columns.
struct ColumnSumArgs {
  void* y;        // T (columns)
  const void* x;  // T (rows, columns)
  int64_t rows, columns;
  bool accumulate;
};

// All gradients of a small dense layer in one call: dz = dy f'(y) (f's derivative from y), then dw, db and dx. One
// chunk.
struct DenseBackwardArgs {
  void* dx;        // T (m, k) or null
  void* dw;        // T (k, n) or null
  void* db;        // T (n) or null
  void* dz;        // T (m, n), for the kernel's own use
  const void* dy;  // T (m, n)
  const void* x;   // T (m, k)
  const void* y;   // T (m, n)
  const void* w;   // T (k, n)
  int64_t m, n, k;
  Activation activation;  // any but softmax, the gelus and silu
  double alpha;
  bool add_dw, add_db;  // to what is there
};

// --- activation ------------------------------------------------------------------------------------------------------

// y = f(x); backward: dx = dy * f'(x), from y where that is enough. Chunks: kElements.
struct ActivationArgs {
  void* y;             // T (n); backward: dx
  const void* x;       // T (n); backward: read for gelu, gelu_tanh and silu only
  const void* dy;      // backward: T (n)
  const void* output;  // backward: T (n), the forward's y
  int64_t n;
  Activation activation;
  double alpha;
};

enum class Function : int { expm1, log, log1p, erf, sin, cos };

// y = f(x). Chunks: kElements.
struct FunctionArgs {
  void* y;        // T (n)
  const void* x;  // T (n)
  int64_t n;
  Function function;
};

// y = softmax of each row; backward: dx = y * (dy - sum(dy * y)). Chunks: one row.
struct SoftmaxArgs {
  void* y;         // T (rows, columns); backward: dx
  const void* x;   // T (rows, columns); backward: the forward's y
  const void* dy;  // backward: T (rows, columns)
  int64_t rows, columns;
};

// --- losses ----------------------------------------------------------------------------------------------------------

// The loss of each row and, if wanted, the gradient of the mean over the rows, in one visit. Chunks: one row.
struct LossArgs {
  void* loss;          // T (rows)
  void* gradient;      // T (rows, columns) or null
  const void* y_true;  // T (rows, columns); int32 (rows) for sparse cross-entropy
  const void* y_pred;  // T (rows, columns)
  int64_t rows, columns;
};

// value = mean of x, in one fixed order. One chunk.
struct MeanArgs {
  void* value;    // T (1)
  const void* x;  // T (n)
  int64_t n;
};

// What an epoch adds up, whatever the number of threads.
struct Sums {
  double total, count;
  double steps, first_bad;  // batches added so far, and the first whose value was not finite (-1: none)
};

// sums += (value * weight, weight). One chunk.
struct AccumulateArgs {
  Sums* sums;
  const void* value;  // T (1)
  double weight;
};

// value = l1 * sum|x| + l2 * sum x^2, times scale; dx (+)= its derivative. One chunk for the sum, so one chunk.
struct PenaltyArgs {
  void* value;    // T (1)
  void* dx;       // T (n) or null
  const void* x;  // T (n)
  int64_t n;
  double l1, l2, scale;
  bool accumulate;  // dx += rather than dx =
};

// --- metrics ---------------------------------------------------------------------------------------------------------

// sums += (matches, rows). One chunk.
struct AccuracyArgs {
  Sums* sums;
  const void* y_true;  // binary: T (rows, columns); categorical: T (rows, columns); sparse: int32 (rows)
  const void* y_pred;  // T (rows, columns)
  int64_t rows, columns;
  double threshold;  // binary
};

// --- data ------------------------------------------------------------------------------------------------------------

// y[i] = the feed's i-th row of x, converted. Chunks: one row.
struct GatherArgs {
  void* y;          // y_dtype (rows, columns)
  const Source* x;  // x_dtype
  const Feed* feed;
  int64_t rows, columns;
  DType x_dtype, y_dtype;  // y: f32, f64 or i32
};

// The feed's i-th row of y = x[i]. Chunks: one row.
struct ScatterArgs {
  const Source* y;
  const void* x;  // row_bytes a row
  const Feed* feed;
  int64_t rows, row_bytes;
};

// cursor += step. One chunk.
struct AdvanceArgs {
  Feed* feed;
  int64_t step;
};

// y = x, converted. Chunks: kElements.
struct CastArgs {
  void* y;        // y_dtype (n): f32, f64 or i32
  const void* x;  // x_dtype (n)
  int64_t n;
  DType x_dtype, y_dtype;
};

// y = x * scale + offset is (x - mean) / deviation, or its inverse; deviation = max(sqrt(variance), 1e-7). One chunk.
struct NormalizationArgs {
  void* scale;           // T (columns)
  void* offset;          // T (columns)
  const void* mean;      // T (given): one for each column, or one for all
  const void* variance;  // T (given)
  int64_t columns, given;
  bool invert;
};

// y = x * scale + offset by columns, or with one scale and offset for all; null: 1 and 0. Chunks: kElements.
struct AffineArgs {
  void* y;             // T (n)
  const void* x;       // T (n)
  const void* scale;   // T (columns) or null
  const void* offset;  // T (columns) or null
  int64_t n, columns;
};

// y = a + b. Chunks: kElements.
struct AddArgs {
  void* y;        // T (n)
  const void* a;  // T (n)
  const void* b;  // T (n)
  int64_t n;
};

// --- dropout ---------------------------------------------------------------------------------------------------------

// A place in the random stream: draw copies it to `key`, which forward and backward read, and moves on.
struct RandomState {
  uint64_t seed, counter;
};

struct DrawArgs {
  RandomState* key;
  RandomState* state;
};

// y = x / (1 - rate) where kept, else 0; the mask depends on the key and the element's index. Chunks: kElements.
struct DropoutArgs {
  void* y;        // T (n)
  const void* x;  // T (n)
  const RandomState* key;
  int64_t n;
  double rate;
};

// --- merge -----------------------------------------------------------------------------------------------------------

enum class Merge : int { add, subtract, multiply, maximum, minimum };
enum class Operand : int { neither, first, second };
constexpr int kAxes = 8;

// y = a (rule) b, where an axis of a or b may be repeated: its step is 0. With an operand: y = dy where the maximum or
// minimum is that operand's, the first's if they are equal, and 0 elsewhere. Chunks: kElements.
struct MergeArgs {
  void* y;         // T (sizes..., columns)
  const void* a;   // T, steps a_steps and a_step
  const void* b;   // T, steps b_steps and b_step
  const void* dy;  // T, as y; null for neither
  int64_t n, columns;
  int64_t sizes[kAxes], a_steps[kAxes], b_steps[kAxes];  // of the axes before the columns
  int64_t a_step, b_step;                                // along the columns: 0 or 1
  int axes;
  Merge rule;
  Operand operand;
};

// y = x summed over some of its axes. The axes alternate: kept, summed, kept, ... Chunks: kept * chunks_of(columns,
// kColumns), and columns is 1 where the last axis is one of those summed.
struct SumOverArgs {
  void* y;                             // T (kept sizes..., columns)
  const void* x;                       // T
  int64_t kept, columns, summed, run;  // y's rows and columns; how many parts of `run` elements are added up for each
  int64_t kept_sizes[kAxes], kept_steps[kAxes], summed_sizes[kAxes], summed_steps[kAxes];
  int kept_axes, summed_axes;
};

// Row r of y, which begins at y + r * y_step, = row r of x. Chunks: chunks_of(rows, block).
struct CopyRowsArgs {
  char* y;
  const char* x;
  int64_t rows, bytes, y_step, x_step, block;
};

// --- convolution -----------------------------------------------------------------------------------------------------

// y[oh, ow] reads x[oh * stride - pad + kh * dilation, ...]; outside the image there are zeros. Channels fall into
// groups: the filters of a group see its channels only. With as many groups as channels it is the depthwise
// convolution; one-dimensional ones have height 1.
struct ConvGeometry {
  int64_t batch, height, width, channels;  // of x
  int64_t out_height, out_width, filters;  // of y
  int64_t kernel_height, kernel_width;
  int64_t stride_height, stride_width;
  int64_t dilation_height, dilation_width;
  int64_t pad_top, pad_left;  // what is missing at the other ends, out_height and out_width tell
  int64_t groups;
};

// How the kernels below cut a convolution, by its shapes alone.
struct ConvPlan {
  int64_t packed, pack_chunks;            // elements of w in panels, for conv
  int64_t packed_back, pack_back_chunks;  // and for conv_input_gradient; 0: it takes w as it is
  int64_t chunks, back_chunks;            // of conv and conv_input_gradient
  int64_t splits, gradient_chunks;        // of conv_kernel_gradient
};

// w in panels: for conv of filters, for conv_input_gradient of channels. Chunks: the plan's.
struct ConvPackArgs {
  void* packed;   // T, the plan's size
  const void* w;  // T (kernel_height, kernel_width, channels / groups, filters)
  ConvGeometry g;
  bool back;
};

// y = activation(x * w + bias). Chunks: the plan's.
struct ConvArgs {
  void* y;           // T (batch, out_height, out_width, filters)
  const void* x;     // T (batch, height, width, channels)
  const void* w;     // in panels
  const void* bias;  // T (filters) or null
  ConvGeometry g;
  Activation activation;  // any but softmax
  double alpha;
  // y times f' of this activation's output, as in MatmulArgs. Null: y.
  const void* through = nullptr;  // T, as y
  Activation through_activation = Activation::linear;
  double through_alpha = 0;
};

// dx: each dy goes back to what its y has read; with bias and activation it is the transposed convolution. Chunks: the
// plan's.
struct ConvInputGradientArgs {
  void* dx;          // T (batch, height, width, channels)
  const void* dy;    // T (batch, out_height, out_width, filters)
  const void* w;     // in panels, or as it is
  const void* bias;  // T (channels) or null
  ConvGeometry g;
  Activation activation;  // any but softmax
  double alpha;
  const void* through = nullptr;  // T, as dx: as in ConvArgs
  Activation through_activation = Activation::linear;
  double through_alpha = 0;
};

// dw = sum over all y of (what it read) dy, or dw += it; db from the same pass. The pixels are split into `splits`
// parts, and each has its own dw and db. Chunks: the plan's.
struct ConvKernelGradientArgs {
  void* dw;        // T (splits, kernel_height, kernel_width, channels / groups, filters)
  const void* x;   // T (batch, height, width, channels)
  const void* dy;  // T (batch, out_height, out_width, filters)
  ConvGeometry g;
  bool add_dw;
  void* db = nullptr;  // T (splits, filters): the sums of dy; or null
  bool add_db = false;
};

// The depthwise kernels have the same arguments, but neither `through` nor `db`. There w is not packed, and with M
// filters for each channel the last axis of w, bias, y and dy is in the order (M, channels).

// y[i] = sum of the i-th part of the rows of x. Chunks: parts.
struct PartSumsArgs {
  void* y;        // T (parts, columns)
  const void* x;  // T (rows, columns)
  int64_t rows, columns, parts;
};

// --- winograd --------------------------------------------------------------------------------------------------------

// Convolutions with kernels of 3x3 or 5x5, strides and dilations of 1 and one group, by tiles of up to 4x4 or of 2x2
// outputs. What the args need depends on the geometry:
struct WinogradPlan {
  int64_t points;                             // of all tiles: multiplications for a channel and a filter
  int64_t chunks, scratch;                    // of winograd; elements
  int64_t kernel_chunks, kernel;              // of winograd_kernel; elements of u
  int64_t gradient_chunks, gradient_scratch;  // of winograd_gradient; elements
  int64_t sum_chunks, parts;                  // of winograd_sum; elements
};

// u = G w G^T for each channel and filter. Chunks: the plan's.
struct WinogradKernelArgs {
  void* u;        // T (plan.kernel)
  const void* w;  // T (taps, taps, channels, filters), or (taps, taps, filters, channels) if turned
  int64_t taps, channels, filters;
  bool turned;  // w turned by 180 degrees and transposed: then y is the input's gradient
};

// y = activation(x * w + bias). Chunks: the plan's.
struct WinogradArgs {
  void* y;           // T (batch, out_height, out_width, filters)
  const void* x;     // T (batch, height, width, channels)
  const void* u;     // T (plan.kernel)
  const void* bias;  // T (filters) or null
  void* scratch;     // T (plan.scratch)
  ConvGeometry g;
  Activation activation;  // any but softmax
  double alpha;
  // y times f' of this activation's output, as in MatmulArgs. Null: y.
  const void* through = nullptr;  // T, as y
  Activation through_activation = Activation::linear;
  double through_alpha = 0;
};

// Sums over runs of tiles of the products that dw is made of. Chunks: the plan's.
struct WinogradGradientArgs {
  void* parts;     // T (plan.parts)
  const void* x;   // T (batch, height, width, channels)
  const void* dy;  // T (batch, out_height, out_width, filters)
  void* scratch;   // T (plan.gradient_scratch)
  ConvGeometry g;
  bool bias;  // the sums of dy as well
};

// dw = the kernel's gradient, or dw += it, and the bias's from the same parts. Chunks: the plan's.
struct WinogradSumArgs {
  void* dw;  // T (taps, taps, channels, filters)
  void* db;  // T (filters) or null
  const void* parts;
  ConvGeometry g;
  bool add_dw, add_db;  // to what is there
};

// --- transpose -------------------------------------------------------------------------------------------------------

constexpr int64_t kTurn = 32, kTurnColumns = 4096;  // rows and columns in one chunk of a transposition

// y = x with its axes in another order: element (i, j, ...) of y is x at i * steps[0] + j * steps[1] + ... x is
// contiguous along `turned`, which is not the last axis: where rows stay rows, an axis of size 1 follows. Chunks: for
// each of the other axes' elements chunks_of(sizes[turned], kTurn) * chunks_of(sizes[last], kTurnColumns).
struct TransposeArgs {
  char* y;
  const char* x;
  int64_t sizes[kAxes], steps[kAxes];  // y's axes, and their steps in x, in elements
  int axes, turned;                    // at least two axes
  int64_t bytes;                       // of an element
};

// --- yardstick -------------------------------------------------------------------------------------------------------

// y[chunk] = the mean of chains x = x * factor + offset, `steps` long, that start around `start`: peak_flops * steps
// flops a chunk. Chunks: one element of y.
struct PeakArgs {
  void* y;  // T (chunks)
  int64_t steps;
  double start, factor, offset;
};

// y = a + scale b, `passes` times. y may be a. Chunks: kElements.
struct TriadArgs {
  void* y;        // T (n)
  const void* a;  // T (n)
  const void* b;  // T (n)
  int64_t n, passes;
  double scale;
};

// --- augment ---------------------------------------------------------------------------------------------------------

enum class Fill : int { constant, nearest, reflect, wrap };

// Pixel (i, j) of y is x at (m[0] i + m[1] j + m[2], m[3] i + m[4] j + m[5]), m being its image's matrix, between the
// four pixels there or at the nearest one. Chunks: one row of an image of y; backward: one image.
struct ResampleArgs {
  void* y;               // T (images, out_height, out_width, channels); backward: dy, read
  const void* x;         // T (images, height, width, channels); backward: dx, written
  const double* matrix;  // (images, 6), or (6) with a step of 0
  int64_t images, height, width, channels, out_height, out_width, matrix_step;
  Fill fill;  // what is beyond the edges
  double value;
  bool bilinear;
};

enum class Move : int { flip, shift, rotate, zoom, crop };

// A matrix for each image, drawn from the key and the image's number. One chunk.
struct DrawMovesArgs {
  double* matrix;  // (images, 6)
  const RandomState* key;
  int64_t images, height, width, out_height, out_width;
  Move move;
  // flip: the shares of images turned over; shift, rotate, zoom: the bounds, by height and by width
  double low_height, high_height, low_width, high_width;
  bool together;  // zoom: one factor for both axes
};

// y[i] uniform in [low, high), drawn from the key and i. One chunk.
struct DrawUniformArgs {
  void* y;  // T (n)
  const RandomState* key;
  int64_t n;
  double low, high;
};

// --- pooling ---------------------------------------------------------------------------------------------------------

// y[oh, ow] reads the window of x that begins at [oh * stride - pad, ...]; what lies outside the image does not count.
// Along one axis that is pooled: height, with width 1.
struct PoolGeometry {
  int64_t batch, height, width, channels;  // of x
  int64_t out_height, out_width;           // of y
  int64_t pool_height, pool_width;
  int64_t stride_height, stride_width;
  int64_t pad_top, pad_left;
};

// y = the largest of each window, or its mean. `where`: the place of the largest in its window, kh * pool_width + kw.
// Chunks: one row of y.
struct PoolArgs {
  void* y;        // T (batch, out_height, out_width, channels)
  void* where;    // as y: uint8, int32 if wide; null if nobody asks; not for the mean
  const void* x;  // T (batch, height, width, channels)
  PoolGeometry g;
  bool wide;
};

// dx = the sum over all windows that a pixel is in: of dy where it was the largest, of dy / count for the mean. Where x
// is an activation's output, times f' there: dx is then what the layer below calls dz. Chunks: one row of dx.
struct PoolBackwardArgs {
  void* dx;           // T (batch, height, width, channels)
  const void* dy;     // T (batch, out_height, out_width, channels)
  const void* where;  // as dy; as in PoolArgs
  const void* kept;   // the activation's outputs: of the largest y, as dy; for the mean x, as dx; not read if linear
  PoolGeometry g;
  bool wide;
  bool around;            // no cache holds dx, whose pixels begin and end with cache lines
  Activation activation;  // one whose derivative follows from its output
  double alpha;
};

// --- batch normalization ---------------------------------------------------------------------------------------------

// x is seen as (rows, columns), columns = channels * fold: `fold` rows of few channels side by side are one row, so
// that vectors are full. Chunks: chunks_of(rows, block). Per chunk and column there are two numbers, `parts`.

// Mean, and sum of squared deviations from it, of the rows of each chunk.
struct BatchMomentsArgs {
  double* parts;  // (chunks, 2, columns)
  const void* x;  // T (rows, columns)
  int64_t rows, columns, block;
};

// Rows: mean, variance, inverse = 1 / sqrt(variance + epsilon), scale = gamma inverse, offset = beta - mean scale.
// Chunks: kColumns channels.
struct BatchStatisticsArgs {
  void* statistics;      // T (5, channels)
  const double* parts;   // (chunks, 2, columns); null: mean and variance are given
  const void* mean;      // T (channels)
  const void* variance;  // T (channels)
  const void* gamma;     // T (channels) or null
  const void* beta;      // T (channels) or null
  int64_t rows, channels, fold, block;
  double epsilon;
};

// y = x * scale + offset, or max(that, 0).
struct BatchNormArgs {
  void* y;                 // T (rows, columns)
  const void* x;           // T (rows, columns)
  const void* statistics;  // T (5, channels)
  int64_t rows, channels, fold, block;
  bool relu;
  bool around;  // the result is so large that it is stored around the caches
};

// Sums of g and of g (x - mean) over the rows of each chunk; g = dy, with relu where y > 0, else 0.
struct BatchNormSumsArgs {
  double* parts;           // (chunks, 2, columns)
  const void* dy;          // T (rows, columns)
  const void* x;           // T (rows, columns)
  const void* statistics;  // T (5, channels)
  int64_t rows, channels, fold, block;
  bool relu;
};

// Chunks: kColumns channels.
struct BatchNormGradientsArgs {
  void* terms;             // T (2, channels): slope and height of dx = scale g + slope (x - mean) + height
  void* dgamma;            // T (channels) or null
  void* dbeta;             // T (channels) or null
  const double* parts;     // (chunks, 2, columns)
  const void* statistics;  // T (5, channels)
  int64_t rows, channels, fold, block;
  bool given;                  // the statistics are not x's
  bool add_dgamma, add_dbeta;  // to what is there
};

struct BatchNormBackwardArgs {
  void* dx;                // T (rows, columns)
  const void* dy;          // T (rows, columns)
  const void* x;           // T (rows, columns)
  const void* statistics;  // T (5, channels)
  const void* terms;       // T (2, channels)
  int64_t rows, channels, fold, block;
  bool relu;
  bool around;  // the result is so large that it is stored around the caches
};

// moving = moving * momentum + value * (1 - momentum). Chunks: kElements.
struct MovingAverageArgs {
  void* moving;       // T (n)
  const void* value;  // T (n)
  int64_t n;
  double momentum;
};

// --- the table -------------------------------------------------------------------------------------------------------

struct KernelTable {
  const char* (*isa)();  // the tier, as told by the kernels' own compilation

  int64_t (*matmul_chunks[2])(const MatmulArgs&);   // by DType
  int64_t (*packed_size[2])(int64_t n, int64_t k);  // elements
  int64_t panel[2];                                 // columns of one
  TypedKernel matmul, pack, column_sum, dense_backward;
  TypedKernel activation, activation_backward, function, softmax, softmax_backward;
  TypedKernel mean_squared_error, mean_absolute_error;
  TypedKernel binary_crossentropy, binary_crossentropy_logits;
  TypedKernel categorical_crossentropy, categorical_crossentropy_logits;
  TypedKernel sparse_crossentropy, sparse_crossentropy_logits;
  TypedKernel mean, accumulate, penalty;
  TypedKernel binary_accuracy, categorical_accuracy, sparse_accuracy;
  Kernel tick;
  TypedKernel update;
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
  Kernel transpose;
  WinogradPlan (*winograd_plan[2])(const ConvGeometry&);  // by DType
  TypedKernel winograd, winograd_kernel, winograd_gradient, winograd_sum;
  TypedKernel resample, resample_backward, draw_uniform;
  Kernel draw_moves;
  TypedKernel max_pool, max_pool_backward, average_pool, average_pool_backward;
  TypedKernel batch_moments, batch_statistics, batch_norm, batch_norm_sums, batch_norm_gradients, batch_norm_backward;
  TypedKernel moving_average;
};

}  // namespace ranvier
