"""What a step costs: which kernels the ops of a rank run, on how many rows, and their times.

Every type of op has its kernels (`kernels_of`); a type without is a TypeError.
"""

from dataclasses import dataclass
from functools import singledispatch
from typing import NamedTuple

import numpy as np

from isotune.simulator.architecture import (
    HOST,
    Attend,
    ChunkedAttend,
    Collective,
    Elementwise,
    IndexScores,
    LatentAttend,
    LatentUp,
    LmHead,
    Matmul,
    Op,
    Scan,
    SelectedLatentAttend,
)
from isotune.simulator.errors import InputError
from isotune.simulator.kernels import (
    Array,
    Cost,
    GemmParameters,
    Gpu,
    LatentSizes,
    Operands,
    ScanSizes,
    Size,
    attention_cost,
    collective_cost,
    elementwise_cost,
    gemm_cost,
    grouped_attention_costs,
    latent_attention_cost,
    quantised_all_reduce,
    scan_cost,
    waves,
)
from isotune.simulator.number_types import bytes_of, number_type
from isotune.simulator.predict.scenario import Scenario
from isotune.simulator.schedule import CommDtype, Slice, Step


class Rows(NamedTuple):
    """Shape of the activations an op works on; ints or arrays of one common shape.

    `rows` rows of a chunk: `tokens` tokens of each of `requests` requests, after `start`
    tokens of context. A chunk of a mixed batch has several such slices: `requests` are then all
    of them, and `slices` says what each has.
    """

    rows: Size
    requests: Size
    tokens: Size
    start: Size
    slices: tuple[Slice, ...] = ()


def rows_of(step: Step) -> Rows:
    """The rows a step works on."""
    chunk = step.chunk
    if len(chunk.slices) > 1:
        return Rows(step.rows, chunk.requests, 0, 0, chunk.slices)
    return Rows(step.rows, chunk.requests, chunk.tokens, chunk.start)


class StepCost(NamedTuple):
    """Price of a step; every field an array of the shape of its rows (`parts` by op).

    `seconds` with the GPU to itself, as part of a running engine; `sms` the SMs a sync
    holds; `mem_rate` the share of device-memory bandwidth it uses; `interference` the
    factor a sync's time grows by beside compute.
    """

    seconds: Array
    parts: tuple[tuple[Op, Cost], ...]
    sms: Array
    mem_rate: Array
    interference: Array


@dataclass(frozen=True)
class CostModel:
    """Costs of the steps of one scenario for one transfer type and SM budget."""

    scenario: Scenario
    comm_dtype: CommDtype = "bf16"
    comm_sms: int | None = None

    def step(self, ops: tuple[Op, ...], shape: Rows) -> StepCost:
        """Price of ops that run back to back over the same rows."""
        if isinstance(ops[0], Collective):
            return self._sync(ops[0], shape)
        parts = tuple(
            (op, self._sustained(kernel)) for op in ops for kernel in self.kernels(op, shape)
        )
        if self.scenario.workload.runtime == "eager" and isinstance(ops[-1], LmHead):
            parts += ((HOST, self._host(parts[-1][1])),)
        seconds: Array = np.asarray(sum(cost.seconds for _, cost in parts))
        mem_bytes = np.asarray(sum(cost.mem_bytes for _, cost in parts))
        rate = mem_bytes / (seconds * self.scenario.hardware.gpu.memory_bandwidth)
        return StepCost(seconds, parts, np.zeros_like(seconds), rate, np.ones_like(seconds))

    def slowdowns(self, compute: StepCost, sync: StepCost) -> tuple[Array, Array]:
        """How many times longer each takes while both are in flight."""
        hardware = self.scenario.hardware
        return slowdowns(
            compute,
            sync,
            gpu=hardware.gpu,
            gemm=self.scenario.gemm.parameters,
            memory_interference=hardware.runtime.memory_interference,
        )

    def _sustained(self, cost: Cost) -> Cost:
        """A kernel inside a running engine: sustained clock, and how it is launched."""
        runtime = self.scenario.hardware.runtime
        slower = cost.sm_seconds * (1.0 / runtime.sustained_clock - 1.0)
        return cost._replace(
            seconds=self._launched(cost.seconds + slower), sm_seconds=cost.sm_seconds + slower
        )

    def _launched(self, seconds: Array) -> Array:
        """Eager kernels wait for the host; those of a CUDA graph start under the one before."""
        runtime = self.scenario.hardware.runtime
        if self.scenario.workload.runtime == "eager":
            return np.maximum(seconds + runtime.launch_gap, runtime.host_launch)
        return seconds - np.minimum(runtime.graph_overlap, seconds / 2)

    def _host(self, like: Cost) -> Cost:
        """What the host does once per pass while the GPU waits, in the shape of `like`."""
        nothing = np.zeros_like(like.seconds)
        seconds = nothing + self.scenario.hardware.runtime.eager_step
        return Cost(seconds, nothing, nothing, nothing, nothing)

    def _sync(self, op: Collective, shape: Rows) -> StepCost:
        hardware, tp = self.scenario.hardware, self.scenario.workload.tp
        elements = np.asarray(shape.rows, dtype=np.float64) * op.elements
        if self.comm_dtype == "bf16":
            cost = collective_cost(
                op.kind,
                elements * bytes_of("bf16"),
                tp,
                parameters=hardware.collectives,
                sms=self.comm_sms,
                network=hardware.network,
            )
        else:
            if op.kind != "all_reduce":
                raise InputError(f"comm_dtype: {op.kind} sends bf16, not {self.comm_dtype}")
            cost = quantised_all_reduce(
                elements,
                tp,
                parameters=hardware.collectives,
                memory_pass=self._memory_pass,
                transfer=self.comm_dtype,
                sms=self.comm_sms,
                network=hardware.network,
            )
        seconds = self._launched(cost.seconds) + hardware.runtime.sync_skew
        rate = cost.mem_bytes / (seconds * hardware.gpu.memory_bandwidth)
        nothing = np.zeros_like(seconds)
        alone = Cost(seconds, seconds, cost.mem_bytes, nothing, nothing)
        return StepCost(seconds, ((op, alone),), cost.sms, rate, cost.interference)

    def _memory_pass(self, mem_bytes: Array) -> Array:
        return self.memory_kernel(1, mem_bytes).seconds

    def elementwise(self, rows: Size, elements: int) -> Cost:
        """A kernel that reads and writes so many activations per row."""
        return self.memory_kernel(rows, elements * self.scenario.workload.width)

    def memory_kernel(self, rows: Size, row_bytes: float | Array) -> Cost:
        """A kernel that reads and writes so many bytes per row."""
        gpu, chosen = self.scenario.hardware.gpu, self.scenario.elementwise
        return elementwise_cost(rows, row_bytes, gpu=gpu, parameters=chosen.parameters)

    def gemm(self, m: Size, n: Size, k: Size, operands: Operands) -> Cost:
        """A product with weights."""
        return gemm_cost(
            m,
            n,
            k,
            gpu=self.scenario.hardware.gpu,
            parameters=self.scenario.gemm_of(operands).parameters,
            dtype=operands.dtype,
            weight_dtype=operands.weight_dtype,
        )

    def quantised(self, rows: Size, k: int, operands: Operands) -> list[Cost]:
        """The kernel that quantises a product's activations, where there is one.

        It reads them and writes them narrower. Measured sets of a type contain it: their rows
        were taken with it. Where other figures stand in, it is added.
        """
        activations = number_type(operands.dtype)
        stands_in = self.scenario.gemm_of(operands).stands_in_for
        if not (activations.quantises_activations and str(operands) in stands_in):
            return []
        return [self.memory_kernel(rows, k * (self.scenario.workload.width + activations.bytes))]

    def attention(self, op: Attend, shape: Rows) -> list[Cost]:
        """Attention over the context and the new tokens."""
        hardware = self.scenario.hardware
        if shape.slices:
            return grouped_attention_costs(
                [(part.requests, part.tokens, part.start + part.tokens) for part in shape.slices],
                op.heads,
                op.kv_heads,
                op.mean_dim,
                gpu=hardware.gpu,
                parameters=self.scenario.attention.parameters,
                dtype=self.scenario.workload.travel_dtype,
                kv_dtype=self.scenario.kv_dtype,
                window=op.window,
            )
        one = attention_cost(
            shape.requests,
            shape.tokens,
            np.add(shape.start, shape.tokens),
            op.heads,
            op.kv_heads,
            op.mean_dim,
            gpu=hardware.gpu,
            parameters=self.scenario.attention.parameters,
            dtype=self.scenario.workload.travel_dtype,
            kv_dtype=self.scenario.kv_dtype,
            window=op.window,
        )
        return [one]

    def kernels(self, op: Op, shape: Rows) -> list[Cost]:
        """Costs of an op's kernels in a short burst."""
        return kernels_of(op, self, shape)


@singledispatch
def kernels_of(op: Op, costs: CostModel, shape: Rows) -> list[Cost]:  # noqa: ARG001 (see below)
    """Costs of an op's kernels in a short burst, by the type of the op.

    Raises:
        TypeError: nothing is known of the type.
    """
    raise TypeError(f"no cost is known for an op of type {type(op).__name__}")


@kernels_of.register
def _elementwise(op: Elementwise, costs: CostModel, shape: Rows) -> list[Cost]:
    return [costs.elementwise(shape.rows, op.elements)]


@kernels_of.register
def _attend(op: Attend, costs: CostModel, shape: Rows) -> list[Cost]:
    return costs.attention(op, shape)


@kernels_of.register
def _matmul(op: Matmul, costs: CostModel, shape: Rows) -> list[Cost]:
    operands = costs.scenario.operands(op)
    if op.experts is None:
        quantise = costs.quantised(shape.rows, op.k, operands)
        return [*quantise, costs.gemm(shape.rows, op.n, op.k, operands)]
    # One grouped GEMM over the experts that get a token, if tokens choose independently and evenly.
    count, per_token = op.experts.count, op.experts.per_token
    routed = np.multiply(shape.rows, per_token)
    rows = np.asarray(shape.rows, dtype=np.float64)
    active = count * (1.0 - (1.0 - per_token / count) ** rows)
    quantise = costs.quantised(routed, op.k, operands)
    grouped = costs.gemm(routed / active, active * op.n, op.k, operands)
    if not op.experts.routes:
        return [*quantise, grouped]
    router = costs.gemm(shape.rows, count, op.k, Operands.of(costs.scenario.workload.travel_dtype))
    return [router, costs.elementwise(routed, 4 * op.k), *quantise, grouped]


@kernels_of.register
def _chunked(op: ChunkedAttend, costs: CostModel, shape: Rows) -> list[Cost]:
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


@kernels_of.register
def _latent(op: LatentAttend, costs: CostModel, shape: Rows) -> list[Cost]:
    return [
        _latent_cost(op, costs, part.requests, part.tokens, part.start) for part in _parts(shape)
    ]


@kernels_of.register
def _selected(op: SelectedLatentAttend, costs: CostModel, shape: Rows) -> list[Cost]:
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
    op: LatentAttend, costs: CostModel, requests: Size, tokens: Size, context: Size
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


@kernels_of.register
def _latent_up(op: LatentUp, costs: CostModel, shape: Rows) -> list[Cost]:
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


@kernels_of.register
def _index(op: IndexScores, costs: CostModel, shape: Rows) -> list[Cost]:
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


@kernels_of.register
def _scan(op: Scan, costs: CostModel, shape: Rows) -> list[Cost]:
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


def slowdowns(
    compute: StepCost,
    sync: StepCost,
    *,
    gpu: Gpu,
    gemm: GemmParameters,
    memory_interference: float,
) -> tuple[Array, Array]:
    """How many times longer a compute step and a sync take while both are in flight.

    Every kernel runs on the SMs the collective leaves (see `_on_fewer_sms`) and slows by
    `memory_interference` times the share of memory bandwidth that the collective takes. The
    collective slows by its measured interference. Where the traffic of both exceeds the
    bandwidth, each slows by the excess at least.
    """
    left = 1.0 - np.minimum(sync.sms / gpu.sms, 0.95)
    disturbed = 1.0 + memory_interference * sync.mem_rate
    longer: Array = np.zeros(())
    for _, cost in compute.parts:
        streamed = cost.mem_bytes / gpu.memory_bandwidth
        shared_memory = streamed + sync.mem_rate * cost.seconds
        slower = _on_fewer_sms(cost, left, gemm) * disturbed
        longer = longer + np.maximum(slower, shared_memory)
    shared = compute.mem_rate + sync.mem_rate
    return longer / compute.seconds, np.maximum(sync.interference, shared)


def _on_fewer_sms(cost: Cost, left: Array, par: GemmParameters) -> Array:
    """Seconds of a kernel on a share `left` of the SMs.

    The library chose its tiles for the whole GPU; fewer SMs take them in more waves, which
    costs nothing where they still fit and a whole wave where they just filled the GPU. The
    SM-bound time enters the whole as in the roofline with a rounded ridge.
    """
    more_waves = waves(cost.load / left, par) / waves(cost.load, par)
    growth = np.where(cost.load > 0, more_waves, 1.0 / left)
    p = par.sharpness
    added = cost.sm_seconds**p * (growth**p - 1.0)
    return np.asarray((cost.seconds**p + added) ** (1 / p))
