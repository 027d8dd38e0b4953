// Program: a recorded step, as Python sees it; and the one way for Python to be part of a step.
#include <exception>

#include "ops/tensor.h"

namespace ranvier::ops {
namespace {

using engine::Program;

// What a call back into Python raised, until the run that made it has ended.
thread_local std::exception_ptr raised;

void throw_raised() {
  if (!raised) return;
  const std::exception_ptr error = std::move(raised);
  raised = nullptr;
  std::rethrow_exception(error);
}

struct PythonArgs {
  PyObject* function;
};

// The kernel that calls a function without arguments.
void call_python(const void* args, int64_t, int64_t) {
  py::gil_scoped_acquire acquire;
  Program* const outer = engine::recording();
  engine::set_recording(nullptr);  // what it does is not part of the step: the call itself is
  try {
    py::reinterpret_borrow<py::object>(static_cast<const PythonArgs*>(args)->function)();
  } catch (...) {
    raised = std::current_exception();
    engine::stop_run();
  }
  engine::set_recording(outer);
}

// Calls a function now and, in a recorded step, at each repetition.
void submit_python(const py::object& function) {
  if (Program* program = engine::recording()) {
    program->keep(std::shared_ptr<void>(py::object(function).release().ptr(), [](void* p) {
      py::gil_scoped_acquire acquire;
      Py_DECREF(static_cast<PyObject*>(p));
    }));
  }
  const PythonArgs args{function.ptr()};
  engine::submit(call_python, &args, sizeof args, 1, 0);
  throw_raised();
}

int64_t run_program(Program& program, int64_t steps, double seconds) {
  int64_t done = 0;
  {
    py::gil_scoped_release release;
    done = program.run(steps, seconds);
  }
  throw_raised();
  return done;
}

}  // namespace

void register_program(py::module_& m) {
  py::class_<engine::Pool, std::shared_ptr<engine::Pool>>(m, "Pool")
      .def(py::init<>())
      .def_property_readonly("bytes", &engine::Pool::bytes);
  py::class_<Program>(m, "Program")
      .def(py::init<std::shared_ptr<engine::Pool>>(), py::arg("pool"))
      .def("begin",
           [](Program& program) {
             if (engine::recording()) throw std::runtime_error("a step is being recorded already");
             engine::set_recording(&program);
           })
      .def("end",
           [](Program& program) {
             engine::set_recording(nullptr);
             program.finish();
           })
      .def("run", run_program, py::arg("steps"), py::arg("seconds"))
      .def("__len__", &Program::length);
  m.def("submit_python", submit_python);
  m.def("recording", [] { return engine::recording() != nullptr; });
}

}  // namespace ranvier::ops
