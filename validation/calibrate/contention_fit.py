"""What compute and collectives take from each other, estimated from both side by side.

`isotune measure` times a block's kernels and an all-reduce alone and together. How much slower the
all-reduce became is the algorithm's `interference`; how much slower a kernel became, beyond the
SMs it lost, is `memory_interference` times the share of memory bandwidth that the all-reduce takes.
What a pass of the measured kernels takes beyond them and its all-reduces is `sync_skew`, most of
it the wait for the slowest rank.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
from pydantic import ConfigDict

from isotune.simulator.architecture import Attend, Matmul, Op
from isotune.simulator.io import AboveZero, Count, NotNegative, Number, read_rows
from isotune.simulator.kernels import Array, Cost, attention_cost, collective_cost, gemm_cost
from isotune.simulator.machine import HardwareProfile
from isotune.simulator.predict import StepCost, slowdowns
from isotune.validation.tables import SizedRow

_MOST_MEMORY_INTERFERENCE, _MOST_INTERFERENCE, _MOST_SKEW_S = 5.0, 3.0, 1e-2  # the profile's limits


class ContentionRow(SizedRow):
    """A kernel and an all-reduce, each alone and beside the other, as `isotune measure` writes it.

    `sms` is the all-reduce's budget, 0 for the library's own choice; `skew_us` what a pass took
    beyond its kernels and all-reduces, per all-reduce. Further columns (`hw`, ...) are not needed.
    """

    model_config = ConfigDict(extra="ignore")
    op: Literal["gemm", "attention"]
    bytes: Count
    ranks: Count
    sms: NotNegative
    alone_us: AboveZero
    beside_us: AboveZero
    all_reduce_alone_us: AboveZero
    all_reduce_beside_us: AboveZero
    skew_us: Number

    @property
    def slowdown(self) -> float:
        """How many times longer the kernel took beside the all-reduce."""
        return self.beside_us / self.alone_us

    @property
    def all_reduce_slowdown(self) -> float:
        """How many times longer the all-reduce took beside the kernel."""
        return self.all_reduce_beside_us / self.all_reduce_alone_us


def read_contention(path: Path) -> tuple[ContentionRow, ...]:
    """The rows of a contention table of `isotune measure`.

    Raises:
        InputError: a missing column, no rows, or a figure that is no number above zero.
    """
    return tuple(read_rows(path, ContentionRow))


def with_contention(
    profile: HardwareProfile, rows: tuple[ContentionRow, ...], source: str
) -> HardwareProfile:
    """The profile with its default all-reduce's `interference`, `memory_interference`, `sync_skew`.

    Medians over the rows, for what compute loses weighted with the kernels' times; within the
    profile's limits. `source` says where they come from.
    """
    collectives = profile.collectives
    name = collectives.default
    slower = float(
        np.clip(median(row.all_reduce_slowdown for row in rows), 1.0, _MOST_INTERFERENCE)
    )
    algorithm = collectives.algorithms[name].model_copy(update={"interference": round(slower, 3)})
    algorithms = collectives.algorithms | {name: algorithm}
    changed = profile.model_copy(
        update={"collectives": collectives.model_copy(update={"algorithms": algorithms})}
    )
    found = _weighted_median(
        [_memory_interference(changed, row) for row in rows], [1e-6 * row.alone_us for row in rows]
    )
    limited = round(float(np.clip(found, 0.0, _MOST_MEMORY_INTERFERENCE)), 3)
    skew = float(np.clip(median(1e-6 * row.skew_us for row in rows), 0.0, _MOST_SKEW_S))
    runtime = profile.runtime.model_copy(
        update={"memory_interference": limited, "sync_skew": float(f"{skew:.3g}")}
    )
    sources = profile.sources | {
        f"collectives.algorithms.{name}.interference": source,
        "runtime.memory_interference": source,
        "runtime.sync_skew": source,
    }
    return changed.model_copy(update={"runtime": runtime, "sources": sources})


def _weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The least value that, with those below it, has half the weight."""
    order = np.argsort(values)
    reached = np.cumsum(np.asarray(weights)[order])
    return float(values[order[np.searchsorted(reached, reached[-1] / 2)]])


def _memory_interference(profile: HardwareProfile, row: ContentionRow) -> float:
    """What explains the time of a row's kernel beyond the SMs it lost."""
    compute, sync = _steps(profile, row)
    lost_sms = slowdowns(
        compute, sync, gpu=profile.gpu, gemm=profile.gemm, memory_interference=0.0
    )[0]
    return (row.slowdown / float(lost_sms) - 1.0) / float(sync.mem_rate)


def _steps(profile: HardwareProfile, row: ContentionRow) -> tuple[StepCost, StepCost]:
    gpu = profile.gpu
    op, kernel = _kernel(profile, row)
    budget = int(row.sms) or None
    sync = collective_cost(
        "all_reduce", row.bytes, row.ranks, parameters=profile.collectives, sms=budget
    )

    def rate(mem_bytes: Array, seconds: Array) -> Array:
        return np.asarray(mem_bytes / (seconds * gpu.memory_bandwidth))

    none, one = np.zeros(()), np.ones(())
    compute_rate = rate(kernel.mem_bytes, kernel.seconds)
    return (
        StepCost(kernel.seconds, ((op, kernel),), none, compute_rate, one),
        StepCost(sync.seconds, (), sync.sms, rate(sync.mem_bytes, sync.seconds), sync.interference),
    )


def _kernel(profile: HardwareProfile, row: ContentionRow) -> tuple[Op, Cost]:
    sizes, gpu = row.sizes, profile.gpu
    if row.op == "gemm":
        product = Matmul(name="gemm", sublayer="mlp", n=sizes["n"], k=sizes["k"])
        return product, gemm_cost(*sizes.values(), gpu=gpu, parameters=profile.gemm)
    heads = {name: sizes[name] for name in ("heads", "kv_heads", "head_dim")}
    attend = Attend(name="attention", sublayer="attention", **heads)
    return attend, attention_cost(*sizes.values(), gpu=gpu, parameters=profile.attention)
