"""What a step costs: the kernels of its ops inside a running engine, or its collective."""

from dataclasses import dataclass

import numpy as np

from isotune.simulator.architecture import (
    HOST,
    Attend,
    Collective,
    LmHead,
    Op,
)
from isotune.simulator.errors import InputError
from isotune.simulator.kernels import (
    Array,
    Cost,
    Operands,
    Size,
    attention_cost,
    collective_cost,
    elementwise_cost,
    gemm_cost,
    grouped_attention_costs,
    quantised_all_reduce,
)
from isotune.simulator.number_types import bytes_of, loses, number_type
from isotune.simulator.predict.contention import slowdowns
from isotune.simulator.predict.op_kernels import kernels_of
from isotune.simulator.predict.scenario import Scenario
from isotune.simulator.predict.step_shape import Rows, StepCost
from isotune.simulator.schedule import CommDtype


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
        most = seconds * self.scenario.hardware.gpu.memory_bandwidth
        rate = np.divide(mem_bytes, most, out=np.zeros_like(most), where=most > 0)
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
        hardware, shared = self.scenario.hardware, self.scenario.workload.parallelism
        ranks, network = shared.size(op.group), hardware.network_of(shared.stride(op.group))
        elements = np.asarray(shape.rows, dtype=np.float64) * op.elements
        if not loses(self.comm_dtype):
            cost = collective_cost(
                op.kind,
                elements * bytes_of("bf16"),
                ranks,
                parameters=hardware.collectives,
                sms=self.comm_sms,
                network=network,
            )
        else:
            if op.kind != "all_reduce":
                raise InputError(f"comm_dtype: {op.kind} sends bf16, not {self.comm_dtype}")
            cost = quantised_all_reduce(
                elements,
                ranks,
                parameters=hardware.collectives,
                memory_pass=self._memory_pass,
                transfer=self.comm_dtype,
                sms=self.comm_sms,
                network=network,
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

    def quantised(
        self, rows: Size, k: int, operands: Operands, stands_in_for: str | None = None
    ) -> list[Cost]:
        """The kernel that quantises a product's activations, where there is one.

        It reads them and writes them narrower. Measured sets of a type contain it: their rows
        were taken with it. Where other figures stand in (see `Selected`; by default those of
        `gemm`), it is added.
        """
        activations = number_type(operands.dtype)
        stands_in = stands_in_for
        if stands_in is None:
            stands_in = self.scenario.gemm_of(operands).stands_in_for
        if not (activations.quantises_activations and str(operands) in stands_in):
            return []
        chosen = self.scenario.hardware.elementwise.of(operands.dtype, engine=self.scenario.engine)
        return [
            elementwise_cost(
                rows,
                k * (self.scenario.workload.width + activations.bytes),
                gpu=self.scenario.hardware.gpu,
                parameters=chosen.parameters,
            )
        ]

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
