"""What runs: version, kernels, threads."""

from __future__ import annotations

import numpy as np

from ranvier import _core
from ranvier.version import __version__

__all__ = ["num_threads", "set_num_threads", "show_config"]


def num_threads() -> int:
    """How many threads large work is shared among."""
    return _core.threads()


def set_num_threads(count: int) -> None:
    """Share large work among this many threads; results do not depend on it.

    Args:
        count: at least 1. The default is `OMP_NUM_THREADS`, or the processors of this process.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"[set_num_threads] count must be a positive integer; received {count!r}")
    _core.set_threads(count)


def show_config(print_fn=print) -> None:
    """Print version, the kernels chosen for this CPU, threads, compiler and NumPy's version."""
    print_fn(f"ranvier   {__version__}")
    print_fn(
        f"kernels   {_core.kernel_isa()} (this CPU can run {', '.join(_core.supported_isas())})"
    )
    print_fn(f"threads   {_core.threads()}")
    print_fn(f"compiler  {_core.compiler}")
    print_fn(f"numpy     {np.__version__}")
