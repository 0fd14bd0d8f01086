"""Which rows a fit sees, which ones score it, and the score."""

from collections.abc import Sequence
from zlib import crc32

import numpy as np
import numpy.typing as npt

from isotune.simulator.kernels import Array
from isotune.simulator.machine import OpError
from isotune.validation.calibrate.scoring import score
from isotune.validation.tables import Rows

HELD_BACK = 0.2
FEWEST_HELD_BACK = 3
"""A section with fewer rows to hold back keeps none, and reports the errors of its fit."""


_BY_SHAPE = ("mla_attention", "moe")
"""Operations of which half the shapes are held back; so of products in other types than 16 bits."""


def split(groups: Sequence[Rows], seed: int) -> tuple[list[Rows], list[Rows]]:
    """A random fifth of the sizes held back, if that leaves enough rows on both sides.

    Where types, engines or distributions repeat the same shapes (see `_BY_SHAPE`), half the
    shapes, so that no shape is on both sides.
    """
    total = sum(len(rows) for rows in groups)
    if total * HELD_BACK < FEWEST_HELD_BACK:
        return list(groups), []
    kept, held = [], []
    for rows in groups:
        out = _by_shape(rows, seed) if _repeats_shapes(rows) else _fifth(rows, seed)
        kept.append(rows.take(~out))
        held.append(rows.take(out))
    return [rows for rows in kept if len(rows)], [rows for rows in held if len(rows)]


def _repeats_shapes(rows: Rows) -> bool:
    return rows.op in _BY_SHAPE or (rows.op == "gemm" and not rows.operands.usual)


def _fifth(rows: Rows, seed: int) -> npt.NDArray[np.bool_]:
    chosen = np.random.default_rng(seed).permutation(len(rows))
    return np.asarray(chosen < round(HELD_BACK * len(rows)))


def _by_shape(rows: Rows, seed: int) -> npt.NDArray[np.bool_]:
    """Every other shape by a hash of its sizes."""
    shapes = zip(*(sizes.astype(int).tolist() for sizes in rows.sizes.values()), strict=True)
    return np.array([crc32(repr((seed, *shape)).encode()) % 2 == 1 for shape in shapes])


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
