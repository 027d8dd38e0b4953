"""The package as it was built and as it is imported: tiers kept apart, quiet, safe beside others.

Most of it runs in processes of its own. The tests of the object files look into build/ of this
tree, or into the folder that RANVIER_BUILD_DIR names.
"""

from __future__ import annotations

import ast
import functools
import importlib.resources
import inspect
import json
import multiprocessing
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ranvier
from ranvier import _core, ops

ROOT = Path(__file__).resolve().parents[1]


def run(code, *arguments, command=(), timeout=60, **variables):
    """`command python -c code arguments`; variables are added to the environment."""
    environment = {k: v for k, v in os.environ.items() if k != "RANVIER_ISA"} | variables
    return subprocess.run(
        [*command, sys.executable, "-W", "error", "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def result_of(code, *arguments, **options):
    """What the program printed last, as JSON."""
    done = run(code, *arguments, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


TRAIN = """
import json
import numpy as np
import ranvier

def train():
    ranvier.utils.set_random_seed(1)
    x = np.random.default_rng(0).random((96, 37), np.float32)
    hidden = ranvier.layers.Dense(19, activation="gelu")
    model = ranvier.Sequential([ranvier.Input((37,)), hidden, ranvier.layers.Dense(37)])
    model.compile(optimizer="adam", loss="mse")
    return model.fit(x, x, epochs=3, shuffle=False, verbose=0).history["loss"]
"""
REPORT = """
print(json.dumps([ranvier._core.supported_isas(), ranvier._core.kernel_isa(), train()]))
"""

# ---- object files ----------------------------------------------------------------------------


@functools.cache
def kernel_objects():
    """tier -> its object files, of every build in this tree."""
    named = os.environ.get("RANVIER_BUILD_DIR")
    builds = [Path(named)] if named else sorted((ROOT / "build").glob("*"))
    found = {}
    for build in builds:
        for folder in sorted(build.glob("CMakeFiles/kernels_*.dir")):
            tier = folder.stem.removeprefix("kernels_")
            found.setdefault(tier, []).extend(sorted(folder.rglob("*.o")))
    if named:
        assert found, f"RANVIER_BUILD_DIR={named} holds no CMakeFiles/kernels_*.dir"
    if not found:
        pytest.skip("no object files: the package was not built from this tree")
    return found


def tool(name):
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def symbols(*options):
    """Yield (tier, object's name, symbol, type) of every kernel object."""
    nm = tool("nm")
    for tier, objects in kernel_objects().items():
        for path in objects:
            command = [nm, "-P", *options, str(path)]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            for line in text.splitlines():
                name, kind = line.split()[:2]
                if sys.platform == "darwin":
                    name = name.removeprefix("_")
                yield tier, path.name, name, kind


def belongs(name, tier):
    """Whether a mangled name lies in namespace ranvier::tier."""
    return name.startswith(f"_ZN7ranvier{len(tier)}{tier}")


def test_every_tier_has_the_same_kernels():
    names = {tier: {path.name for path in paths} for tier, paths in kernel_objects().items()}
    sources = {f"{path.name}.o" for path in (ROOT / "csrc" / "kernels").glob("*.cpp")}
    assert set(names) >= set(_core.supported_isas())
    for tier, objects in names.items():
        assert objects >= sources, tier


def test_kernels_export_no_weak_symbol():
    # The linker keeps one copy of a weak symbol, of whichever tier: AVX-512 code on an old CPU.
    weak = [s for s in symbols() if s[3] in "WwVvu"]
    assert weak == []


def test_kernels_define_names_of_their_tier_only():
    defined = [s for s in symbols("-g") if s[3] != "U"]
    assert len(defined) >= len(_core.supported_isas())
    assert [s for s in defined if not belongs(s[2], s[0])] == []


def test_kernels_need_their_tier_and_plain_c_only():
    runtime = re.compile(r"_Z|__cxa|_?Py|(m|c|re)alloc$|free$|G?OMP|__kmpc")
    needed = [s for s in symbols("-u") if runtime.match(s[2]) and not belongs(s[2], s[0])]
    assert needed == []


def test_kernels_run_nothing_when_they_are_loaded():
    initialisers = [s for s in symbols() if s[2].startswith(("_GLOBAL__sub_I", "_GLOBAL__I"))]
    assert initialisers == []


# What a tier's code must not contain: registers of 512 bits, those that AVX-512 added (masks, and
# vectors from number 16 on), those of 256 bits, instructions in VEX form.
AVX512 = r"%zmm|%k[0-7]\b|%[xy]mm(1[6-9]|2\d|3[01])\b"
AVX = r"%ymm|\tv[a-z]"


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="not an x86 CPU")
@pytest.mark.parametrize(
    ("tier", "has", "has_not"),
    [("sse4", r"%xmm", f"{AVX}|{AVX512}"), ("avx2", r"%ymm", AVX512), ("avx512", r"%zmm", None)],
    ids=["sse4", "avx2", "avx512"],
)
def test_instructions_are_those_of_the_tier(tier, has, has_not):
    objdump = tool("objdump")
    found = False
    for path in kernel_objects()[tier]:
        command = [objdump, "-d", "--no-show-raw-insn", str(path)]
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found |= re.search(has, code) is not None
        foreign = has_not and re.search(f".*({has_not}).*", code)
        assert not foreign, f"{path.name}: {foreign[0]}"
    assert found


# ---- other compilers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compiler", "machine", "options"),
    [
        ("clang++", "x86_64", ["-DRANVIER_TIER=avx512", "-march=x86-64-v4"]),
        ("aarch64-linux-gnu-g++", None, ["-DRANVIER_TIER=generic", "-Wno-psabi"]),
    ],
    ids=["Clang", "AArch64"],
)
def test_other_compilers_accept_the_kernels(compiler, machine, options):
    """Read and checked only, templates too: a build would take minutes."""
    if machine not in (None, platform.machine()):
        pytest.skip(f"this machine is no {machine}")
    sources = sorted(map(str, (ROOT / "csrc" / "kernels").glob("*.cpp")))
    command = [tool(compiler), "-std=c++17", "-fsyntax-only", "-fopenmp-simd", f"-I{ROOT / 'csrc'}"]
    done = subprocess.run(
        [*command, *options, *sources], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


# ---- tiers at work ---------------------------------------------------------------------------


@functools.cache
def trained_on(isa):
    return result_of(TRAIN + REPORT, RANVIER_ISA=isa)


@pytest.mark.parametrize("isa", _core.supported_isas())
def test_training_on_each_tier(isa):
    _, ran, losses = trained_on(isa)
    assert ran == isa
    assert losses[-1] < losses[0]
    assert losses == pytest.approx(trained_on(_core.supported_isas()[0])[2], rel=1e-5)


def emulator(cpu):
    """The command before python that shows the program another CPU."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("not an x86 CPU")
    qemu = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if qemu is None:
        pytest.skip("qemu-x86_64 is not installed (qemu-user)")
    # NumPy's OpenBLAS takes a host it knows for the emulated CPU, and runs what that one lacks.
    return [qemu, "-E", f"OPENBLAS_CORETYPE={cpu}", "-cpu", cpu]


@pytest.mark.parametrize(("cpu", "isa"), [("Nehalem", "sse4"), ("Haswell", "avx2")])
def test_training_on_an_older_cpu(cpu, isa):
    """Nehalem has no AVX and Haswell no AVX-512: a foreign instruction would end the process."""
    supported, ran, losses = result_of(TRAIN + REPORT, command=emulator(cpu), timeout=300)
    if isa == "avx2" and supported == ["sse4"]:
        pytest.skip("this qemu does not emulate AVX2")
    assert supported[0] == ran == isa
    assert np.isfinite(losses).all()
    assert losses == pytest.approx(trained_on(isa)[2], rel=1e-5)


def test_a_tier_that_the_cpu_lacks_is_refused_not_tried():
    done = run("import ranvier", command=emulator("Nehalem"), timeout=300, RANVIER_ISA="avx2")
    assert done.returncode == 1, done.stderr
    assert "RANVIER_ISA=avx2 is not supported by this processor" in done.stderr


# ---- import ----------------------------------------------------------------------------------

IMPORT = """
import json, sys

def watch(event, arguments):
    if event.partition(".")[0] in ("socket", "urllib", "http", "subprocess", "os.system"):
        events.append(event)

events, before, threads = [], set(sys.modules), len(sys._current_frames())
sys.addaudithook(watch)
import ranvier
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps([sorted(new - sys.stdlib_module_names), events]))
assert len(sys._current_frames()) == threads
"""


def test_import_is_quiet_and_loads_numpy_alone():
    done = run(IMPORT)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1
    modules, events = json.loads(done.stdout)
    assert modules == ["numpy", "ranvier"]
    assert events == []


def test_import_leaves_the_random_streams_alone():
    code = """
import random
import numpy as np
random.seed(1)
np.random.seed(1)
expected = [random.random(), np.random.rand()]
random.seed(1)
np.random.seed(1)
import ranvier
ranvier.layers.Dense(3)(np.ones((2, 3), np.float32))
assert [random.random(), np.random.rand()] == expected
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_denormals_survive_in_the_callers_threads():
    code = (
        """
import sys, threading
import numpy as np

def kept():
    tiny = np.full(1000, 1e-40, np.float32)
    assert (tiny * np.float32(0.5) > 0).all()  # neither the input counts as zero nor the result
    assert (np.full(1000, 1e-310) * 0.5 > 0).all()
    assert sys.float_info.min / 4 > 0

kept()
"""
        + TRAIN
        + """
kept()
ranvier.set_num_threads(2)
ranvier.ops.activation(np.ones(10, np.float32), "tanh")
kept()
ranvier.ops.dense(*np.ones((2, 500, 500), np.float32))  # shared among threads
kept()
train()
kept()
errors = []
threading.excepthook = errors.append
thread = threading.Thread(target=kept)
thread.start()
thread.join()
assert not errors, errors
"""
    )
    done = run(code)
    assert done.returncode == 0, done.stderr


# ---- processes -------------------------------------------------------------------------------

PROCESSES = (
    TRAIN
    + """
import multiprocessing as mp
import sys

LIMIT = 20  # seconds

def work():
    product = ranvier.ops.dense(*np.ones((2, 500, 500), np.float32))  # shared among threads
    return [float(product.sum()), *train()]

def child(end):
    end.send(work())

if __name__ == "__main__":
    ranvier.set_num_threads(2)
    results = {"before": work()}
    for method in sys.argv[1:]:
        context = mp.get_context(method)
        ours, theirs = context.Pipe()
        process = context.Process(target=child, args=(theirs,))
        process.start()
        results[method] = ours.recv() if ours.poll(LIMIT) else "nothing in time"
        process.join(LIMIT)
        if process.is_alive():
            results[method] = "does not end"
            process.kill()
    results["after"] = work()
    print(json.dumps(results))
"""
)


def test_children_and_parent_go_on_after_a_fork(tmp_path):
    methods = [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()]
    program = tmp_path / "processes.py"  # a file, for spawn imports it
    program.write_text(PROCESSES)
    done = subprocess.run(
        [sys.executable, str(program), *methods], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert set(results) == {"before", *methods, "after"}
    assert results["before"][0] == 500**3
    for who, values in results.items():
        assert values == results["before"], who  # any number of threads gives the same bits


# ---- what is shipped and shown ---------------------------------------------------------------


def test_show_config(capsys):
    lines = []
    ranvier.show_config(print_fn=lines.append)
    shown = dict(line.split(maxsplit=1) for line in lines)
    assert list(shown) == ["ranvier", "kernels", "threads", "compiler", "numpy"]
    assert shown["ranvier"] == ranvier.__version__
    assert shown["kernels"].split()[0] == _core.kernel_isa()
    for isa in _core.supported_isas():
        assert isa in shown["kernels"]
    assert shown["threads"] == str(ranvier.num_threads())
    assert re.search(r"\d+\.\d+", shown["compiler"])
    assert shown["numpy"] == np.__version__
    ranvier.show_config()
    assert capsys.readouterr().out.splitlines() == lines


def test_the_package_ships_its_data():
    package = importlib.resources.files("ranvier")
    assert (package / "py.typed").is_file()
    assert (package / "_core.pyi").is_file()
    assert (package / "datasets" / "digits.npz").stat().st_size > 10_000


def test_ops_are_functions():
    """Not the modules of the same names."""
    for name in ops.__all__:
        assert inspect.isfunction(getattr(ops, name)), name


def stub():
    """name -> the definition of it in _core.pyi, with names in classes as "Class.name"."""
    tree = ast.parse(Path(_core.__file__).with_name("_core.pyi").read_text())
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = node
            inside = [
                item for item in node.body if isinstance(item, (ast.FunctionDef, ast.AnnAssign))
            ]
            found |= {f"{node.name}.{name_of(item)}": item for item in inside}
        elif isinstance(node, (ast.FunctionDef, ast.AnnAssign)):
            found[name_of(node)] = node
    return found


def name_of(node):
    return node.target.id if isinstance(node, ast.AnnAssign) else node.name


def compiled():
    """name -> the object, named likewise."""
    found = {name: getattr(_core, name) for name in dir(_core)}
    for name, item in list(found.items()):
        if isinstance(item, type):
            found |= {f"{name}.{member}": value for member, value in vars(item).items()}
    return {k: v for k, v in found.items() if not k.rpartition(".")[2].startswith("_")}


def test_the_stub_names_what_the_module_exports():
    public = {name for name in stub() if not name.rpartition(".")[2].startswith("_")}
    assert public == set(compiled())


def test_the_stub_has_the_arguments_of_the_module():
    definitions = stub()
    compared = 0
    for name, item in compiled().items():
        node, text = definitions[name], (getattr(item, "__doc__", None) or "").partition("\n")[0]
        if isinstance(node, ast.FunctionDef) and text.startswith(f"{name.rpartition('.')[2]}("):
            stubbed = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
            actual = re.findall(r"[(\s](\w+): ", text)
            assert len(stubbed) == len(actual), text
            named = [a for a in actual if not re.fullmatch(r"arg\d+", a)]
            assert named in ([], [a for a in stubbed if a != "self"], stubbed), text
            compared += 1
    assert compared > 40
