"""A pattern of block kinds, as people read it."""

from collections.abc import Sequence
from string import ascii_uppercase

_LONGEST = 16


def picture(pattern: Sequence[int]) -> str:
    """Kinds as letters, repetitions counted: `(AAB) x 10, A x 2`."""
    found: list[str] = []
    rest = "".join(ascii_uppercase[kind % len(ascii_uppercase)] for kind in pattern)
    while rest:
        period, times = _repetition(rest)
        unit = rest[:period]
        shown = f"({unit})" if period > 1 and times > 1 else unit
        found.append(f"{shown} x {times}" if times > 1 else shown)
        rest = rest[period * times :]
    return ", ".join(found)


def _repetition(text: str) -> tuple[int, int]:
    """Length of the unit whose repetitions cover most of the start of a text, and their number."""
    best = (1, 1)
    for period in range(1, min(_LONGEST, len(text)) + 1):
        unit, times = text[:period], 1
        while text.startswith(unit, period * times):
            times += 1
        if times > 1 and period * times > best[0] * best[1]:
            best = period, times
    return best
