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

// A prediction program applied to one array: the shortest way from an array to an array.
class Caller {
 public:
  Caller(std::shared_ptr<Program> program, const std::shared_ptr<Buffer>& source, const std::shared_ptr<Buffer>& feed,
         const std::shared_ptr<Buffer>& target, py::handle input, const Shape& input_shape, py::handle output,
         Shape output_shape)
      : program_(std::move(program)),
        source_(source),
        feed_(feed),
        target_(target),
        input_(dtype_from(input)),
        input_shape_(input_shape),
        output_(dtype_from(output)),
        output_shape_(std::move(output_shape)) {}

  // None where x is not of the dtype and shape that the program is for.
  py::object operator()(py::handle x_) const {
    const Tensor x = read(x_, "call", "x");
    if (x.dtype != input_ || x.shape != input_shape_) return py::none();
    Tensor like;
    const Tensor y = result(py::none(), like, output_, output_shape_, "call");
    auto* source = reinterpret_cast<Source*>(source_->data);
    auto* target = reinterpret_cast<Source*>(target_->data);
    auto* feed = reinterpret_cast<Feed*>(feed_->data);
    *source = {x.data, x.bytes() / x.shape[0]};
    *target = {y.data, y.bytes() / y.shape[0]};
    *feed = {nullptr, 0};
    constexpr double kReleaseCost = 10e3;
    if (program_->cost() > kReleaseCost) {
      py::gil_scoped_release release;
      program_->run(1, 0);
    } else {
      program_->run(1, 0);
    }
    throw_raised();
    return y.object;
  }

 private:
  std::shared_ptr<Program> program_;
  std::shared_ptr<Buffer> source_, feed_, target_;
  DType input_;
  Shape input_shape_;
  DType output_;
  Shape output_shape_;
};

}  // namespace

void register_program(py::module_& m) {
  py::class_<engine::Pool, std::shared_ptr<engine::Pool>>(m, "Pool")
      .def(py::init<>())
      .def_property_readonly("bytes", &engine::Pool::bytes);
  py::class_<Program, std::shared_ptr<Program>>(m, "Program")
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
      .def_property_readonly("measured", &Program::measured)
      .def_property_readonly("plan",
                             [](const Program& program) {
                               py::list plan;
                               for (const Program::Planned& p : program.planned()) {
                                 plan.append(py::make_tuple(p.cost, p.chunks, p.owner, p.barrier));
                               }
                               return plan;
                             })
      .def("__len__", &Program::length);
  py::class_<Caller>(m, "Caller")
      .def(py::init<std::shared_ptr<Program>, const std::shared_ptr<Buffer>&, const std::shared_ptr<Buffer>&,
                    const std::shared_ptr<Buffer>&, py::handle, const Shape&, py::handle, Shape>())
      .def("__call__", &Caller::operator());
  m.def("submit_python", submit_python);
  m.def("set_mode", [](const std::string& mode) {
    engine::set_mode(mode == "record" ? engine::Mode::record : engine::Mode::run_and_record);
  });
  m.def("share_above", engine::share_above, py::arg("nanoseconds"));
  m.def(
      "cut_above", [](double nanoseconds) { return std::exchange(engine::cut_above, nanoseconds); },
      py::arg("nanoseconds"));
  m.def("recording", [] { return engine::recording() != nullptr; });
}

}  // namespace ranvier::ops
