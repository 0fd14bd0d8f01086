"""Multi-head latent attention: one latent and one rope vector per token serve every head.

Decode takes the absorbed form (DeepSeek-V2, arXiv 2405.04434, section 2.1): the up-projections of
keys and values are multiplied into the queries and outputs outside the kernel, so that all heads
read the same `latent + rope` elements per key: 2 (2 latent + rope) FLOPs per query, key and head.
A thread block holds a tile of the heads of one sequence and a part of its keys (FlashMLA); the
keys are split until the SMs are busy. A prompt or chunk takes the expanded form: ordinary causal
attention whose keys have `nope + rope` elements and whose values have `value`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from isotune.simulator.errors import InputError
from isotune.simulator.io import BytesPerSecond, Dtype, Schema, Seconds
from isotune.simulator.kernels.attention import (
    AttentionParameters,
    PrefillParameters,
    Shape,
    prefill_grid,
    smooth_maximum,
    visible_pairs,
)
from isotune.simulator.kernels.cost import Array, Cost
from isotune.simulator.kernels.elementwise import l2_hit_rate
from isotune.simulator.kernels.gpu import Gpu
from isotune.simulator.kernels.parameter_sets import KernelParameters
from isotune.simulator.number_types import bytes_of

ELEMENT = 2.0
"""Bytes of an element of queries and outputs, which are 16-bit whatever the cache's type."""


class LatentSizes(NamedTuple):
    """Elements of the compressed key-value vector and of the rope key that all heads share; of a
    head's keys without rope, and of its values, in the expanded form. The defaults are DeepSeek's.
    """

    latent: int = 512
    rope: int = 64
    nope: int = 128
    value: int = 128


class LatentDecodeParameters(Schema):
    """The kernel for one query per sequence, in the absorbed form."""

    launch: Seconds = Field(gt=0, le=50e-6, description="launch, ramp-up and drain of the kernels")
    block_overhead: Seconds = Field(
        ge=0, le=20e-6, description="per thread block: load queries, fill pipeline, store output"
    )
    head_tile: int = Field(ge=1, le=128, description="query heads of one thread block")
    split_keys: float = Field(ge=16, le=4096, description="fewest keys in one part of a split")
    max_splits: float = Field(ge=1, le=256, description="most parts the keys are split into")
    block_bandwidth: BytesPerSecond = Field(
        ge=1e9, le=3e11, description="cache bytes per second that one thread block streams"
    )
    tensor_efficiency: float = Field(
        gt=0.02, le=1, description="attained fraction of the dense tensor-core rate"
    )
    combine: Seconds = Field(
        ge=0, le=20e-6, description="adding up the parts of a split, whatever their number"
    )
    bandwidth_efficiency: float = Field(
        gt=0.2, le=1, description="attained fraction of device-memory bandwidth"
    )


class LatentAttentionParameters(KernelParameters):
    """What latent attention attains on one GPU with one kernel library; sets by type of cache."""

    prefill: PrefillParameters
    decode: LatentDecodeParameters
    l2_speedup: float = Field(
        ge=1, le=10, description="bandwidth on operands found in L2 over that of device memory"
    )
    error: float | None = Field(
        default=None, ge=0, le=1, description="relative standard error of these kernels in a pass"
    )

    @property
    def own_error(self) -> float | None:
        """The default set's own standard error."""
        return self.error


def analytic_latent(attention: AttentionParameters) -> LatentAttentionParameters:
    """Parameters for a machine on which nobody measured latent attention.

    Launches, efficiencies and splits are those of its grouped-query kernels; a block streams
    the cache as fast as theirs does, and holds 64 heads as FlashMLA's.
    """
    decode = attention.decode
    return LatentAttentionParameters(
        prefill=attention.prefill,
        decode=LatentDecodeParameters(
            launch=decode.launch + decode.combine,
            block_overhead=decode.block_overhead,
            head_tile=64,
            split_keys=decode.split_keys,
            max_splits=decode.max_splits,
            block_bandwidth=decode.block_bandwidth,
            tensor_efficiency=attention.prefill.tensor_efficiency,
            combine=decode.combine,
            bandwidth_efficiency=decode.bandwidth_efficiency,
        ),
        l2_speedup=attention.l2_speedup,
    )


def latent_attention_cost(
    requests: ArrayLike,
    new_tokens: ArrayLike,
    context: ArrayLike,
    heads: ArrayLike,
    *,
    sizes: LatentSizes = LatentSizes(),
    gpu: Gpu,
    parameters: LatentAttentionParameters,
    dtype: Dtype = "bf16",
) -> Cost:
    """Cost of the attention kernel alone: no projection, no cache append.

    With one new token per sequence the absorbed form over `context + 1` keys, else the expanded
    form of the new tokens over the context and themselves, causal. The integers broadcast.

    Args:
        requests: sequences of equal length.
        new_tokens: queries per sequence.
        context: tokens of each sequence before them.
        heads: query heads on this GPU.
        sizes: elements of the vectors involved; DeepSeek's unless given.
        gpu: the GPU's specification.
        parameters: what the kernels attain on it.
        dtype: type of the cache. Products run in it where the GPU multiplies it, else in bf16.

    Returns:
        Costs of the broadcast shape, FLOPs exact.
    """
    call = _call(requests, new_tokens, context, heads)
    return _cost(call, sizes, gpu, parameters, dtype, warm_l2=False)


def repeated_latent_attention_cost(
    requests: ArrayLike,
    new_tokens: ArrayLike,
    context: ArrayLike,
    heads: ArrayLike,
    *,
    gpu: Gpu,
    parameters: LatentAttentionParameters,
    dtype: Dtype = "bf16",
) -> Cost:
    """The same where the call is repeated at once: what fits in L2 is read from there."""
    call = _call(requests, new_tokens, context, heads)
    return _cost(call, LatentSizes(), gpu, parameters, dtype, warm_l2=True)


class _Call(NamedTuple):
    """Sequences, queries and keys of each, and query heads: float arrays of one shape."""

    batch: Array
    q_len: Array
    kv_len: Array
    heads: Array


def _call(
    requests: ArrayLike, new_tokens: ArrayLike, context: ArrayLike, heads: ArrayLike
) -> _Call:
    arrays = (np.asarray(x, np.float64) for x in (requests, new_tokens, context, heads))
    batch, q_len, before, query_heads = np.broadcast_arrays(*arrays)
    return _Call(batch, q_len, before + q_len, query_heads)


def _cost(
    call: _Call,
    sizes: LatentSizes,
    gpu: Gpu,
    parameters: LatentAttentionParameters,
    dtype: Dtype,
    *,
    warm_l2: bool,
) -> Cost:
    batch, q_len, kv_len, heads = call
    one_query = q_len == 1
    rate = _rate(gpu, dtype)
    p, width = parameters.decode, bytes_of(dtype)

    # Decode: every head reads the same keys.
    absorbed = 2 * sizes.latent + sizes.rope
    key_flops = 2.0 * absorbed
    key_bytes = (sizes.latent + sizes.rope) * width
    cache = batch * kv_len * key_bytes
    vectors = batch * heads * absorbed * ELEMENT
    start, makespan = _decode(call, (key_bytes, key_flops), gpu, rate, p)

    # Prefill: ordinary attention whose head is the mean of a key's and a value's elements.
    head = (sizes.nope + sizes.rope + sizes.value) / 2
    shape = Shape(*call, heads, np.full_like(batch, head), kv_len)
    grid = prefill_grid(shape, gpu, rate, parameters.prefill)
    expanded = 2 * batch * heads * head * (q_len + kv_len) * ELEMENT
    pairs = batch * heads * visible_pairs(shape)

    touched = np.where(one_query, cache + vectors, expanded)
    hits = l2_hit_rate(touched, gpu.l2) if warm_l2 else np.zeros_like(touched)
    slowness = (1 - hits + hits / parameters.l2_speedup) / gpu.memory_bandwidth
    efficiency = np.where(one_query, p.bandwidth_efficiency, grid.bandwidth_efficiency)
    sm_seconds = np.where(one_query, makespan, grid.makespan)
    busy = smooth_maximum(sm_seconds, touched * slowness / efficiency)
    return Cost(
        seconds=np.where(one_query, start, grid.launch) + busy,
        sm_seconds=sm_seconds,
        mem_bytes=touched * (1 - hits),
        flops=pairs * np.where(one_query, key_flops, 4 * head),
        load=np.zeros_like(busy),
    )


def _rate(gpu: Gpu, dtype: Dtype) -> float:
    """FLOP/s of the products: in the cache's type, or after conversion in bf16."""
    try:
        return gpu.tensor_rate(dtype)
    except InputError:
        return gpu.bf16


def _decode(
    call: _Call, key: tuple[float, float], gpu: Gpu, rate: float, p: LatentDecodeParameters
) -> tuple[Array, Array]:
    """Launch time and makespan; `key` is the bytes of one key, and its FLOPs for one head."""
    key_bytes, key_flops = key
    batch, _, keys, heads = call
    units = batch * np.ceil(heads / p.head_tile)
    splits = np.clip(gpu.sms / units, 1, np.clip(keys / p.split_keys, 1, p.max_splits))
    products = np.minimum(heads, p.head_tile) * key_flops * gpu.sms / (rate * p.tensor_efficiency)
    per_key = np.maximum(key_bytes / p.block_bandwidth, products)
    # Parts are scheduled evenly over the SMs, so a partial wave costs its share.
    load = np.maximum(units * splits / gpu.sms, 1)
    makespan = load * (p.block_overhead + keys / splits * per_key)
    return p.launch + np.where(splits > 1, p.combine, 0.0), makespan
