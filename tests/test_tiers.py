"""Each ISA tier of this CPU gives the oracle's answers, and the forced tier really ran."""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from ranvier import _core

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
