// dense: y = f(x w + b), and its three gradients.
#include "ops/tensor.h"

namespace ranvier::ops {

// About 150 flops a nanosecond on one core, and what must at least be read once.
double product_cost(DType dtype, int64_t m, int64_t n, int64_t k) {
  const double scale = dtype == DType::f64 ? 2 : 1;
  return scale * (2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) / 150 +
                  static_cast<double>(m * k + k * n + m * n) / 10);
}

namespace {

// `other` is what the call reads beside a and b. Packs one of these where that pays.
void matmul(const Tensor& c, Tensor a, Tensor b, const Tensor& other, MatmulArgs args, const Tensor& row_sum = {}) {
  const KernelTable& k = engine::kernels();
  const DType dtype = c.dtype;
  const int wide = dtype == DType::f64;
  const auto packed = [&](const Tensor& from, int64_t n, int64_t row, bool transposed) {
    const Tensor panels = scratch(dtype, {k.packed_size[wide](n, args.k)});
    run(k.pack, dtype, PackArgs{panels.data, from.data, n, args.k, row, transposed}, chunks_of(n, k.panel[wide]),
        static_cast<double>(n * args.k) * 0.15, {writes(panels), reads(from)});
    return panels;
  };
  if (k.turns[wide](args)) {
    a = packed(a, args.m, args.a_row, true);
    args.a = a.data;
    args.turned = true;
  } else if (k.packs[wide](args)) {
    b = packed(b, args.n, args.b_row, args.transposed);
    args.b = b.data;
    args.packed = true;
    args.transposed = false;
  }
  const double cost = product_cost(dtype, args.m, args.n, args.k);
  const int64_t chunks = k.matmul_chunks[wide](args);
  if (!args.update) {
    return run(k.matmul, dtype, args, chunks, cost,
               {writes(c), writes(row_sum), reads(a), reads(b), reads(other), reads(args.source), reads(args.feed)});
  }
  const UpdateArgs& u = *args.update;
  const int64_t bytes = c.bytes();
  run(k.matmul, dtype, args, chunks, cost,
      {writes(c),
       writes(row_sum),
       reads(a),
       reads(b),
       reads(u.state),
       {u.p, bytes, true},
       {u.m, bytes, true},
       {u.v, bytes, true}});
}

// x (..., K), w (K, N), b (N,) or None: what forward and backward both check.
struct Operands {
  Tensor x, w, b;
  int64_t rows, inputs, outputs;
  Shape y_shape;
};
Operands operands(py::handle x_, py::handle w_, py::handle b_, const char* op, bool in_place = false) {
  Operands o;
  o.x = in_place ? read_in_place(x_) : read_float(x_, op, "x", Layout::view);
  o.w = read_like(w_, o.x, op, "the kernel", Layout::view);
  if (o.w.view_row > 1 && o.w.view_column > 1) make_contiguous(o.w);
  if (o.x.shape.size() < 2) {
    value_error(op, "x must have at least 2 dimensions (rows, columns); x is " + text_of(o.x.shape) +
                        ": for one row use x[None]");
  }
  if (o.w.shape.size() != 2) {
    value_error(op, "the kernel must have 2 dimensions (inputs, outputs); it is " + text_of(o.w.shape));
  }
  o.rows = o.x.rows();
  o.inputs = o.w.shape[0];
  o.outputs = o.w.shape[1];
  if (o.x.columns() != o.inputs) {
    value_error(op, "x has " + pluralised(o.x.columns(), "column") + " but the kernel has " +
                        pluralised(o.inputs, "row") + ": x is " + text_of(o.x.shape) + ", kernel is " +
                        text_of(o.w.shape));
  }
  if (!b_.is_none()) {
    o.b = read_like(b_, o.x, op, "the bias");
    if (o.b.shape != Shape{o.outputs}) {
      value_error(op, "the bias must have one value for each of the kernel's " + pluralised(o.outputs, "column") +
                          ": kernel is " + text_of(o.w.shape) + ", bias is " + text_of(o.b.shape));
    }
  }
  o.y_shape = o.x.shape;
  o.y_shape.back() = o.outputs;
  return o;
}

bool in_place(const Tensor& x) {
  return x.buffer && x.buffer->unread && !x.buffer->unread->gathered;
}

// Many rows and a small kernel: then all three products are faster by blocks of rows, and dw's much so (25088 rows, 256
// inputs, 64 outputs: forward 370 and 490 GFLOP/s, backward 215 and 470), as one chain over all rows reads x again and
// again. A large kernel's products are not.
bool is_tall(const Operands& o) {
  constexpr int64_t kTall = 4096, kSmall = 1 << 18;
  return o.rows >= kTall && o.inputs * o.outputs <= kSmall && !o.x.view_row && !o.w.view_row;
}

// An operand of a product, or its transpose.
struct Side {
  const Tensor& t;
  bool turned = false;
};
// c (m, n) = a (m, k) b (k, n)
MatmulArgs product_of(const Tensor& c, const Side& a, const Side& b, int64_t m, int64_t n, int64_t k) {
  MatmulArgs args{};
  args.c = c.data;
  args.a = a.t.data;
  args.b = b.t.data;
  args.m = m;
  args.n = n;
  args.k = k;
  args.a_row = a.turned ? a.t.column_step() : a.t.row_step();
  args.a_column = a.turned ? a.t.row_step() : a.t.column_step();
  const bool by_columns = b.t.column_step() != 1;
  args.b_row = by_columns ? b.t.column_step() : b.t.row_step();
  args.transposed = by_columns != b.turned;
  return args;
}

void product(const Tensor& y, const Operands& o, Activation f, double alpha) {
  if (is_tall(o) && !in_place(o.x)) return pointwise(y, o.x, o.w, o.b, f, alpha);
  MatmulArgs args = product_of(y, {o.x}, {o.w}, o.rows, o.outputs, o.inputs);
  args.bias = o.b ? o.b.data : nullptr;
  args.activation = f;
  args.alpha = alpha;
  if (in_place(o.x)) {
    args.source = o.x.buffer->unread->source;
    args.feed = o.x.buffer->unread->feed;
  }
  matmul(y, o.x, o.w, o.b, args);
}

// Whether x's rows can be read where the user has them.
bool in_place(py::handle x) {
  if (!is_buffer(x)) return false;
  const auto& buffer = x.cast<const Buffer&>();
  return buffer.unread && !buffer.unread->gathered && buffer.shape.size() == 2 &&
         buffer.shape[0] == buffer.unread->rows;
}

py::object dense(py::handle x_, py::handle w_, py::handle b_, py::handle activation, py::handle alpha_,
                 py::handle out) {
  const Activation f = activation_from(activation, "dense");
  const double alpha = alpha_from(alpha_, f);
  const Operands o = operands(x_, w_, b_, "dense", in_place(x_));
  Tensor y = result(out, o.x, o.y_shape, "dense");
  refuse_overlap(y, o.x, "dense", "x");
  refuse_overlap(y, o.w, "dense", "the kernel");
  refuse_overlap(y, o.b, "dense", "the bias");
  const bool separate = needs_input(f) || f == Activation::softmax;
  if (!separate) {
    product(y, o, f, alpha);
    mark_activation(y, f, alpha);
  } else if (!y.buffer) {
    product(y, o, Activation::linear, 0);
    run_activation(y, y, f, alpha);
  } else {  // the backward pass, or a fused loss, will ask for what went into f
    const Tensor z = scratch(o.x.dtype, o.y_shape);
    product(z, o, Activation::linear, 0);
    run_activation(y, z, f, alpha);
    y.buffer->preactivation = z.object.cast<std::shared_ptr<Buffer>>();
    y.buffer->activation = f;
  }
  if (o.w.buffer) ++o.w.buffer->uses;
  if (y.buffer) {
    const auto trained = [](const Tensor& v) { return v && v.buffer && v.buffer->gradient; };
    y.buffer->constant = o.x.constant() && !trained(o.w) && !trained(o.b);
  }
  return y.object;
}

// dy through the activation.
Tensor through_activation(const Tensor& dy, const Tensor& y, const Operands& o, Activation f, double alpha) {
  if (f == Activation::linear || (dy.buffer && dy.buffer->at_preactivation)) return dy;
  Tensor x;
  if (needs_input(f)) {
    if (y && y.buffer && y.buffer->preactivation) {
      x = of(y.buffer->preactivation);
    } else {  // not kept: computed again
      x = scratch(o.x.dtype, o.y_shape);
      product(x, o, Activation::linear, 0);
    }
  }
  Tensor dz = scratch(o.x.dtype, o.y_shape);
  run_activation_backward(dz, dy, x, y, f, alpha);
  return dz;
}

// The optimizer's step of a variable whose gradient the coming call completes: nothing else in this step reads it. A
// recorded step takes it there.
const UpdateArgs* last_use_update(Buffer& v) {
  engine::Program* program = engine::recording();
  if (!program || !v.update || v.uses != 1) return nullptr;
  v.updated = true;
  program->keep(v.update);
  return v.update.get();
}

// dw (+)= x^T dz and, in the same pass, db (+)= sum of dz's rows; perhaps the optimizer's step of w with it.
void kernel_gradient(const GradientSlot& dw, const GradientSlot& db, const Operands& o, const Tensor& dz) {
  if (is_tall(o)) return pointwise_kernel_gradient(dw, db, o.x, dz);
  const UpdateArgs* update = o.w.buffer ? last_use_update(*o.w.buffer) : nullptr;
  MatmulArgs args = product_of(dw.tensor, {o.x, true}, {dz}, o.inputs, o.outputs, o.rows);
  args.accumulate = dw.add;
  args.update = update;
  args.row_sum = db.tensor ? db.tensor.data : nullptr;
  args.add_row_sum = db.add;
  matmul(dw.tensor, o.x, dz, Tensor(), args, db.tensor);
}

// db (+)= sum of dz's rows, where w is not trained
void bias_gradient(const GradientSlot& db, const Operands& o, const Tensor& dz) {
  run(engine::kernels().column_sum, o.x.dtype, ColumnSumArgs{db.tensor.data, dz.data, o.rows, o.outputs, db.add},
      chunks_of(o.outputs, kColumns), static_cast<double>(dz.size()) * 0.2, {writes(db.tensor), reads(dz)});
}

// dx = dz w^T. Where x is an activation's output, dx is taken through that as well, tile by tile.
void input_gradient(const Tensor& dx, const Operands& o, const Tensor& dz) {
  if (is_tall(o)) return pointwise_input_gradient(dx, dz, o.w, o.x);
  MatmulArgs args = product_of(dx, {dz}, {o.w, true}, o.rows, o.inputs, o.outputs);
  if (goes_through(o.x, dx)) {
    args.through = o.x.data;
    args.through_activation = o.x.buffer->activation;
    args.through_alpha = o.x.buffer->alpha;
    return matmul(dx, dz, o.w, o.x, args);
  }
  matmul(dx, dz, o.w, Tensor(), args);
}

// Whether one call for all gradients is faster than a call for each.
bool is_small(const Operands& o, Activation f) {
  constexpr int64_t kProducts = 4096;
  return o.rows * o.inputs * o.outputs <= kProducts && !needs_input(f) && f != Activation::softmax;
}

void small_backward(const Tensor& dx, const GradientSlot& dw, const GradientSlot& db, const Operands& o,
                    const Tensor& dy, const Tensor& y, Activation f, double alpha) {
  if (dy.buffer && dy.buffer->at_preactivation) f = Activation::linear;
  const Tensor dz = scratch(o.x.dtype, f == Activation::linear ? Shape{0} : o.y_shape);
  const auto at = [](const Tensor& t) { return t ? t.data : nullptr; };
  run(engine::kernels().dense_backward, o.x.dtype,
      DenseBackwardArgs{at(dx), at(dw.tensor), at(db.tensor), dz.data, dy.data, o.x.data, at(y), o.w.data, o.rows,
                        o.outputs, o.inputs, f, alpha, dw.add, db.add},
      1, static_cast<double>(o.rows * o.inputs * o.outputs) * 0.2,
      {writes(dx), writes(dw.tensor), writes(db.tensor), writes(dz), reads(dy), reads(o.x), reads(y), reads(o.w)});
}

// For a layer (w is its variable) the gradients are added to the variables' own and dx is returned, None if nobody
// wants it; for arrays all three are returned.
py::object dense_backward(py::handle dy_, py::handle x_, py::handle y_, py::handle w_, py::handle b_,
                          py::handle activation, py::handle alpha, py::handle out) {
  const char* op = "dense_backward";
  const Activation f = activation_from(activation, op);
  Operands o = operands(x_, w_, b_, op);
  const bool small = is_small(o, f);
  if (small) {
    make_contiguous(o.x);
    make_contiguous(o.w);
  }
  const Tensor dy = read_like(dy_, o.x, op, "dy");
  require_shape(dy, o.y_shape, op, "dy", "x and the kernel give");
  Tensor y;
  if (!y_.is_none()) {
    y = read_like(y_, o.x, op, "y");
    require_shape(y, o.y_shape, op, "y", "x and the kernel give");
  }

  if (f != Activation::linear && !y && !needs_input(f)) {
    value_error(op, "y, the forward pass's output, is needed");
  }

  if (o.w.buffer && small) {
    const GradientSlot dw = gradient_slot(o.w), db = gradient_slot(o.b);
    const Tensor dx = o.x.constant() ? Tensor() : scratch(o.x.dtype, o.x.shape);
    small_backward(dx, dw, db, o, dy, y, f, alpha_from(alpha, f));
    return dx ? dx.object : py::none();
  }
  if (o.w.buffer) {
    const Tensor dz = through_activation(dy, y, o, f, alpha_from(alpha, f));
    Tensor dx;
    if (!o.x.constant()) {  // first, because the kernel may change below
      dx = scratch(o.x.dtype, o.x.shape);
      input_gradient(dx, o, dz);
    }
    const GradientSlot dw = gradient_slot(o.w), db = gradient_slot(o.b);
    if (dw.tensor) {
      kernel_gradient(dw, db, o, dz);
    } else if (db.tensor) {
      bias_gradient(db, o, dz);
    }
    return dx ? dx.object : py::none();
  }

  py::object outs[3] = {py::none(), py::none(), py::none()};
  if (!out.is_none()) {
    const auto given = py::cast<py::sequence>(out);
    if (given.size() != 3) value_error(op, "out must be a tuple (dx, dw, db), each an array or None");
    for (size_t i = 0; i < 3; ++i) outs[i] = given[i];
  }
  const Tensor dx = result(outs[0], o.x, o.x.shape, op), dw = result(outs[1], o.x, o.w.shape, op);
  Tensor db;
  if (o.b) db = result(outs[2], o.x, o.b.shape, op);
  for (const Tensor* target : {&dx, &dw, static_cast<const Tensor*>(&db)}) {
    if (!*target) continue;
    refuse_overlap(*target, o.x, op, "x");
    refuse_overlap(*target, o.w, op, "the kernel");
    refuse_overlap(*target, dy, op, "dy");
  }
  if (small) {
    small_backward(dx, {dw, false}, {db, false}, o, dy, y, f, alpha_from(alpha, f));
    return py::make_tuple(dx.object, dw.object, db ? db.object : py::object(py::none()));
  }
  const Tensor dz = through_activation(dy, y, o, f, alpha_from(alpha, f));
  input_gradient(dx, o, dz);
  kernel_gradient({dw, false}, {db, false}, o, dz);
  return py::make_tuple(dx.object, dw.object, db ? db.object : py::object(py::none()));
}

}  // namespace

void register_dense(py::module_& m) {
  m.def("dense", dense);
  m.def("dense_backward", dense_backward);
}

}  // namespace ranvier::ops
