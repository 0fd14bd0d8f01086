"""The prompt lengths that a policy is searched for: a range, or a table of requests."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isotune.simulator.errors import InputError
from isotune.simulator.io import AboveZero, Count, CsvRow, read_rows

LENGTHS = 64
"""Lengths of a range that are solved exactly at first."""
_LONGEST = 10_000_000
"""The longest prompt in tokens that a table may name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lengths:
    """Prompt lengths in tokens, ascending, and the share of requests each stands for."""

    tokens: tuple[int, ...]
    weights: tuple[float, ...]

    @classmethod
    def between(cls, first: int, last: int) -> "Lengths":
        """Lengths spread evenly over their logarithm, each as likely as another."""
        if not 1 <= first <= last:
            raise InputError(f"--prompt: {first}:{last} is not a range of prompt lengths")
        spread = np.geomspace(first, last, LENGTHS).round().astype(int)
        tokens = tuple(np.unique(spread).tolist())
        return cls(tokens=tokens, weights=(1 / len(tokens),) * len(tokens))


class LengthRow(CsvRow):
    """A prompt length, and how many requests had it."""

    tokens: Count
    count: AboveZero = 1.0


def read_lengths(path: Path) -> Lengths:
    """Lengths from a CSV: a length per line, and optionally how many requests had it.

    Many lengths are gathered into `LENGTHS` groups of neighbours, by their longest.

    Raises:
        InputError: unreadable file, or a line that is not a length (with its number).
    """
    counts: dict[int, float] = {}
    for row in read_rows(path, LengthRow, columns=("tokens", "count")):
        if row.tokens > _LONGEST:
            raise InputError(
                f"{path}: row {row.line}: column tokens: {row.tokens} (allowed: 1 to {_LONGEST})"
            )
        counts[row.tokens] = counts.get(row.tokens, 0.0) + row.count
    tokens = np.array(sorted(counts))
    weights = np.array([counts[length] for length in tokens])
    if len(tokens) > LENGTHS:
        ends = np.unique(np.linspace(1, len(tokens), LENGTHS).round().astype(int))
    else:
        ends = np.arange(1, len(tokens) + 1)
    sums = np.diff(np.cumsum(weights)[ends - 1], prepend=0.0)
    return Lengths(
        tokens=tuple(tokens[ends - 1].tolist()), weights=tuple((sums / weights.sum()).tolist())
    )
