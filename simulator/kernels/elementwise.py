"""Kernels that only move bytes: norm, RoPE, activation, residual add, quantise."""

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from isotune.simulator.io import Seconds
from isotune.simulator.kernels.cost import Array, Cost
from isotune.simulator.kernels.gpu import Gpu
from isotune.simulator.kernels.parameter_sets import KernelParameters


class ElementwiseParameters(KernelParameters):
    """What a bandwidth-bound kernel attains on one GPU."""

    launch: Seconds = Field(
        gt=0, le=50e-6, description="time of the kernel on one token: launch, ramp-up, drain"
    )
    bandwidth_efficiency: float = Field(
        gt=0.2, le=1, description="attained fraction of device-memory bandwidth"
    )
    l2_speedup: float = Field(
        ge=1, le=10, description="bandwidth on operands found in L2 over that of device memory"
    )


def elementwise_cost(
    tokens: ArrayLike,
    bytes_per_token: ArrayLike,
    *,
    gpu: Gpu,
    parameters: ElementwiseParameters,
    warm_l2: bool = False,
) -> Cost:
    """Cost of a kernel that reads and writes `bytes_per_token` bytes for each of `tokens` tokens.

    The time is launch + bytes / bandwidth (roofline without a compute side). A fused residual
    add and RMS norm of h bf16 values moves 8 h bytes: two inputs, two outputs.

    Args:
        tokens: number of tokens.
        bytes_per_token: bytes read plus bytes written per token; broadcasts against `tokens`.
        gpu: the GPU's specification.
        parameters: what kernels attain on that GPU.
        warm_l2: the operands were touched just before, so what fits in L2 is read from there.

    Returns:
        Costs of the broadcast shape. The kernel has no SM-bound part and its FLOPs count as none.
    """
    bytes_moved = np.multiply(tokens, bytes_per_token, dtype=np.float64)
    hit_rate = l2_hit_rate(bytes_moved, gpu.l2) if warm_l2 else 0.0 * bytes_moved
    cold = 1 - hit_rate
    transfer = bytes_moved * (cold + hit_rate / parameters.l2_speedup) / gpu.memory_bandwidth
    seconds = parameters.launch + transfer / parameters.bandwidth_efficiency
    nothing = np.zeros_like(seconds)
    return Cost(
        seconds=seconds,
        sm_seconds=nothing,
        mem_bytes=bytes_moved * cold,
        flops=nothing,
        load=nothing,
    )


def l2_hit_rate(touched: Array, l2: float) -> Array:
    """Fraction of `touched` bytes found in a cache of `l2` bytes on a second pass over them.

    All of them while they fit, none from twice the cache on, and linear between: a cyclic walk
    evicts before it returns, and the replacement policy is not strictly least recently used.
    """
    return np.clip(2.0 - touched / l2, 0.0, 1.0)
