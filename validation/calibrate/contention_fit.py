"""What compute and collectives take from each other, estimated from both side by side.

`isotune measure` times a block's kernels and an all-reduce alone and together. How much slower the
all-reduce became is the algorithm's `interference`; how much slower a kernel became, beyond the
SMs it lost, is `memory_interference` times the share of memory bandwidth that the all-reduce takes.
What a pass of the measured kernels takes beyond them and its all-reduces is `sync_skew`, most of
it the wait for the slowest rank.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
from pydantic import ConfigDict

from isotune.simulator.architecture import Attend, Matmul, Op
from isotune.simulator.errors import InputError
from isotune.simulator.io import AboveZero, Count, CsvRow, NotNegative, Number, read_rows
from isotune.simulator.kernels import Array, Cost, attention_cost, collective_cost, gemm_cost
from isotune.simulator.machine import HardwareProfile
from isotune.simulator.predict import StepCost, slowdowns

_KERNELS = {
    "gemm": ("m", "n", "k"),
    "attention": ("batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim"),
}
_MOST_MEMORY_INTERFERENCE, _MOST_INTERFERENCE, _MOST_SKEW_S = 5.0, 3.0, 1e-2  # the profile's limits


class ContentionRow(CsvRow):
    """One row as `isotune measure` writes it; its further columns (`hw`, ...) are not needed."""

    model_config = ConfigDict(extra="ignore")
    op: Literal["gemm", "attention"]
    m: Count | None = None
    n: Count | None = None
    k: Count | None = None
    batch: Count | None = None
    q_len: Count | None = None
    kv_len: Count | None = None
    heads: Count | None = None
    kv_heads: Count | None = None
    head_dim: Count | None = None
    bytes: Count
    ranks: Count
    sms: NotNegative
    alone_us: AboveZero
    beside_us: AboveZero
    all_reduce_alone_us: AboveZero
    all_reduce_beside_us: AboveZero
    skew_us: Number


@dataclass(frozen=True, kw_only=True)
class Contended:
    """A row: a kernel of these sizes, an all-reduce, and how many times longer each took beside
    the other.

    `sms` is the all-reduce's budget, None for the library's own choice; `alone_s` the kernel's
    time alone; `skew_s` what a pass took beyond its kernels and all-reduces, per all-reduce.
    """

    op: str
    sizes: Mapping[str, int]
    message_bytes: int
    ranks: int
    sms: int | None
    alone_s: float
    compute: float
    all_reduce: float
    skew_s: float


def read_contention(path: Path) -> tuple[Contended, ...]:
    """The rows of a contention table of `isotune measure`.

    Raises:
        InputError: a missing column, no rows, or a figure that is no number above zero.
    """
    return tuple(_contended(row, path) for row in read_rows(path, ContentionRow))


def _contended(row: ContentionRow, path: Path) -> Contended:
    sizes = {name: getattr(row, name) for name in _KERNELS[row.op]}
    for name, value in sizes.items():
        if value is None:
            raise InputError(f"{path}: row {row.line}: column {name} is empty")
    return Contended(
        op=row.op,
        sizes=sizes,
        message_bytes=row.bytes,
        ranks=row.ranks,
        sms=int(row.sms) or None,
        alone_s=1e-6 * row.alone_us,
        compute=row.beside_us / row.alone_us,
        all_reduce=row.all_reduce_beside_us / row.all_reduce_alone_us,
        skew_s=1e-6 * row.skew_us,
    )


def with_contention(
    profile: HardwareProfile, rows: tuple[Contended, ...], source: str
) -> HardwareProfile:
    """The profile with its default all-reduce's `interference`, `memory_interference`, `sync_skew`.

    Medians over the rows, for what compute loses weighted with the kernels' times; within the
    profile's limits. `source` says where they come from.
    """
    collectives = profile.collectives
    name = collectives.default
    slower = float(np.clip(median(row.all_reduce for row in rows), 1.0, _MOST_INTERFERENCE))
    algorithm = collectives.algorithms[name].model_copy(update={"interference": round(slower, 3)})
    algorithms = collectives.algorithms | {name: algorithm}
    changed = profile.model_copy(
        update={"collectives": collectives.model_copy(update={"algorithms": algorithms})}
    )
    found = _weighted_median(
        [_memory_interference(changed, row) for row in rows], [row.alone_s for row in rows]
    )
    limited = round(float(np.clip(found, 0.0, _MOST_MEMORY_INTERFERENCE)), 3)
    skew = float(np.clip(median(row.skew_s for row in rows), 0.0, _MOST_SKEW_S))
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


def _memory_interference(profile: HardwareProfile, row: Contended) -> float:
    """What explains the time of a row's kernel beyond the SMs it lost."""
    compute, sync = _steps(profile, row)
    lost_sms = slowdowns(
        compute, sync, gpu=profile.gpu, gemm=profile.gemm, memory_interference=0.0
    )[0]
    return (row.compute / float(lost_sms) - 1.0) / float(sync.mem_rate)


def _steps(profile: HardwareProfile, row: Contended) -> tuple[StepCost, StepCost]:
    gpu = profile.gpu
    op, kernel = _kernel(profile, row)
    sync = collective_cost(
        "all_reduce", row.message_bytes, row.ranks, parameters=profile.collectives, sms=row.sms
    )

    def rate(mem_bytes: Array, seconds: Array) -> Array:
        return np.asarray(mem_bytes / (seconds * gpu.memory_bandwidth))

    none, one = np.zeros(()), np.ones(())
    compute_rate = rate(kernel.mem_bytes, kernel.seconds)
    return (
        StepCost(kernel.seconds, ((op, kernel),), none, compute_rate, one),
        StepCost(sync.seconds, (), sync.sms, rate(sync.mem_bytes, sync.seconds), sync.interference),
    )


def _kernel(profile: HardwareProfile, row: Contended) -> tuple[Op, Cost]:
    sizes, gpu = [row.sizes[name] for name in _KERNELS[row.op]], profile.gpu
    if row.op == "gemm":
        product = Matmul(name="gemm", sublayer="mlp", n=row.sizes["n"], k=row.sizes["k"])
        return product, gemm_cost(*sizes, gpu=gpu, parameters=profile.gemm)
    heads = {name: row.sizes[name] for name in ("heads", "kv_heads", "head_dim")}
    attend = Attend(name="attention", sublayer="attention", **heads)
    return attend, attention_cost(*sizes, gpu=gpu, parameters=profile.attention)
