"""Time of one matrix product y[m, n] = x[m, k] @ w[k, n] on one GPU.

A GEMM kernel cuts y into tiles, one tile per SM at a time, and walks k. Its time alone is

    launch + (tensor_time^p + memory_time^p)^(1/p)

`tensor_time`: the best tile and split-K of a small table; waves of tiles over the SMs; in each
tile the slower of the tensor cores and the operand feed (small tiles reuse operands less).
`memory_time`: operands and result through device memory; operands too large for L2 are read
again for every block of y the SMs compute together. Both are a roofline (Williams et al., 2009)
with wave quantisation (NVIDIA, Matrix Multiplication Background User's Guide).
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from isotune.simulator.io import BytesPerSecond, Dtype, Schema, Seconds
from isotune.simulator.kernels.cost import Array, Cost
from isotune.simulator.kernels.gpu import Gpu
from isotune.simulator.kernels.parameter_sets import KernelParameters
from isotune.simulator.number_types import bytes_of

Size = int | npt.NDArray[np.int_] | Array

_TILES = ((128, 256), (128, 128), (64, 128), (64, 64))
_SPLITS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
_MANY = 512
"""Sizes from which on equal ones are looked for, to be priced once."""
_LOOKED_UP = 64
"""Entries per size up to which a table finds equal sizes faster than sorting does."""
_DEPTH = 64  # k elements a kernel loads per pipeline step

WEIGHT_COPIES = 6
"""Copies of w that a microbenchmark rotates through; the public GEMM tables fit 6."""


class Tile(Schema):
    """A tile of y that a library takes for products of more than `above` rows."""

    rows: int = Field(ge=8, le=256, description="rows of y")
    columns: int = Field(ge=8, le=256, description="columns of y")
    above: int = Field(default=0, ge=0, description="m from which on, exclusive, it is taken")


class GemmParameters(KernelParameters):
    """What a specification does not print about a GPU's GEMM kernels; fitted to measurements."""

    launch: Seconds = Field(ge=1e-6, le=3e-5, description="time of an empty kernel")
    tensor_efficiency: float = Field(gt=0.3, le=1, description="share of tensor-core peak reached")
    sm_feed: BytesPerSecond = Field(
        ge=5e9, le=2e12, description="operand bytes one SM can take in; sets what small tiles lose"
    )
    quantisation: float = Field(
        ge=0.4, le=1, description="1: a partial wave costs a full one; 0: it costs its share"
    )
    prologue: Seconds = Field(
        ge=1e-9, le=1e-5, description="start of each further wave of tiles: fill the pipeline"
    )
    epilogue: Seconds = Field(
        ge=1e-9,
        le=2e-5,
        description="time to store a 128x128 tile of y, not hidden under products",
    )
    step: Seconds = Field(
        ge=1e-10, le=1e-6, description="latency of one step along k, 64 elements deep"
    )
    split_k: Seconds = Field(ge=1e-8, le=3e-5, description="latency of a split-K reduction")
    memory_efficiency: float = Field(gt=0.3, le=1, description="share of memory bandwidth reached")
    memory_latency: Seconds = Field(
        ge=1e-8, le=3e-6, description="time memory takes to reach full bandwidth"
    )
    l2_bandwidth: BytesPerSecond = Field(ge=5e11, le=5e13, description="bandwidth of L2 hits")
    l2_residency: float = Field(
        ge=0.01, le=1, description="share of L2 whose data survive until the next repetition"
    )
    l2_reuse: float = Field(
        ge=0.01, le=2, description="share of L2 that keeps the smaller operand within one GEMM"
    )
    block: float = Field(
        ge=100, le=2e4, description="edge of the block of y that shares one read of larger operands"
    )
    sharpness: float = Field(
        ge=2, le=20, description="exponent p: how well memory and tensor time overlap"
    )
    tiles: tuple[Tile, ...] = Field(
        default=(),
        description="tiles by m where the library does not try several; empty: the best of a table",
    )
    most_splits: int = Field(
        default=_SPLITS[-1], ge=1, le=_SPLITS[-1], description="most parts k is split into"
    )
    quantise_bytes: float = Field(
        default=0.0,
        ge=0,
        le=32,
        description="bytes per element of x that a kernel moves to quantise it before the product; "
        "0: x comes quantised",
    )
    quantise_row: Seconds = Field(
        default=0.0, ge=0, le=1e-7, description="time that kernel takes for each row beside"
    )
    dequantisation: float = Field(
        default=0.1, ge=0, le=1, description="tensor time that unpacking narrow weights adds"
    )


class _Candidates(NamedTuple):
    """Tile rows, tile columns and split-K of every kernel considered, each (candidates,).

    It is one for more rows of y than `above`, and for at most `up_to`.
    """

    rows: Array
    columns: Array
    splits: Array
    above: Array
    up_to: Array


@cache
def _candidates(tiles: tuple[Tile, ...], most_splits: int) -> _Candidates:
    """What a library may choose from; a tile by m goes to the next larger tile's first m."""
    sizes = [(tile.rows, tile.columns, tile.above) for tile in tiles]
    limits = sorted({tile.above for tile in tiles})
    table = [
        (rows, columns, split, above, next((m for m in limits if m > above), np.inf))
        for rows, columns, above in sizes or [(*tile, 0) for tile in _TILES]
        for split in _SPLITS
        if split <= most_splits
    ]
    return _Candidates(*np.array(table, dtype=float).T)


def gemm_cost(
    m: Size,
    n: Size,
    k: Size,
    *,
    gpu: Gpu,
    parameters: GemmParameters,
    dtype: Dtype = "bf16",
    weight_dtype: Dtype | None = None,
    warm_l2: bool = False,
) -> Cost:
    """Cost of y[m, n] = x[m, k] @ w[k, n].

    Args:
        m, n, k: sizes, 1 or more; arrays broadcast against each other.
        gpu: specification of the GPU.
        parameters: the fitted part of the model.
        dtype: of x and, unless `weight_dtype` says otherwise, of w. y has at least 2 bytes.
        weight_dtype: of w alone (weight-only quantisation); products run in `dtype`.
        warm_l2: operands may still be in L2 from a repetition just before, as in a
            microbenchmark; a forward pass streams its weights cold.

    Returns:
        Seconds, bytes and FLOPs in the broadcast shape of m, n and k.

    Raises:
        InputError: the GPU has no tensor cores for `dtype`.
    """
    if np.size(m) >= _MANY and np.ndim(n) == np.ndim(k) == 0:
        distinct, place = _distinct(np.asarray(m))
        if 2 * len(distinct) <= len(place):
            few = gemm_cost(
                distinct,
                n,
                k,
                gpu=gpu,
                parameters=parameters,
                dtype=dtype,
                weight_dtype=weight_dtype,
                warm_l2=warm_l2,
            )
            return Cost(*(field[place].reshape(np.shape(m)) for field in few))
    rows, columns, depth = (np.asarray(size, dtype=float) for size in (m, n, k))
    rate = gpu.tensor_rate(dtype) * parameters.tensor_efficiency
    width, weight_width = bytes_of(dtype), bytes_of(weight_dtype or dtype)
    if weight_width < width:
        rate /= 1 + parameters.dequantisation
    operands = _Operands(
        x=width * rows * depth,
        w=weight_width * depth * columns,
        y=max(width, 2.0) * rows * columns,
    )
    sm = _Sm(gpu.sms, rate / gpu.sms, width)
    tensor, load = _tensor_time(rows, columns, depth, sm, parameters)
    again = _reread(operands, rows, columns, gpu, parameters)
    memory, mem_bytes = _memory_time(operands, again, gpu, parameters, warm_l2=warm_l2)
    p = parameters.sharpness
    longer, shorter = np.maximum(tensor, memory), np.minimum(tensor, memory)
    busy = longer * (1 + (shorter / longer) ** p) ** (1 / p)
    if parameters.quantise_bytes:
        quantised = parameters.quantise_bytes * rows * depth
        busy = busy + quantised / (gpu.memory_bandwidth * parameters.memory_efficiency)
        busy = busy + parameters.quantise_row * rows
        mem_bytes = mem_bytes + quantised
    return Cost(
        seconds=parameters.launch + busy,
        sm_seconds=tensor,
        mem_bytes=mem_bytes,
        flops=2 * rows * columns * depth,
        load=load,
    )


def _distinct(sizes: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """The distinct sizes, and the place of each of `sizes` among them, flat."""
    flat = sizes.ravel()
    if flat.dtype.kind != "i" or flat.max() > _LOOKED_UP * len(flat):
        return np.unique(flat, return_inverse=True)
    there = np.zeros(flat.max() + 1, dtype=np.intp)
    there[flat] = 1
    distinct = np.flatnonzero(there)
    there[distinct] = np.arange(len(distinct))
    return distinct, there[flat]


class _Sm(NamedTuple):
    """The SMs of a GPU: how many, FLOP/s of each, bytes of one operand element."""

    sms: int
    rate: float
    width: float


def _tensor_time(m: Array, n: Array, k: Array, sm: _Sm, par: GemmParameters) -> tuple[Array, Array]:
    """Seconds, and tiles per SM, of the fastest candidate when memory is no limit."""
    rows, columns, splits, above, up_to = _candidates(par.tiles, par.most_splits)
    m, n, k = m[..., None], n[..., None], k[..., None]
    steps = np.ceil(k / (splits * _DEPTH))
    load = np.ceil(m / rows) * np.ceil(n / columns) * splits / sm.sms  # tiles per SM
    share = waves(load, par)
    tensor = 2 * rows * columns * _DEPTH / sm.rate
    feed = sm.width * (rows + columns) * _DEPTH / par.sm_feed
    p = par.sharpness
    step = (tensor**p + feed**p) ** (1 / p)
    stored = np.minimum(rows, m) * np.minimum(columns, n)
    around = (np.ceil(load) - 1) * par.prologue + share * par.epilogue * stored / 128**2
    partials = 8 * splits * m * n / par.l2_bandwidth  # fp32, written once and read once
    reduction = np.where(splits > 1, par.split_k + partials, 0)
    times = steps * (share * step + par.step) + around + reduction
    if par.tiles:
        times = np.where((m > above) & (m <= up_to), times, np.inf)
    best = times.argmin(axis=-1)[..., None]
    return _pick(times, best), _pick(np.broadcast_to(load, times.shape), best)


def _pick(values: Array, at: npt.NDArray[np.intp]) -> Array:
    return np.asarray(np.take_along_axis(values, at, axis=-1)[..., 0])


def waves(load: Array, par: GemmParameters) -> Array:
    """Time of `load` equal tiles per SM in units of one tile's: a partial wave costs a share."""
    full, share = np.maximum(np.ceil(load), 1), np.maximum(load, 1)
    return np.asarray(par.quantisation * full + (1 - par.quantisation) * share)


class _Operands(NamedTuple):
    """Bytes of x, w and y."""

    x: Array
    w: Array
    y: Array


def _reread(operands: _Operands, m: Array, n: Array, gpu: Gpu, par: GemmParameters) -> Array:
    """Bytes of x and w read once more or oftener: each block of y reads its rows and columns."""
    x, w, _ = operands
    lost = 1 / (1 + (par.l2_reuse * gpu.l2 / np.minimum(x, w)) ** 4)
    blocked: Array = lost * (x * n + w * m) / par.block
    return np.maximum(blocked - (x + w), 0)


def _memory_time(
    operands: _Operands, again: Array, gpu: Gpu, par: GemmParameters, *, warm_l2: bool
) -> tuple[Array, Array]:
    """Seconds to move operands and rereads, and the bytes that device memory serves."""
    x, w, y = operands
    hits_w = _hit_rate(WEIGHT_COPIES * w + x + y, gpu, par) if warm_l2 else 0.0
    hits_x = _hit_rate(w + x + y, gpu, par) if warm_l2 else 0.0
    hits = hits_w * w + hits_x * (x + y)
    mem_bytes = x + w + y + again - hits
    bandwidth = gpu.memory_bandwidth * par.memory_efficiency
    ramp = par.memory_latency * -np.expm1(-mem_bytes / (par.memory_latency * bandwidth))
    return ramp + hits / par.l2_bandwidth + mem_bytes / bandwidth, mem_bytes


def _hit_rate(reuse_distance: Array, gpu: Gpu, par: GemmParameters) -> Array:
    """Share of reads that find data touched `reuse_distance` bytes ago still in L2."""
    return 1 / (1 + (reuse_distance / (par.l2_residency * gpu.l2)) ** 8)
