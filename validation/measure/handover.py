"""What a pass costs beyond its kernels and collectives: waits and hand-overs between streams."""

import statistics
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist

from isotune.simulator.architecture import Attend, Matmul, Norm, Op
from isotune.simulator.schedule import Plan, Program, Workload, expand
from isotune.validation.executor import let_host_ahead, streams_on
from isotune.validation.measure.cases import Range
from isotune.validation.measure.timed_kernels import Kernel, Kernels, seconds_of

_BLOCKS = 4


class Handover:
    """A pass of a few blocks made of the measured kernels, on the executor's own streams.

    It has `rows` tokens, and the all-reduces of a group. Its ops are those that are measured.
    """

    def __init__(
        self, kernels: Kernels, shapes: Range, rows: int, sync: Kernel, device: torch.device
    ) -> None:
        model = replace(shapes.model, num_hidden_layers=_BLOCKS)
        workload = Workload(prompt=rows, tp=max(2, shapes.tp))  # one rank would have no syncs
        self._program: Program = expand(model, workload, Plan())
        self._kernels = _of_a_block(kernels, shapes, rows)
        self._sync, self._device = sync, device

    def skew(self, repeats: int, group: Any) -> float:
        """Seconds per sync of the pass beyond its kernels, each alone, and its collectives.

        It is what a rank waits for the slowest one, for a stream to hand over to the other, and
        what kernels take longer than by themselves. A collective takes as long as the rank that
        comes last sees it take. Median over passes.
        """
        device = self._device
        alone = sum(seconds_of(kernel, repeats, device) for kernel in self._kernels.values())
        at_syncs = [at for at, step in enumerate(self._program.steps) if step.is_sync]
        streams, times = streams_on(device), []
        for _ in range(max(3, repeats // len(at_syncs))):
            run = streams.play(self._program, self._perform)
            seen = [run.ends[at] - run.starts[at] for at in at_syncs]
            shortest = torch.tensor(seen, dtype=torch.float64, device=device)
            dist.all_reduce(shortest, dist.ReduceOp.MIN, group=group)
            collectives = float(shortest.sum())
            times.append(run.latency - run.ends[0] - _BLOCKS * alone - collectives)
        return statistics.median(times) / len(at_syncs)

    def _perform(self, index: int) -> None:
        step = self._program.steps[index]
        if index == 0 and self._device.type == "cuda":
            let_host_ahead(len(self._kernels) * _BLOCKS + len(self._program.steps))
        if step.is_sync:
            self._sync()
            return
        for op in step.ops:
            if op in self._kernels:
                self._kernels[op]()


def _of_a_block(kernels: Kernels, shapes: Range, rows: int) -> dict[Op, Kernel]:
    """The measured kernels of a block of `rows` tokens, by the op of the program that they are."""
    measured, in_program = (shapes.model.block(n).ops for n in (shapes.tp, max(2, shapes.tp)))
    found: dict[Op, Kernel] = {}
    norm = kernels.rms_norm(rows, shapes.model.hidden_size)
    for op, stand_in in zip(measured, in_program, strict=True):
        if isinstance(op, Matmul):
            found[stand_in] = kernels.gemm(rows, op.n, op.k)
        elif isinstance(op, Norm):
            found[stand_in] = norm
        elif isinstance(op, Attend):
            heads = op.heads, op.kv_heads, op.head_dim
            found[stand_in] = kernels.attention(1, rows, rows, *heads)
    return found
