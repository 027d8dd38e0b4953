// The Winograd path of the convolutions: where it is taken, and its calls.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "ops/tensor.h"

namespace ranvier::ops {
namespace {

enum class Use : int { never, automatic, always };
constexpr const char* kUses[] = {"never", "auto", "always"};
std::atomic<Use> use{Use::automatic};

double elements(int64_t a, int64_t b) {
  return static_cast<double>(a) * static_cast<double>(b);
}

const WinogradPlan plan_of(const Tensor& like, const ConvGeometry& g) {
  return engine::kernels().winograd_plan[like.dtype == DType::f64](g);
}

// About how many nanoseconds one thread needs: for the transformations of tiles, and for the products.
double tile_cost(const Tensor& like, const ConvGeometry& g) {
  const double tiles = static_cast<double>(plan_of(like, g).points) / 36;
  return (like.dtype == DType::f64 ? 2 : 1) * tiles *
         (1.8 * static_cast<double>(g.channels + g.filters) + 0.265 * elements(g.channels, g.filters));
}
// For the transformation of the kernel: 36 values for 9 or 25, which take longer the fewer of them a cache holds.
double kernel_cost(const Tensor& like, const ConvGeometry& g) {
  const double kernels = elements(g.channels, g.filters), taps = elements(g.kernel_height, g.kernel_width);
  const double megabytes = 36 * kernels * static_cast<double>(bytes_of(like.dtype)) / (1 << 20);
  return (like.dtype == DType::f64 ? 2 : 1) * std::clamp(megabytes / 4, 1.0, 3.8) * 0.04 * (36 + taps) * kernels;
}

// How often a tap of the direct way is within the image, along an axis.
int64_t taps_seen(int64_t size, int64_t outputs, int64_t kernel, int64_t pad) {
  int64_t seen = 0;
  for (int64_t k = 0; k < kernel; ++k) {
    const int64_t first = std::max<int64_t>(pad - k, 0), last = std::min(size + pad - k, outputs);
    seen += std::max<int64_t>(last - first, 0);
  }
  return seen;
}

// The convolution of which dx is the result.
ConvGeometry turned(const ConvGeometry& g) {
  ConvGeometry t = g;
  t.height = g.out_height;
  t.width = g.out_width;
  t.channels = g.filters;
  t.out_height = g.height;
  t.out_width = g.width;
  t.filters = g.channels;
  t.pad_top = g.kernel_height - 1 - g.pad_top;
  t.pad_left = g.kernel_width - 1 - g.pad_left;
  return t;
}

uint8_t* places(const Tensor& where) {
  return reinterpret_cast<uint8_t*>(where.data);
}

// args has what the geometry does not tell.
void convolve(WinogradArgs args, const Tensor& y, const Tensor& where, const Tensor& x, const Tensor& x_where,
              const Tensor& w, const Tensor& b, const Tensor& below, bool turn) {
  const KernelTable& k = engine::kernels();
  const ConvGeometry& g = args.g;
  const WinogradPlan plan = plan_of(x, g);
  const Tensor u = scratch(x.dtype, {plan.kernel}), own = scratch(x.dtype, {plan.scratch});
  run(k.winograd_kernel, x.dtype, WinogradKernelArgs{u.data, w.data, g.kernel_height, g.channels, g.filters, turn},
      plan.kernel_chunks, kernel_cost(x, g), {writes(u), reads(w)});
  args.y = y.data;
  args.x = x.data;
  args.u = u.data;
  args.bias = b ? b.data : nullptr;
  args.scratch = own.data;
  args.where = places(where);
  args.x_where = places(x_where);
  if (goes_through(below, y)) {
    args.through = below.data;
    args.through_activation = below.buffer->activation;
    args.through_alpha = below.buffer->alpha;
  }
  run(k.winograd, x.dtype, args, plan.chunks, tile_cost(x, g),
      {writes(y), writes(where), writes(own), reads(x), reads(x_where), reads(u), reads(b), reads(below)});
}
WinogradArgs args_of(const ConvGeometry& g, Activation f, double alpha, bool pooled = false) {
  WinogradArgs args{};
  args.g = g;
  args.activation = f;
  args.alpha = alpha;
  args.pooled = pooled;
  return args;
}

// Whether to go by tiles, with work as of so many transformations of the kernel beside that of the tiles. The direct
// way takes a nanosecond for 144 products, those with the zeros around the image left out, and time for each weight.
// These costs are fitted to both ways' times on one thread, 3300 passes: 1 to 32 images of 4x4 to 112x112, 16 to 512
// channels and filters. Beside the faster of both the choice loses 0.5 % on average, with the gradients of 5x5 kernels
// 0.7 %; more than 15 % in one case of eighty, of few and small images.
bool pays(const Tensor& like, const ConvGeometry& g, double kernels) {
  const Use wanted = use.load(std::memory_order_relaxed);
  if (wanted == Use::never) return false;
  const bool can = (g.kernel_height == 3 || g.kernel_height == 5) && g.kernel_width == g.kernel_height &&
                   g.stride_height == 1 && g.stride_width == 1 && g.dilation_height == 1 && g.dilation_width == 1 &&
                   g.groups == 1;
  if (!can || wanted == Use::always) return can;
  constexpr int64_t kThin = 16;
  const double taps = elements(taps_seen(g.height, g.out_height, g.kernel_height, g.pad_top),
                               taps_seen(g.width, g.out_width, g.kernel_width, g.pad_left));
  const double direct = elements(g.channels, g.filters) *
                        (static_cast<double>(g.batch) * taps / 144 + 0.14 * elements(g.kernel_height, g.kernel_width));
  return like.dtype == DType::f32 && g.channels >= kThin && g.filters >= kThin &&
         tile_cost(like, g) + kernels * kernel_cost(like, g) < direct;
}

}  // namespace

bool winograd_pays(const Tensor& like, const ConvGeometry& g) {
  return pays(like, g, 1);
}
bool winograd_gradient_pays(const Tensor& like, const ConvGeometry& g) {
  return pays(like, g, 2.05);
}

void winograd(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b, const ConvGeometry& g, Activation f,
              double alpha, const Tensor& below) {
  convolve(args_of(g, f, alpha), y, Tensor(), x, Tensor(), w, b, below, false);
}

void winograd_max_pool(const Tensor& y, const Tensor& where, const Tensor& x, const Tensor& w, const Tensor& b,
                       const ConvGeometry& g, Activation f) {
  convolve(args_of(g, f, 0, true), y, where, x, Tensor(), w, b, Tensor(), false);
}

void winograd_input_gradient(const Tensor& dx, const Tensor& dy, const Tensor& where, const Tensor& w, const Tensor& b,
                             const ConvGeometry& g, Activation f, double alpha, const Tensor& below) {
  convolve(args_of(turned(g), f, alpha), dx, Tensor(), dy, where, w, b, below, true);
}

void winograd_kernel_gradient(const GradientSlot& dw, const GradientSlot& db, const Tensor& x, const Tensor& dy,
                              const Tensor& where, const ConvGeometry& g) {
  const KernelTable& k = engine::kernels();
  const WinogradPlan plan = plan_of(x, g);
  const Tensor parts = scratch(x.dtype, {plan.parts}), own = scratch(x.dtype, {plan.gradient_scratch});
  run(k.winograd_gradient, x.dtype,
      WinogradGradientArgs{parts.data, x.data, dy.data, own.data, g, static_cast<bool>(db.tensor), places(where)},
      plan.gradient_chunks, tile_cost(x, g), {writes(parts), writes(own), reads(x), reads(dy), reads(where)});
  run(k.winograd_sum, x.dtype,
      WinogradSumArgs{dw.tensor.data, db.tensor ? db.tensor.data : nullptr, parts.data, g, dw.add, db.add},
      plan.sum_chunks, kernel_cost(x, g) + static_cast<double>(plan.parts) / 4,
      {writes(dw.tensor), writes(db.tensor), reads(parts)});
}

void register_winograd(py::module_& m) {
  m.def("winograd", [] { return kUses[static_cast<int>(use.load())]; });
  m.def(
      "set_winograd",
      [](const std::string& value) {
        for (int i = 0; i < 3; ++i) {
          if (value == kUses[i]) return use.store(static_cast<Use>(i));
        }
        value_error("set_winograd", "use must be 'never', 'auto' or 'always'; received '" + value + "'");
      },
      py::arg("use"));
}

}  // namespace ranvier::ops
