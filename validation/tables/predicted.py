"""What the model says a row of measurements should take on a machine."""

import numpy as np

from isotune.simulator.errors import InputError
from isotune.simulator.kernels import (
    KINDS,
    Array,
    attention_cost,
    collective_cost,
    elementwise_cost,
    gemm_cost,
)
from isotune.simulator.machine import HardwareProfile
from isotune.simulator.number_types import bytes_of
from isotune.validation.tables.kernel_table import Rows

NORM_PASSES = 4
"""Streams of a fused residual add and RMS norm: it reads two and writes two."""


def kernel_seconds(rows: Rows, profile: HardwareProfile) -> Array:
    """Seconds of every row, shape (rows,), as in a microbenchmark: operands may still be in L2.

    Raises:
        InputError: a dtype this GPU does not multiply, or an unknown algorithm of a collective.
    """
    sizes, dtype = rows.sizes, rows.dtype
    if rows.op == "gemm":
        cost = gemm_cost(
            *sizes.values(),
            gpu=profile.gpu,
            parameters=profile.gemm.of(dtype).parameters,
            dtype=dtype,
            warm_l2=True,
        ).seconds
    elif rows.op == "attention":
        cost = attention_cost(
            *sizes.values(),
            gpu=profile.gpu,
            parameters=profile.attention.of(dtype).parameters,
            dtype=dtype,
            warm_l2=True,
        ).seconds
    elif rows.op in KINDS:
        cost = _collective(rows, profile)
    elif rows.op == "rms_norm":
        moved = sizes["hidden"] * bytes_of(dtype) * NORM_PASSES
        cost = elementwise_cost(
            sizes["tokens"],
            moved,
            gpu=profile.gpu,
            parameters=profile.elementwise,
            warm_l2=True,
        ).seconds
    else:
        raise TypeError(f"no cost is known for rows of {rows.op}")
    return np.asarray(cost, dtype=np.float64)


def _collective(rows: Rows, profile: HardwareProfile) -> Array:
    seconds = np.empty(len(rows))
    ranks = rows.sizes["ranks"]
    for count in np.unique(ranks):
        of_count = ranks == count
        seconds[of_count] = collective_cost(
            rows.op,
            rows.sizes["bytes"][of_count],
            int(count),
            parameters=profile.collectives,
            algorithm=rows.algorithm,
            dtype=rows.dtype,
        ).seconds
    return seconds


def why_not(rows: Rows, profile: HardwareProfile) -> str:
    """Why rows of this kind cannot be predicted on this machine; empty if they can."""
    if not len(rows):
        return "no rows"
    try:
        kernel_seconds(rows.take(np.arange(1)), profile)
    except InputError as error:
        return str(error)
    return ""
