"""Which kernels an op runs, on how many rows, and their times.

Every type of op has its kernels (`kernels_of`); a type without is a TypeError.
"""

from functools import singledispatch
from typing import TYPE_CHECKING

import numpy as np

from isotune.simulator.architecture import (
    Attend,
    ChunkedAttend,
    ContextAttend,
    Elementwise,
    ExpertsActivation,
    IndexScores,
    LatentAttend,
    LatentUp,
    Matmul,
    Op,
    Permute,
    Scan,
    SelectedLatentAttend,
)
from isotune.simulator.kernels import (
    Array,
    Cost,
    LatentSizes,
    ScanSizes,
    Size,
    latent_attention_cost,
    scan_cost,
)
from isotune.simulator.predict.experts import experts_kernels
from isotune.simulator.predict.step_shape import Rows

if TYPE_CHECKING:
    from isotune.simulator.predict.step_cost import CostModel


@singledispatch
def kernels_of(op: Op, costs: "CostModel", shape: Rows) -> list[Cost]:  # noqa: ARG001 (see below)
    """Costs of an op's kernels in a short burst, by the type of the op.

    Raises:
        TypeError: nothing is known of the type.
    """
    raise TypeError(f"no cost is known for an op of type {type(op).__name__}")


@kernels_of.register(Elementwise)
def _elementwise(op: Elementwise, costs: "CostModel", shape: Rows) -> list[Cost]:
    return [costs.elementwise(shape.rows, op.elements)]


@kernels_of.register(ExpertsActivation)
@kernels_of.register(Permute)
def _inside_experts(op: Elementwise, costs: "CostModel", shape: Rows) -> list[Cost]:
    """Nothing beside the launch where the kernels of experts were measured: they contain it."""
    if costs.scenario.hardware.experts is None:
        return [costs.elementwise(shape.rows, op.elements)]
    nothing = np.zeros(np.shape(shape.rows))
    return [Cost(nothing, nothing, nothing, nothing, nothing)]


@kernels_of.register(Attend)
def _attend(op: Attend, costs: "CostModel", shape: Rows) -> list[Cost]:
    return costs.attention(op, shape)


@kernels_of.register(Matmul)
def _matmul(op: Matmul, costs: "CostModel", shape: Rows) -> list[Cost]:
    if op.experts is not None:
        return experts_kernels(op, op.experts, costs, shape)
    operands = costs.scenario.operands(op)
    quantise = costs.quantised(shape.rows, op.k, operands)
    return [*quantise, costs.gemm(shape.rows, op.n, op.k, operands)]


@kernels_of.register(ContextAttend)
def _context(op: ContextAttend, costs: "CostModel", shape: Rows) -> list[Cost]:
    """The first and the last of 2 `shares` pieces of the new tokens."""
    found = []
    for part in _parts(shape):
        piece = -(-np.asarray(part.tokens) // (2 * op.shares))
        for start in (part.start, np.add(part.start, part.tokens) - piece):
            rows = np.multiply(part.requests, piece)
            found += costs.attention(op, Rows(rows, part.requests, piece, start))
    return found


@kernels_of.register(ChunkedAttend)
def _chunked(op: ChunkedAttend, costs: "CostModel", shape: Rows) -> list[Cost]:
    """Whole pieces of a sequence as sequences of their own; a decode reads half a piece."""
    window = op.window
    if window is None:
        return costs.attention(op, shape)
    found = []
    for part in _parts(shape):
        tokens, start = np.asarray(part.tokens), np.asarray(part.start)
        long = start + tokens > window
        pieces = np.where(long, np.maximum(1, tokens / window), 1)
        queries = np.minimum(tokens, window)
        earlier = np.where(long, np.where(tokens < window, window // 2, 0), start)
        piece = Rows(shape.rows, part.requests * pieces, queries, np.minimum(earlier, start))
        found += costs.attention(op, piece)
    return found


@kernels_of.register(LatentAttend)
def _latent(op: LatentAttend, costs: "CostModel", shape: Rows) -> list[Cost]:
    return [
        _latent_cost(op, costs, part.requests, part.tokens, part.start) for part in _parts(shape)
    ]


@kernels_of.register(SelectedLatentAttend)
def _selected(op: SelectedLatentAttend, costs: "CostModel", shape: Rows) -> list[Cost]:
    """Absorbed attention to the keys chosen; queries of one prompt find each other's in the L2."""
    gpu = costs.scenario.hardware.gpu
    prefill = costs.scenario.latent_attention.parameters.prefill
    found = []
    for part in _parts(shape):
        seen = _mean_seen(part, op.keys)
        queries = np.multiply(part.requests, part.tokens, dtype=np.float64)
        cached = np.multiply(part.requests, np.add(part.start, part.tokens))
        absorbed = 2 * op.latent + op.rope
        flops = 2.0 * queries * seen * op.heads * absorbed
        touched = 2.0 * (cached * op.cache_elements + queries * op.heads * absorbed)
        busy = flops / (gpu.bf16 * prefill.tensor_efficiency)
        moved = touched / (gpu.memory_bandwidth * prefill.bandwidth_efficiency)
        seconds = prefill.launch + np.maximum(busy, moved)
        many = Cost(seconds, busy, touched, flops, np.zeros_like(seconds))
        one = _latent_cost(op, costs, part.requests, 1, seen - 1)
        single = np.equal(part.tokens, 1)
        found.append(Cost(*(np.where(single, a, b) for a, b in zip(one, many, strict=True))))
    return found


def _latent_cost(
    op: LatentAttend, costs: "CostModel", requests: Size, tokens: Size, context: Size
) -> Cost:
    scenario = costs.scenario
    return latent_attention_cost(
        requests,
        tokens,
        context,
        op.heads,
        sizes=LatentSizes(op.latent, op.rope, op.nope, op.value),
        gpu=scenario.hardware.gpu,
        parameters=scenario.latent_attention.parameters,
        dtype=scenario.kv_dtype,
    )


@kernels_of.register(LatentUp)
def _latent_up(op: LatentUp, costs: "CostModel", shape: Rows) -> list[Cost]:
    """The latent vectors of earlier context are expanded again, except in decode."""
    rows = sum(
        np.multiply(
            part.requests,
            np.where(np.equal(part.tokens, 1), 1, np.add(part.start, part.tokens)),
        )
        for part in _parts(shape)
    )
    operands = costs.scenario.operands(op)
    return [*costs.quantised(rows, op.k, operands), costs.gemm(rows, op.n, op.k, operands)]


@kernels_of.register(IndexScores)
def _index(op: IndexScores, costs: "CostModel", shape: Rows) -> list[Cost]:
    """Scores of all visible keys at the tensor cores' rate; scores are written and read once."""
    gpu, attention = costs.scenario.hardware.gpu, costs.scenario.attention.parameters.prefill
    found = []
    for part in _parts(shape):
        queries = np.multiply(part.requests, part.tokens, dtype=np.float64)
        pairs = queries * _mean_seen(part, None)
        keys = np.multiply(part.requests, np.add(part.start, part.tokens))
        flops = 2.0 * pairs * op.heads * op.width
        touched = 8 * pairs + 2 * (keys + queries * op.heads) * op.width
        busy = flops / (gpu.bf16 * attention.tensor_efficiency)
        moved = touched / (gpu.memory_bandwidth * attention.bandwidth_efficiency)
        seconds = 2 * attention.launch + np.maximum(busy, moved)
        found.append(Cost(seconds, busy, touched, flops, np.zeros_like(seconds)))
    return found


@kernels_of.register(Scan)
def _scan(op: Scan, costs: "CostModel", shape: Rows) -> list[Cost]:
    scenario = costs.scenario
    return [
        scan_cost(
            part.requests,
            part.tokens,
            ScanSizes(op.heads, op.key_heads, op.key_dim, op.value_dim, op.delta),
            gpu=scenario.hardware.gpu,
            parameters=scenario.attention.parameters,
            width=scenario.workload.width,
        )
        for part in _parts(shape)
    ]


def _parts(shape: Rows) -> tuple[Rows, ...]:
    """The groups of equal sequences among the rows."""
    if not shape.slices:
        return (shape,)
    return tuple(
        Rows(np.multiply(part.requests, part.tokens), part.requests, part.tokens, part.start)
        for part in shape.slices
    )


def _mean_seen(part: Rows, most: int | None) -> Array:
    """Keys that a query sees on average, itself included, of `most` at most."""
    tokens, start = (np.asarray(size, np.float64) for size in (part.tokens, part.start))
    if most is None:
        return np.asarray(start + (tokens + 1) / 2)
    below = np.clip(most - start, 0, tokens)  # queries that see less than `most`
    return np.asarray((below * (start + (below + 1) / 2) + (tokens - below) * most) / tokens)
