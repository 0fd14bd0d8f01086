"""What the model says a row of measurements should take on a machine."""

from collections.abc import Callable
from typing import Any

import numpy as np

from isotune.simulator.errors import InputError
from isotune.simulator.kernels import (
    KINDS,
    Array,
    ExpertsShape,
    Selected,
    attention_cost,
    collective_cost,
    elementwise_cost,
    experts_cost,
    gemm_cost,
    repeated_latent_attention_cost,
)
from isotune.simulator.machine import HardwareProfile
from isotune.simulator.number_types import bytes_of
from isotune.validation.tables.kernel_table import Rows, power_law

NORM_PASSES = 4
"""Streams of a fused residual add and RMS norm: it reads two and writes two."""
UNGATED = ((2688, 1856), (2048, 5120))
"""Hidden and intermediate size of experts with two matrices (squared ReLU): NVIDIA's Nemotron 3
Nano and Super, in the tables of aiconfigurator, which have no column for it."""


def kernel_seconds(rows: Rows, profile: HardwareProfile) -> Array:
    """Seconds of every row, shape (rows,), as in a microbenchmark: operands may still be in L2.

    Raises:
        InputError: an operation without a model, a dtype this GPU does not multiply, an unknown
            algorithm of a collective.
    """
    if rows.op not in _PRICES:
        raise InputError("not modelled")
    return np.asarray(_PRICES[rows.op](rows, profile), dtype=np.float64)


def chosen_set(rows: Rows, profile: HardwareProfile) -> tuple[str, Selected[Any]] | None:
    """The section and the set that price rows of a kernel: that of the engine that ran it, where
    the profile has one. None for collectives, whose parameters go by algorithm.

    Raises:
        InputError: a profile without such parameters.
    """
    dtype, weight_dtype = rows.operands
    engine = rows.key.engine or None
    if rows.op == "gemm":
        return "gemm", profile.gemm.of(dtype, weight_dtype, engine)
    if rows.op == "attention":
        return "attention", profile.attention.of(dtype, engine=engine)
    if rows.op == "mla_attention":
        return "latent_attention", profile.latent_kernels(dtype, engine)
    if rows.op == "moe":
        return "experts", profile.expert_kernels(dtype, weight_dtype, engine)
    if rows.op in ("rms_norm", "quantize"):
        return "elementwise", profile.elementwise.of(dtype, engine=engine)
    return None


def _parameters(rows: Rows, profile: HardwareProfile) -> Any:
    found = chosen_set(rows, profile)
    assert found is not None
    return found[1].parameters


def _gemm(rows: Rows, profile: HardwareProfile) -> Array:
    dtype, weight_dtype = rows.operands
    return gemm_cost(
        *rows.sizes.values(),
        gpu=profile.gpu,
        parameters=_parameters(rows, profile),
        dtype=dtype,
        weight_dtype=weight_dtype,
        warm_l2=True,
    ).seconds


def _attention(rows: Rows, profile: HardwareProfile) -> Array:
    return attention_cost(
        *rows.sizes.values(),
        gpu=profile.gpu,
        parameters=_parameters(rows, profile),
        dtype=rows.dtype,
        warm_l2=True,
    ).seconds


def _latent_attention(rows: Rows, profile: HardwareProfile) -> Array:
    sizes = rows.sizes
    return repeated_latent_attention_cost(
        sizes["batch"],
        sizes["q_len"],
        sizes["kv_len"] - sizes["q_len"],
        sizes["heads"],
        gpu=profile.gpu,
        parameters=_parameters(rows, profile),
        dtype=rows.dtype,
    ).seconds


def _experts(rows: Rows, profile: HardwareProfile) -> Array:
    tokens, hidden, intermediate, experts, top_k, tp, ep = rows.sizes.values()
    ungated = [(hidden == h) & (intermediate == i) for h, i in UNGATED]
    matrices = np.where(np.any(ungated, axis=0), 2, 3)
    dtype, weight_dtype = rows.operands
    both = experts_cost(
        tokens,
        ExpertsShape(hidden, intermediate, experts, top_k, tp, ep, matrices),
        gpu=profile.gpu,
        parameters=_parameters(rows, profile),
        dtype=dtype,
        weight_dtype=weight_dtype,
        imbalance=power_law(rows.key.distribution),
    )
    return both.up.seconds + both.down.seconds


def _norm(rows: Rows, profile: HardwareProfile) -> Array:
    return _moved(rows, profile, bytes_of(rows.dtype) * NORM_PASSES)


def _quantise(rows: Rows, profile: HardwareProfile) -> Array:
    return _moved(rows, profile, bytes_of("bf16") + bytes_of(rows.dtype))


def _moved(rows: Rows, profile: HardwareProfile, element_bytes: float) -> Array:
    return elementwise_cost(
        rows.sizes["tokens"],
        rows.sizes["hidden"] * element_bytes,
        gpu=profile.gpu,
        parameters=_parameters(rows, profile),
        warm_l2=True,
    ).seconds


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


_PRICES: dict[str, Callable[[Rows, HardwareProfile], Array]] = {
    "gemm": _gemm,
    "attention": _attention,
    "mla_attention": _latent_attention,
    "moe": _experts,
    "rms_norm": _norm,
    "quantize": _quantise,
    **dict.fromkeys(KINDS, _collective),
}


def why_not(rows: Rows, profile: HardwareProfile) -> str:
    """Why rows of this kind cannot be predicted on this machine; empty if they can."""
    if not len(rows):
        return "no rows"
    try:
        kernel_seconds(rows.take(np.arange(1)), profile)
    except InputError as error:
        return str(error)
    return ""
