"""The two ways to run the functions of `walk`: as Python, or compiled by numba.

Both give the same numbers to the last bit. Numba takes longer to import than Python takes for a
few plans.
"""

import sys
from collections.abc import Callable
from functools import cache
from itertools import count
from types import FunctionType
from typing import Any, NamedTuple

from isotune.simulator.automaton import walk as source

_FEW = 100
"""Calls of `cheapest` after which numba is worth its import."""


class Engine(NamedTuple):
    """`walk` times plans (see `walk.walk`); `run_part` runs one part from a state."""

    walk: Callable[..., None]
    run_part: Callable[..., tuple[float, float]]


INTERPRETED = Engine(source.walk, source.run_part)


@cache
def compiled() -> Engine:
    """Compile with numba and keep the result on disk; only in memory if no folder is writable."""
    import numba

    names: dict[str, Any] = dict(vars(source))
    for function in source.FUNCTIONS:
        plain = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
        try:
            names[function.__name__] = numba.njit(cache=True, nogil=True)(plain)
        except RuntimeError:
            names[function.__name__] = numba.njit(nogil=True)(plain)
    return Engine(names["walk"], names["run_part"])


_calls = count(1)


def cheapest() -> Engine:
    """The interpreted engine for the first few calls of a process, then the compiled one."""
    worth = next(_calls) > _FEW or "numba" in sys.modules
    return compiled() if worth else INTERPRETED
