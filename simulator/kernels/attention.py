"""Causal attention: FlashAttention for prefill and chunks, FlashDecoding for one query.

Prefill (Dao 2023, arXiv 2307.08691): one thread block holds a tile of queries of one head and
walks over the tiles of keys it may see; tiles above the diagonal are skipped. Decode (Dao et al.
2023, "Flash-Decoding"): the query heads that share a KV head form one block, and the keys are
split over blocks until the SMs are busy. Both times are a smooth maximum of the blocks' makespan
and the memory time, over a launch floor.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from isotune.simulator.io import BytesPerSecond, Dtype, Schema, Seconds
from isotune.simulator.kernels.cost import Array, Cost
from isotune.simulator.kernels.elementwise import l2_hit_rate
from isotune.simulator.kernels.gpu import Gpu
from isotune.simulator.kernels.parameter_sets import KernelParameters
from isotune.simulator.number_types import bytes_of

EXP_PER_SM = 16 * 1.7e9
"""exp/s of one SM: 16 per clock on every generation from Volta to Blackwell, near 1.7 GHz."""

ROOFLINE_SHARPNESS = 4.0
"""Exponent of the smooth maximum of compute and memory time: 19 % over the maximum when equal."""

ROUNDING = 1e-9
"""Slack before a count of waves is rounded up: an exact fit must not start another wave."""


class PrefillParameters(Schema):
    """The kernel for many queries per sequence, and the KV-cache append before it."""

    launch: Seconds = Field(gt=0, le=50e-6, description="launch, ramp-up and drain of the kernels")
    block_overhead: Seconds = Field(
        ge=0, le=20e-6, description="per thread block: load queries, fill pipeline, store output"
    )
    query_tile: int = Field(ge=16, le=256, description="queries, and keys, per tile")
    max_splits: float = Field(
        default=1.0, ge=1, le=256, description="parts the keys may be split into to fill the SMs"
    )
    tensor_efficiency: float = Field(
        gt=0.1, le=1, description="attained fraction of the dense tensor-core rate"
    )
    solo_rate: float = Field(
        gt=0.1, le=1, description="fraction of an SM's rate that a lone thread block reaches"
    )
    tail: float = Field(
        ge=0, le=1, description="part of the longest block by which the last wave overhangs"
    )
    bandwidth_efficiency: float = Field(
        gt=0.2, le=1, description="attained fraction of device-memory bandwidth"
    )


class DecodeParameters(Schema):
    """The kernel for one query per sequence."""

    launch: Seconds = Field(gt=0, le=50e-6, description="launch, ramp-up and drain of the kernel")
    block_overhead: Seconds = Field(
        ge=0, le=20e-6, description="per thread block: load queries, fill pipeline, store output"
    )
    block_bandwidth: BytesPerSecond = Field(
        ge=2e9, le=1.5e11, description="KV bytes per second that one thread block streams"
    )
    split_keys: float = Field(ge=16, le=2048, description="fewest keys in one part of a split")
    max_splits: float = Field(ge=1, le=256, description="most parts the keys are split into")
    split_mha: bool = Field(
        default=True, description="also splits where no query heads share a KV head"
    )
    combine: Seconds = Field(ge=0, le=20e-6, description="launch of the kernel that adds up parts")
    combine_part: Seconds = Field(ge=0, le=1e-6, description="its time for each part of a split")
    regroup: Seconds = Field(
        ge=0,
        le=20e-6,
        description="copies that bring the query heads of each KV head together (FlashAttention-2)",
    )
    bandwidth_efficiency: float = Field(
        gt=0.2, le=1, description="attained fraction of device-memory bandwidth"
    )


class AttentionParameters(KernelParameters):
    """What attention attains on one GPU with one kernel library."""

    prefill: PrefillParameters
    decode: DecodeParameters
    append_efficiency: float = Field(
        gt=0.05,
        le=1,
        description="attained fraction of device-memory bandwidth while new keys and values are "
        "copied to the cache",
    )
    l2_speedup: float = Field(
        ge=1, le=10, description="bandwidth on operands found in L2 over that of device memory"
    )
    l2_resident: float = Field(
        ge=0.1, le=1.2, description="share of the L2 that keeps operands from call to call"
    )


class Shape(NamedTuple):
    """One call, as float arrays that broadcast: per-GPU head counts, window as visible keys.

    With `grouped` the last axis has groups of sequences that one call serves together: their
    thread blocks share the SMs, so sizes are added over it before a makespan is taken.
    """

    batch: Array
    q_len: Array
    kv_len: Array
    heads: Array
    kv_heads: Array
    head_dim: Array
    window: Array
    grouped: bool = False

    def total(self, sizes: Array) -> Array:
        """Sizes of the groups added up."""
        return np.asarray(sizes.sum(axis=-1)) if self.grouped else sizes

    def largest(self, sizes: Array) -> Array:
        """The largest size of the groups."""
        return np.asarray(sizes.max(axis=-1)) if self.grouped else sizes

    def shared(self, size: Array) -> Array:
        """A size of the whole call beside those of its groups."""
        return size[..., None] if self.grouped else size


class Grid(NamedTuple):
    """A kernel's thread blocks on the SMs: time before and after, makespan, memory efficiency."""

    launch: Array
    makespan: Array
    bandwidth_efficiency: Array


def attention_cost(
    batch: ArrayLike,
    q_len: ArrayLike,
    kv_len: ArrayLike,
    heads: ArrayLike,
    kv_heads: ArrayLike,
    head_dim: ArrayLike,
    *,
    gpu: Gpu,
    parameters: AttentionParameters,
    dtype: Dtype = "bf16",
    kv_dtype: Dtype | None = None,
    window: int | None = None,
    warm_l2: bool = False,
) -> Cost:
    """Cost of causal attention of the last `q_len` of `kv_len` tokens, KV append included.

    q_len = kv_len is a whole prompt, q_len < kv_len a chunk with earlier context, q_len = 1
    decode. The integer arguments broadcast; `heads` and `kv_heads` are one GPU's.

    Args:
        batch: sequences of equal length.
        q_len: queries per sequence.
        kv_len: keys per sequence, the queries' own included.
        heads: query heads on this GPU.
        kv_heads: key and value heads on this GPU.
        head_dim: elements of one head.
        gpu: the GPU's specification.
        parameters: what attention attains on it.
        dtype: type of queries, outputs and products.
        kv_dtype: type of the cache, where it differs.
        window: keys a query sees at most, itself included (sliding window).
        warm_l2: the operands were touched just before, so what fits in L2 is read from there.

    Returns:
        Costs of the broadcast shape. FLOPs are exact: 4 head_dim per visible query-key pair.

    Raises:
        InputError: no tensor cores for `dtype`.
    """
    shape = _shape((batch, q_len, kv_len, heads, kv_heads, head_dim), window)
    return _cost(shape, gpu, parameters, dtype, kv_dtype or dtype, warm_l2)


def grouped_attention_costs(
    groups: Sequence[tuple[int, int, int]],
    heads: int,
    kv_heads: int,
    head_dim: float,
    *,
    gpu: Gpu,
    parameters: AttentionParameters,
    dtype: Dtype = "bf16",
    kv_dtype: Dtype | None = None,
    window: int | None = None,
) -> list[Cost]:
    """Costs of attention of several groups of sequences in one pass; see `attention_cost`.

    Groups with one query per sequence are one call of the decode kernel, the others one call of
    the prefill kernel. In a call the thread blocks of all groups share the SMs: of one group the
    time is that of `attention_cost`, of equal groups that of all their sequences as one.

    Args:
        groups: sequences, queries per sequence and keys per sequence of each group.
        heads, kv_heads, head_dim, gpu, parameters, dtype, kv_dtype, window: as for
            `attention_cost`.

    Returns:
        The cost of each call.

    Raises:
        InputError: no tensor cores for `dtype`.
    """
    calls = [[group for group in groups if (group[1] == 1) is single] for single in (False, True)]
    found: list[Cost] = []
    for call in filter(None, calls):
        batch, q_len, kv_len = (np.array(sizes) for sizes in zip(*call, strict=True))
        shape = _shape((batch, q_len, kv_len, heads, kv_heads, head_dim), window)
        found.append(
            _cost(shape._replace(grouped=True), gpu, parameters, dtype, kv_dtype or dtype, False)
        )
    return found


def _shape(sizes: Sequence[ArrayLike], window: int | None) -> Shape:
    kv_len = sizes[2]
    seen = kv_len if window is None else np.minimum(kv_len, window)
    arrays = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (*sizes, seen)))
    return Shape._make((*arrays, False))


def _cost(
    shape: Shape,
    gpu: Gpu,
    parameters: AttentionParameters,
    dtype: Dtype,
    kv_dtype: Dtype,
    warm_l2: bool,
) -> Cost:
    touched, appended = map(shape.total, _traffic(shape, bytes_of(dtype), bytes_of(kv_dtype)))
    hit_rate = 0.0 * touched
    if warm_l2:
        hit_rate = l2_hit_rate(touched, gpu.l2 * parameters.l2_resident)
    flops = shape.total(4 * shape.head_dim * shape.batch * shape.heads * visible_pairs(shape))

    grid = _grid(shape, gpu, parameters, dtype, bytes_of(kv_dtype))
    cold = 1 - hit_rate
    slowness = (cold + hit_rate / parameters.l2_speedup) / gpu.memory_bandwidth
    memory = touched * slowness / grid.bandwidth_efficiency
    append = appended * slowness / parameters.append_efficiency
    busy = smooth_maximum(grid.makespan, memory)
    return Cost(
        seconds=grid.launch + append + busy,
        sm_seconds=grid.makespan,
        mem_bytes=(touched + appended) * cold,
        flops=flops,
        load=np.zeros_like(busy),
    )


def smooth_maximum(compute: Array, memory: Array) -> Array:
    """The roofline with a rounded ridge: never below either time."""
    top = np.maximum(compute, memory)
    ratio = np.minimum(compute, memory) / top
    return np.asarray(top * (1 + ratio**ROOFLINE_SHARPNESS) ** (1 / ROOFLINE_SHARPNESS))


def _traffic(shape: Shape, element: float, cache_element: float) -> tuple[Array, Array]:
    """Bytes that attention reads and writes, and bytes of copying new keys and values."""
    queries = 2 * shape.heads * shape.q_len * element
    seen = np.minimum(shape.kv_len, shape.window + shape.q_len - 1)
    cache = 2 * shape.kv_heads * seen * cache_element
    appended = 2 * shape.kv_heads * shape.q_len * (element + cache_element)
    per_element = shape.batch * shape.head_dim
    return per_element * (queries + cache), per_element * appended


def visible_pairs(shape: Shape) -> Array:
    """Query-key pairs of one head: query t of the chunk sees min(context + t, window) keys."""
    context = shape.kv_len - shape.q_len
    growing = np.clip(shape.window - context, 0, shape.q_len)
    return growing * context + growing * (growing + 1) / 2 + (shape.q_len - growing) * shape.window


def _grid(
    shape: Shape, gpu: Gpu, parameters: AttentionParameters, dtype: Dtype, cache_element: float
) -> Grid:
    """The prefill grid, and the decode grid where a sequence has one query."""
    rate = gpu.tensor_rate(dtype)
    prefill, decode = parameters.prefill, parameters.decode
    one_query = shape.q_len == 1
    if not one_query.any():
        return prefill_grid(shape, gpu, rate, prefill)
    alone = _decode(shape, gpu, rate, cache_element, decode)
    if one_query.all():
        return alone
    pairs = zip(alone, prefill_grid(shape, gpu, rate, prefill), strict=True)
    return Grid(*(np.where(one_query, one, many) for one, many in pairs))


def prefill_grid(shape: Shape, gpu: Gpu, rate: float, p: PrefillParameters) -> Grid:
    """Makespan of one block per head and query tile, each walking over its key tiles.

    Blocks of a full grid share the SMs evenly but for a tail; a small grid waits for its longest
    block, which alone reaches only a part of an SM's rate.
    """
    size = p.query_tile
    query_tiles = np.ceil(shape.q_len / size)
    longest, total = _key_tiles(shape, size)
    products = 4 * size**2 * shape.head_dim * gpu.sms / (rate * p.tensor_efficiency)
    tile_seconds = np.maximum(products, size**2 / EXP_PER_SM)

    rows = shape.batch * shape.heads
    blocks = shape.total(rows * query_tiles)
    longest, tile_seconds, walked = (
        shape.largest(longest),
        shape.largest(tile_seconds),
        shape.total(rows * total * tile_seconds),
    )
    splits = np.clip(gpu.sms / blocks, 1, np.minimum(p.max_splits, longest))
    work = (walked + blocks * splits * p.block_overhead) / gpu.sms
    alone = longest / splits * tile_seconds / p.solo_rate + p.block_overhead
    overhang = p.tail * alone * np.minimum(1, blocks * splits / gpu.sms)
    return Grid(
        np.asarray(p.launch),
        np.maximum(alone, work + overhang),
        np.asarray(p.bandwidth_efficiency),
    )


def _key_tiles(shape: Shape, size: int) -> tuple[Array, Array]:
    """Key tiles that one head's last query tile visits, and that all its query tiles visit.

    Query tile i visits the tiles of the earlier context and i more up to the diagonal, but no
    more than its window touches.
    """
    before_last = np.ceil(shape.q_len / size) - 1
    context = np.ceil((shape.kv_len - shape.q_len) / size)
    in_window = np.ceil((shape.window + size - 1) / size)
    longest = np.minimum(np.ceil(shape.kv_len / size), in_window)
    growing = np.clip(in_window - context, 0, before_last)
    walked = growing * context + growing * (growing + 1) / 2 + (before_last - growing) * in_window
    return longest, walked + longest


def _decode(shape: Shape, gpu: Gpu, rate: float, cache_element: float, p: DecodeParameters) -> Grid:
    """Makespan of one block per sequence, KV head and part of the keys.

    The query heads of a KV head are packed into one block, so its keys are read once.
    """
    keys = np.minimum(shape.kv_len, shape.window)
    units = shape.batch * shape.kv_heads
    shared = shape.heads > shape.kv_heads
    most = np.clip(keys / p.split_keys, 1, p.max_splits)
    busy = shape.shared(gpu.sms / shape.total(units))
    splits = np.clip(busy, 1, np.where(shared | p.split_mha, most, 1))
    blocks = units * splits
    waves = np.ceil(shape.total(blocks) / gpu.sms - ROUNDING)

    key_bytes = 2 * shape.head_dim * cache_element
    key_flops = 4 * shape.head_dim * shape.heads / shape.kv_heads
    key_seconds = np.maximum(key_bytes / p.block_bandwidth, key_flops * gpu.sms / rate)
    block = p.block_overhead + keys / splits * key_seconds
    makespan = waves * block
    if shape.grouped:
        # Waves of the mean block, but never less than the longest block.
        mean = shape.total(blocks * block) / shape.total(blocks)
        makespan = np.maximum(waves * mean, shape.largest(block))
    most_splits = shape.largest(splits)
    combine = np.minimum(1, most_splits - 1) * (p.combine + most_splits * p.combine_part)
    each = np.where(shared & (shape.kv_heads > 1), p.regroup, 0.0)
    regroup = np.where(shape.total(shape.batch) > 1, shape.largest(each), 0.0)
    return Grid(p.launch + combine + regroup, makespan, np.asarray(p.bandwidth_efficiency))
