// Convolutions and transposed ones, in one dimension and two, with their gradients.
//
// A transposed convolution is the input's gradient of a convolution, as a forward pass: here "the convolution" of one
// is that other, whose x is its output and whose y is its input.
#include "ops/conv2d_operands.h"

namespace ranvier::ops {
namespace {

// About 60 flops a nanosecond on one core, and what must at least be read and written once.
double cost_of(const Tensor& like, const ConvGeometry& g) {
  const double outputs = static_cast<double>(g.batch * g.out_height * g.out_width * g.filters);
  const double inputs = static_cast<double>(g.batch * g.height * g.width * g.channels);
  const double products = outputs * static_cast<double>(g.kernel_height * g.kernel_width * (g.channels / g.groups));
  return (like.dtype == DType::f64 ? 2 : 1) * (products / 30 + (inputs + outputs) / 10);
}

// The ways to compute it.
enum class Algorithm { direct, depthwise };
Algorithm algorithm(const ConvGeometry& g) {
  if (g.groups == g.channels && g.channels > g.filters / g.channels) return Algorithm::depthwise;
  return Algorithm::direct;
}

// A kernel of one pixel with stride 1 mixes channels only: all pixels are one row.
ConvGeometry pixels_in_a_row(int64_t pixels, int64_t channels, int64_t filters, int64_t groups = 1) {
  return {1, 1, pixels, channels, 1, pixels, filters, 1, 1, 1, 1, 1, 1, 0, 0, groups};
}
ConvGeometry simplest(const ConvGeometry& g) {
  const bool one = g.kernel_height == 1 && g.kernel_width == 1 && g.stride_height == 1 && g.stride_width == 1;
  if (!one || g.batch == 0 || g.out_height != g.height || g.out_width != g.width) return g;
  return pixels_in_a_row(g.batch * g.height * g.width, g.channels, g.filters, g.groups);
}

ConvPlan plan_of(const Tensor& like, const ConvGeometry& g) {
  const int wide = like.dtype == DType::f64;
  const KernelTable& k = engine::kernels();
  return algorithm(g) == Algorithm::depthwise ? k.depthwise_plan[wide](g) : k.conv_plan[wide](g);
}

// y (rows, b, a) = x (rows, a, b)
void exchange_axes(const Tensor& y, const Tensor& x, int64_t a, int64_t b) {
  const int64_t rows = x.size() / (a * b);
  const TransposeArgs args = {y.data, x.data, {rows, b, a}, {a * b, 1, b}, 3, 1};
  run(engine::kernels().transpose, x.dtype, args, transpose_chunks(args), static_cast<double>(x.size()) * 0.3);
}

// The depthwise kernels want (multiplier, channels) where the op has (channels, multiplier).
struct Multiplied {
  int64_t channels, multiplier;
  explicit Multiplied(const ConvGeometry& g) : channels(g.channels), multiplier(g.filters / g.channels) {}
  Tensor in(const Tensor& t) const {
    if (!t || multiplier == 1) return t;
    const Tensor turned = scratch(t.dtype, t.shape);
    exchange_axes(turned, t, channels, multiplier);
    return turned;
  }
  Tensor place(const Tensor& t) const { return multiplier == 1 ? t : scratch(t.dtype, t.shape); }
  void out(const Tensor& t, const Tensor& turned) const {
    if (multiplier > 1) exchange_axes(t, turned, multiplier, channels);
  }
};

Tensor packed(const Tensor& w, const ConvGeometry& g, const ConvPlan& plan, bool back) {
  const Tensor panels = scratch(w.dtype, {back ? plan.packed_back : plan.packed});
  run(engine::kernels().conv_pack, w.dtype, ConvPackArgs{panels.data, w.data, g, back},
      back ? plan.pack_back_chunks : plan.pack_chunks, static_cast<double>(w.size()) * 0.15,
      {writes(panels), reads(w)});
  return panels;
}

// A result that is the gradient of `below`, an activation's output, is taken through that activation as well.
template <class Args>
void take_through(Args& args, const Tensor& below, const Tensor& y) {
  if (!goes_through(below, y)) return;
  args.through = below.data;
  args.through_activation = below.buffer->activation;
  args.through_alpha = below.buffer->alpha;
}

// y = f(x * w + b) of the convolution; `below` as for winograd
void convolve(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b, const ConvGeometry& geometry,
              Activation f, double alpha, const Tensor& below = {}) {
  if (winograd_pays(x, geometry)) return winograd(y, x, w, b, geometry, f, alpha, below);
  const ConvGeometry g = simplest(geometry);
  const ConvPlan plan = plan_of(x, g);
  if (algorithm(g) == Algorithm::depthwise) {
    const Multiplied order(g);
    const Tensor weights = order.in(w), bias = order.in(b), turned = order.place(y);
    run(engine::kernels().depthwise, x.dtype,
        ConvArgs{turned.data, x.data, weights.data, b ? bias.data : nullptr, g, f, alpha}, plan.chunks, cost_of(x, g));
    return order.out(y, turned);
  }
  const Tensor panels = packed(w, g, plan, false);
  ConvArgs args{y.data, x.data, panels.data, b ? b.data : nullptr, g, f, alpha};
  take_through(args, below, y);
  run(engine::kernels().conv, x.dtype, args, plan.chunks, cost_of(x, g),
      {writes(y), reads(x), reads(panels), reads(b), reads(below)});
}

// dx, f and b for the transposed convolution
void convolve_back(const Tensor& dx, const Tensor& dy, const Tensor& w, const Tensor& b, const ConvGeometry& geometry,
                   Activation f, double alpha, const Tensor& below = {}) {
  if (winograd_pays(dy, geometry)) return winograd_input_gradient(dx, dy, Tensor(), w, b, geometry, f, alpha, below);
  const ConvGeometry g = simplest(geometry);
  const ConvPlan plan = plan_of(dy, g);
  if (algorithm(g) == Algorithm::depthwise) {
    const Multiplied order(g);
    const Tensor weights = order.in(w), turned = order.in(dy);
    return run(engine::kernels().depthwise_input_gradient, dy.dtype,
               ConvInputGradientArgs{dx.data, turned.data, weights.data, b ? b.data : nullptr, g, f, alpha},
               plan.back_chunks, cost_of(dy, g));
  }
  const Tensor panels = plan.packed_back ? packed(w, g, plan, true) : w;
  ConvInputGradientArgs args{dx.data, dy.data, panels.data, b ? b.data : nullptr, g, f, alpha};
  take_through(args, below, dx);
  run(engine::kernels().conv_input_gradient, dy.dtype, args, plan.back_chunks, cost_of(dy, g),
      {writes(dx), reads(dy), reads(panels), reads(b), reads(below)});
}

// y (+)= sum of the parts that kernels have left side by side
void add_parts(const Tensor& y, const Tensor& parts, bool add) {
  run(engine::kernels().column_sum, y.dtype,
      ColumnSumArgs{y.data, parts.data, parts.size() / std::max<int64_t>(y.size(), 1), y.size(), add},
      chunks_of(y.size(), kColumns), static_cast<double>(parts.size()) * 0.2, {writes(y), reads(parts)});
}

// dw (+)= its gradient, and db (+)= the sum of dy where the kernel has it in the same pass
void kernel_gradient(const GradientSlot& dw, const GradientSlot& db, const Tensor& x, const Tensor& dy,
                     const ConvGeometry& geometry) {
  const ConvGeometry g = simplest(geometry);
  const ConvPlan plan = plan_of(x, g);
  if (algorithm(g) == Algorithm::depthwise) {
    const Multiplied order(g);
    const Tensor turned = order.in(dy), parts = scratch(x.dtype, {plan.splits, dw.tensor.size()});
    run(engine::kernels().depthwise_kernel_gradient, x.dtype,
        ConvKernelGradientArgs{parts.data, x.data, turned.data, g, false}, plan.gradient_chunks, cost_of(x, g));
    const Tensor right = order.place(parts);
    order.out(right, parts);
    return add_parts(dw.tensor, right, dw.add);
  }
  const bool whole = plan.splits == 1;
  const auto place = [&](const GradientSlot& slot) {
    return whole || !slot.tensor ? slot.tensor : scratch(x.dtype, {plan.splits, slot.tensor.size()});
  };
  const Tensor dw_parts = place(dw), db_parts = place(db);
  run(engine::kernels().conv_kernel_gradient, x.dtype,
      ConvKernelGradientArgs{dw_parts.data, x.data, dy.data, g, whole && dw.add, db_parts.data, whole && db.add},
      plan.gradient_chunks, cost_of(x, g), {writes(dw_parts), writes(db_parts), reads(x), reads(dy)});
  if (whole) return;
  add_parts(dw.tensor, dw_parts, dw.add);
  if (db.tensor) add_parts(db.tensor, db_parts, db.add);
}

// db (+)= sum over all pixels
void bias_gradient(const Tensor& db, const Tensor& dz, bool add) {
  constexpr int64_t kRows = 512, kMost = 64;
  const int64_t parts = std::clamp<int64_t>(dz.rows() / kRows, 1, kMost);
  const Tensor sums = scratch(dz.dtype, {parts, dz.columns()});
  run(engine::kernels().part_sums, dz.dtype, PartSumsArgs{sums.data, dz.data, dz.rows(), dz.columns(), parts}, parts,
      static_cast<double>(dz.size()) * 0.1, {writes(sums), reads(dz)});
  add_parts(db, sums, add);
}

// The convolution's output, before it is pooled.
Tensor all_pixels(const Operands& o) {
  return scratch(o.x.dtype, {o.g.batch, o.g.out_height, o.g.out_width, o.g.filters});
}

// where: of a pooled one.
void forward_of(const Face& face, const Tensor& y, const Tensor& where, const Operands& o, Activation f, double alpha) {
  if (face.transposed) return convolve_back(y, o.x, o.w, o.b, o.g, f, alpha);
  if (!face.pooled) return convolve(y, o.x, o.w, o.b, o.g, f, alpha);
  if (winograd_pays(o.x, o.g)) return winograd_max_pool(y, where, o.x, o.w, o.b, o.g, f);
  const Tensor all = all_pixels(o);
  convolve(all, o.x, o.w, o.b, o.g, f, alpha);
  max_pool_2x2(y, where, all);
}

// A gradient of the output; with `where` of each 2x2 pixels but the one that is not 0.
struct OutputGradient {
  Tensor dz, where;
};

void input_gradient_of(const Face& face, const Tensor& dx, const Operands& o, const OutputGradient& out) {
  const Tensor& dz = out.dz;
  if (out.where) {
    return winograd_input_gradient(dx, dz, out.where, o.w, Tensor(), o.g, Activation::linear, 0, o.x);
  }
  if (face.transposed) return convolve(dx, dz, o.w, Tensor(), o.g, Activation::linear, 0, o.x);
  convolve_back(dx, dz, o.w, Tensor(), o.g, Activation::linear, 0, o.x);
}
// Of kernel and bias, those that are wanted.
void gradients_of(const Face& face, const GradientSlot& dw, const GradientSlot& db, const Operands& o,
                  const OutputGradient& out) {
  const Tensor& dz = out.dz;
  const Tensor &x = face.transposed ? dz : o.x, &dy = face.transposed ? o.x : dz;
  // one pass over dz for both
  const bool together = dw.tensor && !face.transposed && algorithm(o.g) == Algorithm::direct;
  const GradientSlot along = together ? db : GradientSlot();
  if (dw.tensor && winograd_gradient_pays(x, o.g)) {
    winograd_kernel_gradient(dw, along, x, dy, out.where, o.g);
  } else if (dw.tensor) {
    kernel_gradient(dw, along, x, dy, o.g);
  }
  if (db.tensor && !together) bias_gradient(db.tensor, dz, db.add);
}

// The largest value's f is f's largest value.
void require_monotone(Activation f, const char* op) {
  if (f == Activation::linear || f == Activation::relu) return;
  value_error(op, "activation must be 'linear' or 'relu'; pool what comes of others with max_pool");
}

py::object forward(const Face& face, py::handle x_, py::handle w_, py::handle b_, const Options& options,
                   py::handle activation, py::handle alpha_, py::handle out) {
  const char* op = face.op;
  const Activation f = activation_from(activation, op);
  const double alpha = alpha_from(alpha_, f);
  const Operands o = operands(face, op, x_, w_, b_, options);
  if (face.pooled) require_monotone(f, op);
  Tensor y = result(out, o.x, o.y_shape, op), where;
  refuse_overlap(y, o.x, op, "x");
  refuse_overlap(y, o.w, op, "the kernel");
  refuse_overlap(y, o.b, op, "the bias");
  const auto trained = [](const Tensor& v) { return v && v.buffer && v.buffer->gradient; };
  const bool constant = o.x.constant() && !trained(o.w) && !trained(o.b);
  if (face.pooled && !constant) where = result(py::none(), o.x, DType::u8, o.y_shape, op);
  const bool separate = needs_input(f) || f == Activation::softmax;
  if (!separate) {
    forward_of(face, y, where, o, f, alpha);
    mark_activation(y, f, alpha);
  } else if (!y.buffer) {
    forward_of(face, y, where, o, Activation::linear, 0);
    run_activation(y, y, f, alpha);
  } else {  // the backward pass, or a fused loss, will ask for what went into f
    const Tensor z = scratch(o.x.dtype, o.y_shape);
    forward_of(face, z, where, o, Activation::linear, 0);
    run_activation(y, z, f, alpha);
    y.buffer->preactivation = z.object.cast<std::shared_ptr<Buffer>>();
    y.buffer->activation = f;
  }
  if (o.w.buffer) ++o.w.buffer->uses;
  if (y.buffer) y.buffer->constant = constant;
  if (!face.pooled) return y.object;
  return py::make_tuple(y.object, where ? where.object : py::object(py::none()));
}

// dy through the activation.
Tensor through_activation(const Face& face, const Tensor& dy, const Tensor& y, const Operands& o, Activation f,
                          double alpha) {
  if (f == Activation::linear || (dy.buffer && dy.buffer->at_preactivation)) return dy;
  Tensor x;
  if (needs_input(f)) {
    if (y && y.buffer && y.buffer->preactivation) {
      x = of(y.buffer->preactivation);
    } else {  // not kept: computed again
      x = scratch(o.x.dtype, o.y_shape);
      forward_of(face, x, Tensor(), o, Activation::linear, 0);
    }
  }
  Tensor dz = scratch(o.x.dtype, o.y_shape);
  run_activation_backward(dz, dy, x, y, f, alpha);
  return dz;
}

// dz, with its place in each window where both gradients go by tiles.
OutputGradient output_gradient(const Tensor& dz, const Tensor& where, const Operands& o) {
  if (!where || winograd_gradient_pays(o.x, o.g)) return {dz, where};
  const Tensor all = all_pixels(o);
  max_pool_2x2_backward(all, dz, where);
  return {all, Tensor()};
}

// As in dense: for a layer (w is its variable) the gradients are added to the variables' own and dx is returned, None
// if nobody wants it; for arrays all three are returned.
py::object backward(const Face& face, py::handle dy_, py::handle x_, py::handle y_, py::handle where_, py::handle w_,
                    py::handle b_, const Options& options, py::handle activation, py::handle alpha_, py::handle out) {
  const char* op = face.backward;
  const Activation f = activation_from(activation, op);
  const double alpha = alpha_from(alpha_, f);
  const Operands o = operands(face, op, x_, w_, b_, options);
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
  Tensor where;
  if (face.pooled) {
    require_monotone(f, op);
    if (where_.is_none()) type_error(op, std::string("where must be what ") + face.op + " returned");
    where = read(where_, op, "where");
    if (where.dtype != DType::u8) {
      type_error(op, std::string("where must be the uint8 that ") + face.op + " returned; it is " +
                         engine::name_of(where.dtype));
    }
    require_shape(where, o.y_shape, op, "where", "x and the kernel give");
  }

  if (o.w.buffer) {
    const OutputGradient dz = output_gradient(through_activation(face, dy, y, o, f, alpha), where, o);
    Tensor dx;
    if (!o.x.constant()) {
      dx = scratch(o.x.dtype, o.x.shape);
      input_gradient_of(face, dx, o, dz);
    }
    const GradientSlot dw = gradient_slot(o.w), db = gradient_slot(o.b);
    gradients_of(face, dw, db, o, dz);
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
    refuse_overlap(*target, where, op, "where");
  }
  const OutputGradient dz = output_gradient(through_activation(face, dy, y, o, f, alpha), where, o);
  input_gradient_of(face, dx, o, dz);
  gradients_of(face, {dw, false}, {db, false}, o, dz);
  return py::make_tuple(dx.object, dw.object, db ? db.object : py::object(py::none()));
}

constexpr Face kFaces[] = {
    {"conv1d", "conv1d_backward", 1, false, false},
    {"conv2d", "conv2d_backward", 2, false, false},
    {"depthwise_conv1d", "depthwise_conv1d_backward", 1, true, false},
    {"depthwise_conv2d", "depthwise_conv2d_backward", 2, true, false},
    {"conv1d_transpose", "conv1d_transpose_backward", 1, false, true},
    {"conv2d_transpose", "conv2d_transpose_backward", 2, false, true},
};
constexpr Face kPooled = {"conv2d_max_pool", "conv2d_max_pool_backward", 2, false, false, true};

}  // namespace

void pointwise(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b, Activation f, double alpha) {
  convolve(y, x, w, b, pixels_in_a_row(x.rows(), x.columns(), y.columns()), f, alpha);
}
void pointwise_input_gradient(const Tensor& dx, const Tensor& dy, const Tensor& w, const Tensor& below) {
  convolve_back(dx, dy, w, Tensor(), pixels_in_a_row(dx.rows(), dx.columns(), dy.columns()), Activation::linear, 0,
                below);
}
void pointwise_kernel_gradient(const GradientSlot& dw, const GradientSlot& db, const Tensor& x, const Tensor& dy) {
  kernel_gradient(dw, db, x, dy, pixels_in_a_row(x.rows(), x.columns(), dy.columns()));
}

void register_conv2d(py::module_& m) {
  for (const Face& face : kFaces) {
    m.def(face.op, [&face](py::handle x, py::handle w, py::handle b, py::handle strides, py::handle padding,
                           py::handle dilation, py::handle groups, py::handle output_padding, py::handle activation,
                           py::handle alpha, py::handle out) {
      return forward(face, x, w, b, {strides, padding, dilation, groups, output_padding}, activation, alpha, out);
    });
    m.def(face.backward, [&face](py::handle dy, py::handle x, py::handle y, py::handle w, py::handle b,
                                 py::handle strides, py::handle padding, py::handle dilation, py::handle groups,
                                 py::handle output_padding, py::handle activation, py::handle alpha, py::handle out) {
      return backward(face, dy, x, y, py::none(), w, b, {strides, padding, dilation, groups, output_padding},
                      activation, alpha, out);
    });
  }
  m.def(kPooled.op, [](py::handle x, py::handle w, py::handle b, py::handle strides, py::handle padding,
                       py::handle dilation, py::handle groups, py::handle activation, py::handle out) {
    return forward(kPooled, x, w, b, {strides, padding, dilation, groups, py::none()}, activation, py::none(), out);
  });
  m.def(kPooled.backward,
        [](py::handle dy, py::handle x, py::handle y, py::handle where, py::handle w, py::handle b, py::handle strides,
           py::handle padding, py::handle dilation, py::handle groups, py::handle activation, py::handle out) {
          return backward(kPooled, dy, x, y, where, w, b, {strides, padding, dilation, groups, py::none()}, activation,
                          py::none(), out);
        });
}

}  // namespace ranvier::ops
