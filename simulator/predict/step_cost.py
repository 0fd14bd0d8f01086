"""What a step costs: the kernels of its ops inside a running engine, or its collective."""

from dataclasses import dataclass
from typing import Self

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
    CollectiveCost,
    Cost,
    Network,
    Operands,
    Size,
    attention_cost,
    collective_cost,
    elementwise_cost,
    gemm_cost,
    grouped_attention_costs,
    protocol_of,
    quantised_all_reduce,
)
from isotune.simulator.number_types import bytes_of, loses, number_type
from isotune.simulator.predict.carriers import Carrier
from isotune.simulator.predict.contention import slowdowns
from isotune.simulator.predict.op_kernels import kernels_of
from isotune.simulator.predict.scenario import Scenario
from isotune.simulator.predict.step_shape import Rows, StepCost
from isotune.simulator.schedule import CommDtype, Plan

_BETWEEN_PIECES = ("attention", "latent_attention")
"""Sections of the ops that run between the pieces of a piecewise graph."""
_SHORTEST = 1e-7
"""Seconds that an all-reduce keeps when the norm that it is fused with is longer than both."""


def _host(seconds: float, like: Cost) -> Cost:
    """So many seconds of the host, in the shape of `like`."""
    nothing = np.zeros_like(like.seconds)
    return Cost(nothing + seconds, nothing, nothing, nothing, nothing)


@dataclass(frozen=True, kw_only=True)
class Message:
    """All-reduces of one operation and size: what carries them, and what one takes.

    `protocol` is the line of the algorithm that is fastest at this size. `norm` says that the
    residual and the next norm are in the kernel; `seconds` is then what it takes beyond the norm's
    own kernel.
    """

    op: str
    tokens: int
    message_bytes: int
    algorithm: str
    protocol: str
    norm: bool
    measured: bool
    seconds: float
    count: int


@dataclass(frozen=True)
class CostModel:
    """Costs of the steps of one scenario for one transfer type and SM budget.

    `in_line` says that all-reduces run between compute steps, not beside them: only then can an
    engine fuse one with the norm after it.
    """

    scenario: Scenario
    comm_dtype: CommDtype = "bf16"
    comm_sms: int | None = None
    in_line: bool = True

    @classmethod
    def of(cls, scenario: Scenario, plan: Plan) -> Self:
        """Costs of the steps of a plan."""
        in_line = not plan.how.beside(len(plan.chunks))
        return cls(scenario, plan.comm_dtype, plan.comm_sms, in_line)

    def step(self, ops: tuple[Op, ...], shape: Rows) -> StepCost:
        """Price of ops that run back to back over the same rows."""
        if isinstance(ops[0], Collective):
            return self._sync(ops[0], shape)
        parts = tuple(
            (op, self._sustained(kernel, self._eager(op)))
            for op in ops
            for kernel in self.kernels(op, shape)
        )
        if isinstance(ops[-1], LmHead) and (host := self._host_seconds) > 0:
            parts += ((HOST, _host(host, parts[-1][1])),)
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

    def _eager(self, op: Op) -> bool:
        """Whether the host launches an op's kernels one by one; of pieces, those of attention."""
        mode = self.scenario.workload.runtime
        return mode == "eager" or (mode == "piecewise_graph" and op.section in _BETWEEN_PIECES)

    def _sustained(self, cost: Cost, eager: bool) -> Cost:
        """A kernel inside a running engine: sustained clock, and how it is launched."""
        runtime = self.scenario.hardware.runtime
        slower = cost.sm_seconds * (1.0 / runtime.sustained_clock - 1.0)
        return cost._replace(
            seconds=self._launched(cost.seconds + slower, eager),
            sm_seconds=cost.sm_seconds + slower,
        )

    def _launched(self, seconds: Array, eager: bool) -> Array:
        """Eager kernels wait for the host; those of a CUDA graph start under the one before."""
        runtime = self.scenario.hardware.runtime
        if eager:
            return np.maximum(seconds + runtime.launch_gap, runtime.host_launch)
        return seconds - np.minimum(runtime.graph_overlap, seconds / 2)

    @property
    def _host_seconds(self) -> float:
        """What the host does once per pass while the GPU waits."""
        if self.scenario.workload.runtime == "eager":
            return self.scenario.hardware.runtime.eager_step
        return self.scenario.engine.step_time.value

    def _sync(self, op: Collective, shape: Rows) -> StepCost:
        hardware = self.scenario.hardware
        cost = self._alone(op, np.asarray(shape.rows, dtype=np.float64))
        seconds = self._launched(cost.seconds, self._eager(op)) + hardware.runtime.sync_skew
        rate = cost.mem_bytes / (seconds * hardware.gpu.memory_bandwidth)
        nothing = np.zeros_like(seconds)
        alone = Cost(seconds, seconds, cost.mem_bytes, nothing, nothing)
        return StepCost(seconds, ((op, alone),), cost.sms, rate, cost.interference)

    def among(self, op: Collective) -> tuple[int, Network | None]:
        """The ranks of a collective's group, and what joins them if they are on several nodes."""
        shared = self.scenario.workload.parallelism
        network = self.scenario.hardware.network_of(shared.stride(op.group))
        return shared.size(op.group), network

    def _alone(self, op: Collective, rows: Array) -> CollectiveCost:
        """A collective over rows [of any shape] alone on the machine."""
        hardware = self.scenario.hardware
        if loses(self.comm_dtype):
            if op.kind != "all_reduce":
                raise InputError(f"comm_dtype: {op.kind} sends bf16, not {self.comm_dtype}")
            ranks, network = self.among(op)
            return quantised_all_reduce(
                rows * op.elements,
                ranks,
                parameters=hardware.collectives,
                memory_pass=self._memory_pass,
                transfer=self.comm_dtype,
                sms=self.comm_sms,
                network=network,
            )
        *gates, library = self.carriers(op)
        size = rows * op.elements * bytes_of("bf16")
        cost = self._carried(op, library, size, rows)
        for carrier in reversed(gates):
            taken = carrier.takes(size, rows)
            if np.any(taken):
                own = self._carried(op, carrier, size, rows)
                both = zip(own, cost, strict=True)
                cost = CollectiveCost(*(np.where(taken, mine, other) for mine, other in both))
        return cost

    def carriers(self, op: Collective) -> tuple[Carrier, ...]:
        """What may carry a collective, in the order in which its messages come to them."""
        ranks, _ = self.among(op)
        *gates, library = self.scenario.carriers_among(ranks)
        if op.kind != "all_reduce" or loses(self.comm_dtype):
            return (library,)
        fuses = self.in_line and self.scenario.norm is not None
        return (*(one for one in gates if fuses or not one.norm), library)

    def carrier(self, op: Collective, rows: int) -> Carrier:
        """What carries a collective over so many rows."""
        size, tokens = np.asarray(rows * op.elements * bytes_of("bf16")), np.asarray(rows)
        return next(one for one in self.carriers(op) if one.takes(size, tokens))

    def message(self, op: Collective, rows: int, seconds: float, count: int) -> Message:
        """So many all-reduces over so many rows, which take so many seconds each."""
        carrier, dtype = self.carrier(op, rows), self.comm_dtype
        size = rows * op.elements * bytes_of(dtype)
        ranks, network = self.among(op)
        protocol = protocol_of(
            op.kind,
            size,
            ranks if network is None else min(ranks, network.gpus),
            parameters=carrier.lines.parameters,
            dtype=dtype,
            sms=self.comm_sms,
        )
        return Message(
            op=op.name,
            tokens=rows,
            message_bytes=round(size),
            algorithm=carrier.label,
            protocol=protocol,
            norm=carrier.norm,
            measured=not carrier.lines.derived,
            seconds=seconds,
            count=count,
        )

    def _carried(
        self, op: Collective, carrier: Carrier, size: Array, rows: Array
    ) -> CollectiveCost:
        """A collective by one carrier.

        A kernel that is fused with the norm is listed without it: the norm stands in its own row,
        at what its own kernel takes, so that both rows together are the fused kernel's time.
        """
        ranks, network = self.among(op)
        cost = collective_cost(
            op.kind,
            size,
            ranks,
            parameters=carrier.lines.parameters,
            sms=self.comm_sms,
            network=network,
        )
        if not carrier.norm or self.scenario.norm is None:
            return cost
        norm = sum(
            self._sustained(kernel, self._eager(self.scenario.norm)).seconds
            for kernel in self.kernels(self.scenario.norm, Rows(rows, 1, rows, 0))
        )
        whole = cost.seconds + carrier.lines.seconds_per_byte * size
        return cost._replace(seconds=np.maximum(whole - norm, _SHORTEST))

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
        section = self.scenario.hardware.elementwise
        chosen = section.of(operands.dtype, engine=self.scenario.software_of(section))
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
