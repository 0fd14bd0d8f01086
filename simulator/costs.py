"""Prices of steps: which kernels an op runs, on which shapes, and what they cost.

The shapes are those of one rank: column-parallel QKV and MLP up, row-parallel attention
output and MLP down (Megatron-LM, arXiv 1909.08053), KV heads replicated when there are
fewer than ranks. A mixture of experts runs one grouped GEMM over the experts that get a
token.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simulator.attention import attention
from simulator.collectives import all_reduce, quantised_all_reduce
from simulator.cost import Array, Cost
from simulator.elementwise import elementwise
from simulator.gemm import Size, gemm
from simulator.gpu import DTYPE_BYTES
from simulator.plan import CommDtype
from simulator.program import SYNCS, Op
from simulator.scenario import Scenario


class Rows(NamedTuple):
    """Shape of the activations an op works on; ints or arrays of one common shape.

    `rows` rows of a chunk: `tokens` tokens of each of `requests` requests, after `start`
    tokens of context.
    """

    rows: Size
    requests: Size
    tokens: Size
    start: Size


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
class Pricer:
    """Prices the steps of one scenario for one transfer type and SM budget."""

    scenario: Scenario
    comm_dtype: CommDtype = "bf16"
    comm_sms: int | None = None

    def step(self, ops: tuple[Op, ...], shape: Rows) -> StepCost:
        """Price of ops that run back to back over the same rows."""
        if ops[0] in SYNCS:
            return self._sync(ops[0], shape)
        parts = tuple((op, self._sustained(self._kernel(op, shape))) for op in ops)
        seconds, _, mem_bytes, _ = _total([cost for _, cost in parts])
        rate = mem_bytes / (seconds * self.scenario.hardware.gpu.memory_bandwidth)
        return StepCost(seconds, parts, np.zeros_like(seconds), rate, np.ones_like(seconds))

    def slowdowns(self, compute: StepCost, sync: StepCost) -> tuple[Array, Array]:
        """How many times longer each takes while both are in flight.

        A kernel loses the SMs the collective holds: its SM-bound time grows by
        1 / (1 - held / all). Both share device memory: where their traffic together exceeds
        the bandwidth, each slows by the excess. The collective slows by its own measured
        interference at least.
        """
        gpu = self.scenario.hardware.gpu
        left = 1.0 - np.minimum(sync.sms / gpu.sms, 0.95)
        longer: Array = np.zeros(())
        for _, cost in compute.parts:
            fewer_sms = np.maximum(cost.seconds, cost.sm_seconds / left)
            shared_memory = cost.mem_bytes / gpu.memory_bandwidth + sync.mem_rate * cost.seconds
            longer = longer + np.maximum(fewer_sms, shared_memory)
        shared = compute.mem_rate + sync.mem_rate
        return longer / compute.seconds, np.maximum(sync.interference, shared)

    def _sustained(self, cost: Cost) -> Cost:
        """A kernel inside a running engine: sustained clock, launch gap, eager launch floor."""
        runtime = self.scenario.hardware.runtime
        slower = cost.sm_seconds * (1.0 / runtime.sustained_clock - 1.0)
        return cost._replace(
            seconds=self._launched(cost.seconds + slower), sm_seconds=cost.sm_seconds + slower
        )

    def _launched(self, seconds: Array) -> Array:
        runtime = self.scenario.hardware.runtime
        eager = self.scenario.workload.runtime == "eager"
        return np.maximum(seconds + runtime.launch_gap, runtime.host_launch if eager else 0.0)

    def _sync(self, op: Op, shape: Rows) -> StepCost:
        hardware, tp = self.scenario.hardware, self.scenario.workload.tp
        elements = np.asarray(shape.rows, dtype=np.float64) * self.scenario.model.hidden_size
        if self.comm_dtype == "bf16":
            cost = all_reduce(
                elements * DTYPE_BYTES["bf16"],
                tp,
                parameters=hardware.collectives,
                sms=self.comm_sms,
            )
        else:
            cost = quantised_all_reduce(
                elements,
                tp,
                parameters=hardware.collectives,
                memory_pass=self._memory_pass,
                transfer=self.comm_dtype,
                sms=self.comm_sms,
            )
        seconds = self._launched(cost.seconds)
        rate = cost.mem_bytes / (seconds * hardware.gpu.memory_bandwidth)
        alone = Cost(seconds, seconds, cost.mem_bytes, np.zeros_like(seconds))
        return StepCost(seconds, ((op, alone),), cost.sms, rate, cost.interference)

    def _memory_pass(self, mem_bytes: Array) -> Array:
        return self._elementwise(1, mem_bytes).seconds

    def _elementwise(self, rows: Size, row_bytes: float | Array) -> Cost:
        hardware = self.scenario.hardware
        return elementwise(rows, row_bytes, gpu=hardware.gpu, parameters=hardware.elementwise)

    def _gemm(self, m: Size, n: Size, k: Size) -> Cost:
        hardware, workload = self.scenario.hardware, self.scenario.workload
        return gemm(
            m,
            n,
            k,
            gpu=hardware.gpu,
            parameters=hardware.gemm,
            dtype=workload.dtype,
            weight_dtype=workload.weight_dtype,
        )

    def _kernel(self, op: Op, shape: Rows) -> Cost:
        """Cost of an op's kernel in a short burst."""
        model, workload = self.scenario.model, self.scenario.workload
        tp, hidden, width = workload.tp, model.hidden_size, DTYPE_BYTES[workload.dtype]
        heads, kv_heads = model.heads_per_gpu(tp), model.kv_heads_per_gpu(tp)
        match op:
            case Op.EMBED:
                return self._elementwise(shape.rows, 2 * hidden * width)
            case Op.ATTENTION_NORM | Op.MLP_NORM:
                # Norm and residual add in one kernel: reads and writes both streams.
                return self._elementwise(shape.rows, 4 * hidden * width)
            case Op.FINAL_NORM:
                return self._elementwise(shape.requests, 3 * hidden * width)
            case Op.PARTIAL_ADD:
                return self._elementwise(shape.rows, 3 * hidden * width)
            case Op.QKV:
                return self._gemm(shape.rows, (heads + 2 * kv_heads) * model.head_dim, hidden)
            case Op.ROPE:
                # In place; the copy of new keys and values to the cache is attention's.
                moved = (2 * heads + 2 * kv_heads) * model.head_dim
                return self._elementwise(shape.rows, moved * width)
            case Op.ATTENTION:
                return self._attention(shape, heads, kv_heads)
            case Op.ATTENTION_OUT:
                return self._gemm(shape.rows, hidden, heads * model.head_dim)
            case Op.LM_HEAD:
                return self._gemm(shape.requests, -(-model.vocab_size // tp), hidden)
            case _:
                return self._mlp(op, shape.rows)

    def _attention(self, shape: Rows, heads: int, kv_heads: int) -> Cost:
        model, hardware = self.scenario.model, self.scenario.hardware
        return attention(
            shape.requests,
            shape.tokens,
            np.add(shape.start, shape.tokens),
            heads,
            kv_heads,
            model.head_dim,
            gpu=hardware.gpu,
            parameters=hardware.attention,
            dtype=self.scenario.workload.dtype,
            window=model.sliding_window,
        )

    def _mlp(self, op: Op, rows: Size) -> Cost:
        model, workload = self.scenario.model, self.scenario.workload
        hidden, width = model.hidden_size, DTYPE_BYTES[workload.dtype]
        ffn, parallel = model.intermediate_size // workload.tp, 2 if model.gated_mlp else 1
        experts, per_token = model.num_experts, model.num_experts_per_token
        if op is Op.ACTIVATION:
            return self._elementwise(np.multiply(rows, per_token), (parallel + 1) * ffn * width)
        n, k = (parallel * ffn, hidden) if op is Op.MLP_UP else (hidden, ffn)
        if experts == 1:
            return self._gemm(rows, n, k)
        # Experts that get at least one token, if tokens choose independently and evenly.
        routed = np.multiply(rows, per_token)
        active = experts * (1.0 - (1.0 - per_token / experts) ** np.asarray(rows, dtype=np.float64))
        grouped = self._gemm(routed / active, active * n, k)
        if op is Op.MLP_DOWN:
            return grouped
        permute = self._elementwise(routed, 4 * hidden * width)
        return _total([self._gemm(rows, experts, hidden), permute, grouped])


def _total(costs: list[Cost]) -> Cost:
    return Cost(*(np.asarray(sum(field)) for field in zip(*costs, strict=True)))
