// The extension module: a table of contents.
#include "engine/team.h"
#include "ops/tensor.h"

namespace py = pybind11;

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  using namespace ranvier;
  try {
    engine::choose_kernels();
  } catch (const std::runtime_error& error) {
    throw py::import_error(error.what());
  }
  ops::register_buffer(m);
  ops::register_activation(m);
  ops::register_conv2d(m);
  ops::register_data(m);
  ops::register_dense(m);
  ops::register_dropout(m);
  ops::register_losses(m);
  ops::register_merge(m);
  ops::register_metrics(m);
  ops::register_norm(m);
  ops::register_optimizers(m);
  ops::register_pool(m);
  ops::register_program(m);
  ops::register_transpose(m);
  ops::register_augment(m);
  ops::register_yardstick(m);
  ops::register_winograd(m);

  m.def("isa", engine::isa);
  m.def("kernel_isa", [] { return engine::kernels().isa(); });
  m.def("supported_isas", engine::supported_isas);
  m.def("threads", engine::threads);
  m.def("set_threads", engine::set_threads, py::arg("count"));
#if defined(__clang__)
  m.attr("compiler") = "Clang " __clang_version__;
#else
  m.attr("compiler") = "GCC " __VERSION__;
#endif
}
