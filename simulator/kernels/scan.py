"""Linear attention with a recurrent state, in its chunked form (arXiv 2312.06635, 2412.06464).

A sequence is cut into pieces of `PIECE` tokens. Inside a piece the products are those of attention
without a softmax; between pieces a state of keys by values passes from one to the next, which no
number of SMs makes faster than one piece after another. Decode reads and writes the state. Nobody
measured these kernels: the cost is a roofline with what prompt attention attains on the machine.
"""

from typing import NamedTuple

import numpy as np

from isotune.simulator.kernels.attention import AttentionParameters
from isotune.simulator.kernels.cost import Array, Cost
from isotune.simulator.kernels.gemm import Size
from isotune.simulator.kernels.gpu import Gpu

PIECE = 64
STATE_BYTES = 4
KERNELS = 4
"""Launches of a prompt: inside the pieces, the delta rule's inverse, the states, the outputs."""


class ScanSizes(NamedTuple):
    """Heads on this GPU, the key heads that they share, and the two sides of a head's state.

    `delta` says that the state is corrected by what it already holds of a key.
    """

    heads: int
    key_heads: int
    key_dim: int
    value_dim: int
    delta: bool


def scan_cost(
    requests: Size,
    tokens: Size,
    sizes: ScanSizes,
    *,
    gpu: Gpu,
    parameters: AttentionParameters,
    width: float = 2.0,
) -> Cost:
    """Cost of the scan of `tokens` tokens of each of `requests` sequences.

    Args:
        requests: sequences of equal length.
        tokens: new tokens of each.
        sizes: heads and their states.
        gpu: the GPU's specification.
        parameters: what attention attains on it.
        width: bytes of an activation.

    Returns:
        Costs of the broadcast shape.
    """
    batch, length = (np.asarray(size, np.float64) for size in (requests, tokens))
    keys, values = sizes.key_dim, sizes.value_dim
    prefill = parameters.prefill
    rate = gpu.bf16 * prefill.tensor_efficiency
    one_token = length == 1

    # FLOPs of a token and head: inside its piece, and with the state.
    inside = 2 * PIECE * (3 * keys + 2 * values if sizes.delta else keys + values)
    through = 2 * keys * values * (3 if sizes.delta else 2)
    rows = batch * length
    flops: Array = rows * sizes.heads * np.where(one_token, through, inside + through)

    pieces = np.ceil(length / PIECE)
    turns = np.ceil(batch * sizes.heads / gpu.sms)
    chain = pieces * turns * PIECE * through / (rate / gpu.sms)
    state = sizes.heads * keys * values
    touched = (
        rows * (2 * sizes.key_heads * keys + 2 * sizes.heads * values) * width
        + 2 * batch * state * STATE_BYTES
        + np.where(one_token, 0.0, 2 * batch * pieces * state * width)
    )
    sm_seconds: Array = np.where(one_token, 0.0, np.maximum(flops / rate, chain))
    seconds = np.maximum(
        sm_seconds, touched / (gpu.memory_bandwidth * prefill.bandwidth_efficiency)
    )
    launches = prefill.launch * np.where(one_token, 1, KERNELS)
    return Cost(
        seconds=launches + seconds,
        sm_seconds=sm_seconds,
        mem_bytes=touched,
        flops=flops,
        load=np.zeros_like(sm_seconds),
    )
