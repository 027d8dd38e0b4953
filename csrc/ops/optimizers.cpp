// Optimizer steps, in place over flat parameters.
#include "ops/tensor.h"

namespace ranvier::ops {
namespace {

OptimizerState* state_of(py::handle state, const char* op) {
  return reinterpret_cast<OptimizerState*>(write(state, DType::f64, {5}, op, "state").data);
}

// The arguments that all optimizers share; the hyperparameters are the caller's to fill in.
struct Update {
  Tensor p, g, m, v;
  UpdateArgs args{};
};
Update update(py::handle p_, py::handle g_, py::handle m_, py::handle v_, py::handle state, const char* op,
              const char* m_name) {
  Update u;
  const Tensor seen = read_float(p_, op, "p");
  u.p = write(p_, seen.dtype, seen.shape, op, "p");
  u.g = read_like(g_, u.p, op, "g");
  require_shape(u.g, u.p.shape, op, "g", "p has");
  const auto moment = [&](py::handle given, const char* name) {
    if (given.is_none()) return Tensor();
    read_like(given, u.p, op, name);
    return write(given, u.p.dtype, u.p.shape, op, name);
  };
  u.m = moment(m_, m_name);
  u.v = moment(v_, "v");
  u.args.p = u.p.data;
  u.args.g = u.g.data;
  u.args.m = u.m ? u.m.data : nullptr;
  u.args.v = u.v ? u.v.data : nullptr;
  u.args.state = state_of(state, op);
  u.args.n = u.p.size();
  return u;
}

// What every optimizer's step is: one kernel call over flat arrays, or a rule for a variable to keep.
void take(const Update& u) {
  run(engine::kernels().update, u.p.dtype, u.args, chunks_of(u.args.n, kElements),
      static_cast<double>(u.p.bytes()) * 0.15,
      {writes(u.p), reads(u.g), writes(u.m), writes(u.v), reads(u.args.state)});
}
void give(const Update& u, py::handle variable) {
  auto rule = std::make_shared<UpdateArgs>(u.args);
  // The moments and the state are the optimizer's, which outlives the steps that are made with it; so does the
  // gradient.
  variable.cast<Buffer*>()->update = std::move(rule);
}

void tick(py::handle state, double beta_1, double beta_2, py::handle rates_) {
  auto* of = state_of(state, "optimizer");
  Tensor rates;
  if (!rates_.is_none()) rates = read_like(rates_, read_float(state, "optimizer", "state"), "optimizer", "rates");
  const TickArgs args{of, beta_1, beta_2, reinterpret_cast<const double*>(rates.data), rates ? rates.size() : 0};
  run(engine::kernels().tick, args, 1, 1, {writes(of), reads(rates)});
}

Tensor gradient_in_place(py::handle g) {
  const Tensor seen = read_float(g, "optimizer", "the gradient");
  return write(g, seen.dtype, seen.shape, "optimizer", "the gradient");
}

void clip(const Tensor& g, const Tensor& scale, double limit) {
  run(engine::kernels().clip, g.dtype, ClipArgs{g.data, reinterpret_cast<const double*>(scale.data), g.size(), limit},
      chunks_of(g.size(), kElements), static_cast<double>(g.bytes()) * 0.05, {writes(g), reads(scale)});
}

void clip_by_value(py::handle g, double limit) {
  clip(gradient_in_place(g), Tensor(), limit);
}

// All by one factor: together they are at most `limit` long.
void clip_by_norm(const py::sequence& gradients, double limit) {
  std::vector<Tensor> gs;
  int64_t chunks = 0;
  for (const py::handle g : gradients) {
    gs.push_back(gradient_in_place(g));
    chunks += chunks_of(gs.back().size(), kElements);
  }
  const Tensor parts = scratch(DType::f64, {chunks}), scale = scratch(DType::f64, {1});
  double* part = reinterpret_cast<double*>(parts.data);
  for (const Tensor& g : gs) {
    const int64_t count = chunks_of(g.size(), kElements);
    run(engine::kernels().squares, g.dtype, SquaresArgs{part, g.data, g.size()}, count,
        static_cast<double>(g.bytes()) * 0.03, {{part, count * static_cast<int64_t>(sizeof(double)), true}, reads(g)});
    part += count;
  }
  run(engine::kernels().clip_scale,
      ClipScaleArgs{reinterpret_cast<double*>(scale.data), reinterpret_cast<const double*>(parts.data), chunks, limit},
      1, static_cast<double>(chunks), {writes(scale), reads(parts)});
  for (const Tensor& g : gs) clip(g, scale, limit);
}

Update sgd(py::handle p, py::handle g, py::handle velocity, py::handle state, double momentum, bool nesterov,
           double weight_decay) {
  Update u = update(p, g, velocity, py::none(), state, "sgd", "velocity");
  u.args.rule = Rule::sgd;
  u.args.momentum = momentum;
  u.args.nesterov = nesterov;
  u.args.weight_decay = weight_decay;
  return u;
}

Update rmsprop(py::handle p, py::handle g, py::handle v, py::handle velocity, py::handle state, double rho,
               double momentum, double epsilon, double weight_decay) {
  Update u = update(p, g, velocity, v, state, "rmsprop", "velocity");
  u.args.rule = Rule::rmsprop;
  u.args.rho = rho;
  u.args.momentum = momentum;
  u.args.epsilon = epsilon;
  u.args.weight_decay = weight_decay;
  return u;
}

Update adam(py::handle p, py::handle g, py::handle m, py::handle v, py::handle state, double beta_1, double beta_2,
            double epsilon, double weight_decay) {
  Update u = update(p, g, m, v, state, "adam", "m");
  u.args.rule = Rule::adam;
  u.args.beta_1 = beta_1;
  u.args.beta_2 = beta_2;
  u.args.epsilon = epsilon;
  u.args.weight_decay = weight_decay;
  return u;
}

}  // namespace

void register_optimizers(py::module_& m) {
  m.def("tick", tick, py::arg("state"), py::arg("beta_1"), py::arg("beta_2"), py::arg("rates") = py::none());
  m.def("clip_by_value", clip_by_value);
  m.def("clip_by_norm", clip_by_norm);
  // `keep`: p is a variable that takes the step when its gradient is complete, not now.
  m.def(
      "sgd",
      [](py::handle p, py::handle g, py::handle velocity, py::handle state, double momentum, bool nesterov, bool keep,
         double weight_decay) {
        const Update u = sgd(p, g, velocity, state, momentum, nesterov, weight_decay);
        keep ? give(u, p) : take(u);
      },
      py::arg("p"), py::arg("g"), py::arg("velocity"), py::arg("state"), py::arg("momentum"), py::arg("nesterov"),
      py::arg("keep") = false, py::arg("weight_decay") = 0.0);
  m.def(
      "rmsprop",
      [](py::handle p, py::handle g, py::handle v, py::handle velocity, py::handle state, double rho, double momentum,
         double epsilon, bool keep, double weight_decay) {
        const Update u = rmsprop(p, g, v, velocity, state, rho, momentum, epsilon, weight_decay);
        keep ? give(u, p) : take(u);
      },
      py::arg("p"), py::arg("g"), py::arg("v"), py::arg("velocity"), py::arg("state"), py::arg("rho"),
      py::arg("momentum"), py::arg("epsilon"), py::arg("keep") = false, py::arg("weight_decay") = 0.0);
  m.def(
      "adam",
      [](py::handle p, py::handle g, py::handle m1, py::handle v, py::handle state, double beta_1, double beta_2,
         double epsilon, bool keep, double weight_decay) {
        const Update u = adam(p, g, m1, v, state, beta_1, beta_2, epsilon, weight_decay);
        keep ? give(u, p) : take(u);
      },
      py::arg("p"), py::arg("g"), py::arg("m"), py::arg("v"), py::arg("state"), py::arg("beta_1"), py::arg("beta_2"),
      py::arg("epsilon"), py::arg("keep") = false, py::arg("weight_decay") = 0.0);
}

}  // namespace ranvier::ops
