// The yardsticks of benchmarks: as many multiply-adds as this CPU can do, and a stream of memory.
#include "ops/tensor.h"

namespace ranvier::ops {
namespace {

// Runs `steps` multiply-adds x = x * factor + offset in every chain of every element of y, which are shared among the
// threads, and writes the mean of an element's chains there; they start around `start`. Returns the number of flops.
int64_t peak(py::handle y_, int64_t steps, double start, double factor, double offset) {
  const Tensor like = read_float(y_, "peak", "y");
  const Tensor y = write(y_, like.dtype, like.shape, "peak", "y");
  if (steps < 0) value_error("peak", "steps must not be negative; received " + std::to_string(steps));
  const int64_t chunks = y.size();
  const int64_t flops = engine::kernels().peak_flops[y.dtype == DType::f64] * steps;
  run(engine::kernels().peak, y.dtype, PeakArgs{y.data, steps, start, factor, offset}, chunks,
      static_cast<double>(flops) * static_cast<double>(chunks) / 100);
  return flops * chunks;
}

// y = a + scale b, `passes` times over the part of each thread; y may be a, to which scale b is then added again and
// again.
py::object triad(py::handle a_, py::handle b_, double scale, int64_t passes, py::handle out) {
  const Tensor a = read_float(a_, "triad", "a"), b = read_like(b_, a, "triad", "b");
  require_shape(b, a.shape, "triad", "b", "a has");
  if (passes < 1) value_error("triad", "passes must be at least 1; received " + std::to_string(passes));
  const Tensor y = result(out, a, a.shape, "triad");
  if (y.data != a.data) refuse_overlap(y, a, "triad", "a");
  refuse_overlap(y, b, "triad", "b");
  run(engine::kernels().triad, a.dtype, TriadArgs{y.data, a.data, b.data, a.size(), passes, scale},
      chunks_of(a.size(), kElements), static_cast<double>(a.bytes()) * static_cast<double>(passes) * 0.05);
  return y.object;
}

}  // namespace

void register_yardstick(py::module_& m) {
  m.def("peak", peak);
  m.def("triad", triad);
}

}  // namespace ranvier::ops
