"""Where seeds come from when nobody gives one.

Ranvier has a stream of its own, so that a program which draws from `np.random` between two layers
changes none of their weights. It begins with entropy from the operating system, and
`set_random_seed` makes it repeatable. A forked child goes on from its parent's place, as NumPy's
global stream does: children that should differ call `set_random_seed`.
"""

from __future__ import annotations

import operator
import random

import numpy as np

__all__ = ["generator", "next_seed", "set_random_seed"]

# Python's generator, since one call of its C code is atomic: no lock that a fork could leave shut.
_stream = random.Random()


def check_seed(owner: str, seed: int | None) -> int | None:
    """Return seed as a Python int, or None; `owner` is named in the error.

    Raises:
        ValueError: if seed is neither None nor a non-negative integer.
    """
    if seed is None:
        return None
    try:
        value = -1 if isinstance(seed, (bool, np.bool_)) else operator.index(seed)
    except TypeError:
        value = -1
    if value < 0:
        raise ValueError(f"[{owner}] seed must be None or an integer >= 0; received seed={seed!r}")
    return value


def set_random_seed(seed: int) -> None:
    """Seed Python's `random`, NumPy's global stream and Ranvier's own stream.

    Args:
        seed: integer in [0, 2**32), which is the range that NumPy's global stream takes.

    Raises:
        ValueError: if seed is no such integer; nothing has been seeded then.
    """
    value = check_seed("set_random_seed", seed)
    if value is None or value >= 2**32:
        raise ValueError(
            f"[set_random_seed] seed must be an integer in [0, 2**32); received seed={seed!r}"
        )
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002  (the user's own code may draw from it)
    _stream.seed(f"ranvier {value}")  # a text, so that it does not repeat `random`'s numbers


def next_seed() -> int:
    """Draw a fresh seed from Ranvier's own stream; safe to call from several threads.

    Returns:
        An integer in [0, 2**63), which fits a signed and an unsigned 64-bit integer.
    """
    return _stream.getrandbits(63)


def generator(seed: int | None = None) -> np.random.Generator:
    """Make a NumPy generator (PCG64), from `seed` or, for None, from `next_seed()`.

    Raises:
        ValueError: if seed is neither None nor a non-negative integer.
    """
    value = check_seed("generator", seed)
    return np.random.Generator(np.random.PCG64(next_seed() if value is None else value))
