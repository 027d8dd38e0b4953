// Dense layers, and products of matrices.
#pragma once

#include "kernels/activation.h"
#include "kernels/data.h"
#include "kernels/optimizers.h"

namespace ranvier {

// Products with a k up to this are outer products, which read b as it is (gemm_few.h).
constexpr int64_t kFewSteps = 12;

// c = activation(a @ b + bias), or c += a @ b. Chunks: matmul_chunks(args).
struct MatmulArgs {
  void* c;           // T (m, n)
  const void* a;     // T (m, k), element (i, p) at a[i * a_row + p * a_column]: either operand of a gradient
  const void* b;     // T (k, n), whose rows are b_row apart, or in the panels that pack made
  const void* bias;  // T (n) or null
  int64_t m, n, k, a_row, a_column, b_row;
  Activation activation;  // any but softmax
  double alpha;
  bool accumulate;           // add to c; then no bias
  bool packed;               // b is in panels
  const UpdateArgs* update;  // c is a variable's gradient, and this its optimizer's step, taken tile by tile; or null

  bool transposed = false;  // b is (n, k), its rows b_row apart, and not packed
  bool turned = false;      // and a is in panels instead: pack(n = m, transposed), if turns(args) says so
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
  const void* b;  // T (k, n), or (n, k) if transposed, whose rows are b_row apart
  int64_t n, k, b_row;
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

}  // namespace ranvier
