"""Each ISA tier of this CPU gives the oracle's answers, and the forced tier really ran."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cases import DTYPES
from ranvier import _core, ops

TIERS = ("avx512", "avx2", "sse4", "generic")  # every name that exists, best first
CHECK = Path(__file__).with_name("tier_check.py")


def run(isa, *arguments, **variables):
    """`python *arguments` with RANVIER_ISA=isa (None: unset) and other environment variables."""
    environment = {k: v for k, v in os.environ.items() if k != "RANVIER_ISA"} | variables
    if isa is not None:
        environment["RANVIER_ISA"] = isa
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


@functools.cache
def report(isa):
    done = run(isa, str(CHECK))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_supported_tiers_are_known_and_best_first():
    supported = _core.supported_isas()
    assert supported == [name for name in TIERS if name in supported]
    if platform.machine().lower() in ("x86_64", "amd64"):
        assert supported[-1] == "sse4"
        assert "generic" not in supported
    else:
        assert supported == ["generic"]


@pytest.mark.parametrize("isa", _core.supported_isas())
def test_every_op_on_this_tier(isa):
    got = report(isa)
    assert got["isa"] == isa
    assert got["kernel_isa"] == isa
    assert got["compared"] > 1000
    assert got["mask"] == report(_core.supported_isas()[-1])["mask"]


@pytest.mark.skipif(
    not {"avx2", "avx512"} <= set(_core.supported_isas()), reason="one of the two is missing"
)
def test_avx2_and_avx512_give_the_same_bits():
    """Of every op: only fma() fuses, sums have one order, and the formulas are the same."""
    a, b = report("avx2")["results"], report("avx512")["results"]
    assert a.keys() == b.keys()
    assert [family for family in a if a[family] != b[family]] == []


@pytest.mark.parametrize("unset", [None, ""])
def test_the_best_tier_runs_by_default(unset):
    code = "from ranvier import _core; print(_core.isa(), _core.kernel_isa())"
    done = run(unset, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [_core.supported_isas()[0]] * 2


@pytest.mark.parametrize(
    "isa", ["nonsense", "AVX", "avx2,sse4", *sorted(set(TIERS) - set(_core.supported_isas()))]
)
def test_a_tier_that_cannot_run_is_refused(isa):
    done = run(isa, "-c", "import ranvier.ops")
    assert done.returncode != 0
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError")
    assert f"RANVIER_ISA={isa} " in message
    for name in _core.supported_isas():
        assert name in message


def test_any_number_of_threads_gives_the_same_bits():
    alone, many = (run(None, str(CHECK), OMP_NUM_THREADS=n) for n in ("1", "3"))
    assert alone.returncode == many.returncode == 0, alone.stderr + many.stderr
    assert alone.stdout == many.stdout


@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
def test_one_to_seven_threads_give_the_same_bits(threads, dtype):
    """Of work large enough to be shared, in chunks that seven do not divide."""
    r = np.random.default_rng(4)
    shape = (311, 1009)
    x, dy, p = (r.normal(0, 2, shape).astype(dtype) for _ in range(3))
    w, labels = r.normal(size=(1009, 203)).astype(dtype), r.integers(0, 1009, 311)

    def work():
        for name in ("exp", "expm1", "log1p", "sin", "cos", "erf", "tanh", "sigmoid", "softplus"):
            yield getattr(ops, name)(x)
        yield ops.log(abs(x))
        for name in ("relu", "elu", "gelu", "gelu_tanh", "silu", "softmax"):
            y = ops.activation(x, name)
            yield from (y, ops.activation_backward(dy, x, y, name))
        for name in ("mean_squared_error", "mean_absolute_error", "categorical_crossentropy"):
            yield from getattr(ops, name)(abs(dy), abs(x), gradient=True)
        yield from ops.binary_crossentropy(abs(dy), x, from_logits=True, gradient=True)
        yield from ops.sparse_categorical_crossentropy(labels, x, from_logits=True, gradient=True)
        for rule, state in ((ops.sgd, ()), (ops.rmsprop, ("v",)), (ops.adam, ("m", "v"))):
            arrays = {"p": p.copy(), **{name: abs(dy) for name in state}}
            rule(g=dy, weight_decay=0.1, **arrays, **({"step": 2} if rule is ops.adam else {}))
            yield from arrays.values()
        yield ops.dropout(x, 0.3, seed=5)
        y = ops.dense(x, w, activation="tanh")
        yield y
        yield from ops.dense_backward(y, x, y, w, activation="tanh")[:2]

    def digests():
        return [hashlib.sha256(np.ascontiguousarray(a)).hexdigest() for a in work()]

    threads(1)
    alone = digests()
    for n in range(2, 8):
        threads(n)
        assert digests() == alone, n
