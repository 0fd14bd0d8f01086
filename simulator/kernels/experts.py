"""The routed experts of one rank: permute, two grouped GEMMs with the activation, combine.

A grouped GEMM cuts the rows of every expert into tiles of its own, so that an expert with three
rows fills a tile as one with sixteen does, and reads the weights of every expert that has a row:

    launch + sum over both GEMMs of (tensor_time^p + memory_time^p)^(1/p) + moving the rows

`tensor_time` takes the best tile of a small table, in waves over the SMs. How many rows an expert
has follows from the imbalance: none, or a power law as in aiconfigurator's measurements
(popularity between 1 and 0.8 of the tokens, density ~ x^-alpha). With expert parallelism the rank
priced is the busiest one: the largest of `ep` sums of `n` popularities of mean mu and deviation
sigma, about 1 + sigma / mu sqrt(2 ln(ep) / n) times the mean, and no less than the one that
holds the most popular expert has. Kernels move the rows of other ranks' experts too, in part.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from isotune.simulator.io import BytesPerSecond, Dtype, Seconds
from isotune.simulator.kernels.cost import Array, Cost
from isotune.simulator.kernels.gpu import Gpu
from isotune.simulator.kernels.parameter_sets import KernelParameters
from isotune.simulator.number_types import bytes_of

_TILES = np.array([16.0, 32.0, 64.0, 128.0, 256.0])
"""Rows of a tile that kernels choose from."""
_COLUMNS = 128
"""Columns of a tile."""
_DEPTH = 64
"""Elements along k of one pipeline step."""
_QUANTILES = 64
_REDISTRIBUTED = 8
"""Rounds after which all rows have an expert to within a hundredth."""
_MOST_POPULAR = 0.8
"""The most popular expert's share of the tokens, at most."""
_ELEMENT = 2.0
"""Bytes of an activation between the kernels."""


class ExpertsParameters(KernelParameters):
    """What the experts' kernels attain on one GPU; fitted to measurements."""

    launch: Seconds = Field(ge=1e-6, le=3e-4, description="time of all kernels on no token")
    per_assignment: Seconds = Field(
        ge=1e-12, le=1e-8, description="sorting: for each expert of each token of all ranks"
    )
    tensor_efficiency: float = Field(gt=0.05, le=1, description="share of tensor-core peak reached")
    sm_feed: BytesPerSecond = Field(
        ge=5e9, le=2e12, description="operand bytes one SM can take in; sets what small tiles lose"
    )
    step: Seconds = Field(
        ge=1e-10, le=1e-6, description="latency of one step along k, 64 elements deep"
    )
    tile: Seconds = Field(ge=1e-9, le=2e-5, description="start and end of a tile")
    quantisation: float = Field(
        ge=0.05, le=1, description="1: a partial wave costs a full one; 0: it costs its share"
    )
    memory_efficiency: float = Field(gt=0.1, le=1, description="share of memory bandwidth reached")
    memory_latency: Seconds = Field(
        ge=1e-8, le=1e-4, description="time memory takes to reach full bandwidth"
    )
    row_efficiency: float = Field(
        gt=0.02,
        le=2,
        description="share of memory bandwidth while rows are permuted, activated, "
        "combined (above 1: some of it is fused into the products)",
    )
    foreign_rows: float = Field(
        ge=0, le=1, description="share of that movement which rows of other ranks' experts cost too"
    )
    misaligned: float = Field(
        ge=1,
        le=10,
        description="time of products whose inner size is no multiple of 16, over that of others",
    )
    sharpness: float = Field(
        ge=1, le=20, description="exponent p: how well memory and tensor time overlap"
    )
    error: float | None = Field(
        default=None, ge=0, le=1, description="relative standard error of these kernels in a pass"
    )

    @property
    def own_error(self) -> float | None:
        """The default set's own standard error."""
        return self.error


class ExpertsShape(NamedTuple):
    """The experts of a block and how they are divided; each a number or an array.

    `intermediate` of the whole expert, divided by `tp`; `experts` of all ranks, divided by `ep`.
    An expert has three matrices if it is gated (SwiGLU), else two.
    """

    hidden: ArrayLike
    intermediate: ArrayLike
    experts: ArrayLike
    top_k: ArrayLike
    tp: ArrayLike = 1
    ep: ArrayLike = 1
    matrices: ArrayLike = 3


class ExpertsCost(NamedTuple):
    """Cost of the experts' kernels, in the two parts that a block has as operations.

    `up`: sorting, permuting the rows, the first products and the activation; `down`: the second
    products, and adding up each token's rows. Each has half of the launches.
    """

    up: Cost
    down: Cost


def experts_cost(
    tokens: ArrayLike,
    shape: ExpertsShape,
    *,
    gpu: Gpu,
    parameters: ExpertsParameters,
    dtype: Dtype = "bf16",
    weight_dtype: Dtype | None = None,
    imbalance: float = 0.0,
) -> ExpertsCost:
    """Cost of the routed experts of the busiest rank; the router is not part of it.

    Args:
        tokens: tokens of all ranks before routing; broadcasts against the shape.
        shape: the experts, and how they are divided.
        gpu: the GPU's specification.
        parameters: what the kernels attain on it.
        dtype: type of activations in the products.
        weight_dtype: type of stored weights, where it differs.
        imbalance: exponent alpha of the power law of the experts' popularity; 0 is balanced.

    Returns:
        Costs of the broadcast shape.

    Raises:
        InputError: no tensor cores for `dtype`.
    """
    arrays = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (tokens, *shape)))
    total, hidden, whole, experts, top_k, tp, ep, matrices = arrays
    inner, here = whole / tp, experts / ep
    load = _rows_by_expert(total, top_k, experts, ep, imbalance)
    rows = here * load.mean(axis=-1)
    widths = _ELEMENT, bytes_of(dtype), bytes_of(weight_dtype or dtype)
    grouped = _Grouped(load, here, widths, gpu, gpu.tensor_rate(dtype))
    slower = np.where(inner % 16 == 0, 1.0, parameters.misaligned)
    moved_rows = rows + parameters.foreign_rows * np.maximum(total * top_k - rows, 0)
    sorting = parameters.per_assignment * total * top_k

    def part(n: Array, k: Array, elements: Array, before: Array | float) -> Cost:
        products, tensor, product_bytes = _products(grouped, n, k, parameters)
        moved = _ELEMENT * elements
        moving = moved / (gpu.memory_bandwidth * parameters.row_efficiency)
        return Cost(
            seconds=parameters.launch / 2 + before + moving + products * slower,
            sm_seconds=tensor,
            mem_bytes=moved + product_bytes,
            flops=2 * rows * n * k,
            load=np.zeros_like(rows),
        )

    permuted = moved_rows * (hidden + 2 * inner) + total * hidden
    return ExpertsCost(
        up=part((matrices - 1) * inner, hidden, permuted, sorting),
        down=part(hidden, inner, moved_rows * 2 * hidden, 0.0),
    )


class _Grouped(NamedTuple):
    """What both grouped products of a rank share.

    `load` is the rows by expert (..., quantiles), `here` the rank's experts, `widths` the bytes
    of an element of y, of x and of w, `rate` FLOP/s of the tensor cores at their peak.
    """

    load: Array
    here: Array
    widths: tuple[float, float, float]
    gpu: Gpu
    rate: float


def _products(
    grouped: _Grouped, n: Array, k: Array, par: ExpertsParameters
) -> tuple[Array, Array, Array]:
    """Seconds of one grouped GEMM, its tensor time alone, and the bytes it moves."""
    load, here, (result, width, weight_width), gpu, peak = grouped
    active = here * np.minimum(load, 1).mean(axis=-1)
    rows = here * load.mean(axis=-1)
    sm = (gpu.sms, peak * par.tensor_efficiency / gpu.sms, width)
    tensor = _tensor_time(load, here, n, k, sm, par)
    moved = active * n * k * weight_width + rows * (k * width + n * result)
    bandwidth = gpu.memory_bandwidth * par.memory_efficiency
    latency = par.memory_latency
    memory = moved / bandwidth - latency * np.expm1(-moved / (latency * bandwidth))
    longer, shorter = np.maximum(tensor, memory), np.minimum(tensor, memory)
    seconds = longer * (1 + (shorter / longer) ** par.sharpness) ** (1 / par.sharpness)
    return seconds, tensor, moved


def _rows_by_expert(
    tokens: Array, top_k: Array, experts: Array, ep: Array, imbalance: float
) -> Array:
    """Rows of the busiest rank's experts, at quantiles of their popularity (a last axis)."""
    mean = (tokens * top_k / experts)[..., None]
    if not imbalance:
        return mean
    at = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    most = np.maximum(_MOST_POPULAR * tokens, 1.0)[..., None]
    power = 1.0 - imbalance
    share = most**at if abs(power) < 1e-9 else (1 + at * (most**power - 1)) ** (1 / power)
    share = share / share.mean(axis=-1, keepdims=True)
    spread = share.std(axis=-1)
    busiest = 1 + spread * np.sqrt(2 * np.log(ep) * ep / experts * (1 - 1 / ep))
    # Among few experts a rank the most popular one alone may make it the busiest.
    place = np.minimum((experts / (experts + 1) * _QUANTILES).astype(int), _QUANTILES - 1)
    most_popular = np.take_along_axis(share, place[..., None], -1)[..., 0]
    busiest = np.where(ep > 1, np.maximum(busiest, 1 + (most_popular - 1) * ep / experts), 1)
    # No expert has more rows than there are tokens; the others get what it would have had.
    limit = tokens[..., None]
    target = np.minimum(mean * busiest[..., None], limit)
    load = np.minimum(target * share, limit)
    for _ in range(_REDISTRIBUTED):
        load = np.minimum(load * target / load.mean(axis=-1, keepdims=True), limit)
    return np.asarray(load)


def _tensor_time(
    load: Array,
    here: Array,
    n: Array,
    k: Array,
    sm: tuple[int, float, float],
    par: ExpertsParameters,
) -> Array:
    """Seconds of one grouped GEMM with the best tile when memory is no limit.

    `sm` is the number of SMs, FLOP/s of each, and bytes of one operand element.
    """
    sms, rate, width = sm
    each = load[..., None, :]
    # An expert that has a row only sometimes fills a tile only then.
    tiles = np.where(each < 1, each, np.ceil(each / _TILES[:, None])).mean(axis=-1)
    per_sm = here[..., None] * tiles * np.ceil(n / _COLUMNS)[..., None] / sms
    full, share = np.maximum(np.ceil(per_sm), 1), np.maximum(per_sm, 1)
    waves = par.quantisation * full + (1 - par.quantisation) * share
    products = 2 * _TILES * _COLUMNS * _DEPTH / rate
    feed = width * (_TILES + _COLUMNS) * _DEPTH / par.sm_feed
    each_step = np.maximum(products, feed) + par.step
    times = waves * (np.ceil(k / _DEPTH)[..., None] * each_step + par.tile)
    return np.asarray(times.min(axis=-1))
