"""How far predictions are off: errors as fractions of the measurement."""

from dataclasses import dataclass

import numpy as np

from isotune.simulator.kernels import Array


@dataclass(frozen=True, kw_only=True)
class Score:
    """Errors of a set of rows.

    With e = predicted / measured - 1: mean, median and 90th percentile of |e|, and `bias`, the
    median of e, as in a profile's `calibration`.
    """

    rows: int
    mape: float
    median_ape: float
    p90_ape: float
    bias: float


def score(ratio: Array) -> Score:
    """The errors of predicted over measured, shape (rows,), at least one row."""
    off = np.asarray(ratio, dtype=np.float64) - 1.0
    size = np.abs(off)
    return Score(
        rows=len(off),
        mape=float(size.mean()),
        median_ape=float(np.median(size)),
        p90_ape=float(np.quantile(size, 0.9)),
        bias=float(np.median(off)),
    )
