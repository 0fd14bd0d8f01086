"""Which rows a fit sees, which ones score it, and the score."""

from collections.abc import Sequence

import numpy as np

from isotune.simulator.kernels import Array
from isotune.simulator.machine import OpError
from isotune.validation.calibrate.scoring import score
from isotune.validation.tables import Rows

HELD_BACK = 0.2
FEWEST_HELD_BACK = 3
"""A section with fewer rows to hold back keeps none, and reports the errors of its fit."""


def split(groups: Sequence[Rows], seed: int) -> tuple[list[Rows], list[Rows]]:
    """A random fifth of the sizes held back, if that leaves enough rows on both sides."""
    total = sum(len(rows) for rows in groups)
    if total * HELD_BACK < FEWEST_HELD_BACK:
        return list(groups), []
    kept, held = [], []
    for rows in groups:
        out = np.random.default_rng(seed).permutation(len(rows)) < round(HELD_BACK * len(rows))
        kept.append(rows.take(~out))
        held.append(rows.take(out))
    return [rows for rows in kept if len(rows)], [rows for rows in held if len(rows)]


def thinned(rows: Rows, most: int, seed: int) -> Rows:
    """At most `most` of the rows, chosen at random, in their order."""
    if len(rows) <= most:
        return rows
    return rows.take(np.sort(np.random.default_rng(seed).permutation(len(rows))[:most]))


def op_error(ratio: Array, *, fitted: int, held_back: int) -> OpError:
    """Errors of predicted over measured, shape (rows,), to four decimals."""
    errors = score(ratio)
    return OpError(
        rows=fitted,
        held_back=held_back,
        mape=round(errors.mape, 4),
        median=round(errors.median_ape, 4),
        p90=round(errors.p90_ape, 4),
        bias=round(errors.bias, 4),
    )
