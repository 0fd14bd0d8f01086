"""What every rank of a measurement does. All ranks run a kernel together, as a real pass does."""

import statistics
import threading
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
import torch.distributed as dist

from isotune.validation.choices import COLLECTIVES
from isotune.validation.executor import group_of, let_host_ahead
from isotune.validation.measure.cases import ATTENTION_SIZES, Case, Range, cases, head_dim_of
from isotune.validation.measure.handover import Handover
from isotune.validation.measure.timed_kernels import (
    Kernel,
    Kernels,
    clocks_of,
    repeats_of,
    seconds_of,
)
from isotune.validation.ranks import Rank
from isotune.validation.real_run import DTYPES, MachineRecord, wait_for_all


@dataclass(frozen=True)
class Row:
    """A case and its time; a contention case also has the times of each side alone, the
    collective's beside compute, and what a pass takes beyond both alone, per sync. Seconds."""

    case: Case
    seconds: float
    alone_s: float = 0.0
    sync_alone_s: float = 0.0
    sync_s: float = 0.0
    skew_s: float = 0.0


def merged(visits: Iterable[Row]) -> list[Row]:
    """One row for each case: the medians of its visits."""
    by_case: dict[str, list[Row]] = {}
    for row in visits:
        by_case.setdefault(str(row.case), []).append(row)
    names = [field.name for field in fields(Row) if field.name != "case"]
    return [
        replace(
            rows[0],
            **{name: statistics.median(getattr(row, name) for row in rows) for name in names},
        )
        for rows in by_case.values()
    ]


_MOST_TOGETHER, _MOST_ENQUEUED = 64, 300
"""Collectives of a contention case, and kernels with them: a stream's queue takes some 1,000
launches with their events, and the host would wait where it is full."""
VISITS = 3
"""How often each case is measured, all others in between: a busy moment spoils one visit only."""


@dataclass(frozen=True)
class MeasureJob:
    """Measures a range's cases, each for about `budget_s` seconds.

    Rank 0 sends what it runs on, then a `Row` for each visit of a case.
    """

    messages: ClassVar = (Row, MachineRecord)
    shapes: Range
    dtype: str
    budget_s: float

    def __call__(self, rank: Rank) -> None:
        """See `Job`."""
        kernels = Kernels(DTYPES[self.dtype], rank.device)
        todo = cases(self.shapes)
        groups = self._groups(rank, todo)
        if rank.index == 0:
            rank.send(
                MachineRecord.of(rank.device, kernels.attention_name(head_dim_of(self.shapes)))
            )
        rank.at("measuring")
        for index, case in [*enumerate(todo)] * VISITS:
            rank.step(index)
            wait_for_all(rank)
            row = self._row(rank, kernels, case, groups)
            if rank.index == 0 and row is not None:
                rank.send(row)

    def _row(
        self, rank: Rank, kernels: Kernels, case: Case, groups: dict[tuple[int, int], Any]
    ) -> Row | None:
        if case.op == "contention":
            return self._contention(rank, kernels, case, groups[_group_key(case)])
        if case.op in COLLECTIVES:
            return self._collective(rank, kernels, case, groups[_group_key(case)])
        kernel = getattr(kernels, case.op)(**case.sizes)
        repeats = self._repeats(kernel, rank)
        return Row(case, seconds_of(kernel, repeats, rank.device))

    def _repeats(self, kernel: Kernel, rank: Rank) -> int:
        """How often a kernel runs in a visit."""
        return repeats_of(kernel, self.budget_s / VISITS, rank.device)

    def _groups(self, rank: Rank, todo: tuple[Case, ...]) -> dict[tuple[int, int], Any]:
        """A process group for each number of ranks and SM budget; made by all ranks together."""
        groups: dict[tuple[int, int], Any] = {}
        for key in dict.fromkeys(_group_key(c) for c in todo if "ranks" in c.sizes):
            members, sms = key
            cuda = rank.device.type == "cuda"
            groups[key] = group_of(list(range(members)), cuda=cuda, sms=sms or None)
        return groups

    def _collective(self, rank: Rank, kernels: Kernels, case: Case, group: Any) -> Row | None:
        if rank.index >= case.sizes["ranks"]:
            return None
        kernel = kernels.collective(case.op, case.sizes["bytes"], case.sizes["ranks"], group)
        repeats = _same(self._repeats(kernel, rank), group, rank.device)
        return Row(case, seconds_of(kernel, repeats, rank.device))

    def _contention(self, rank: Rank, kernels: Kernels, case: Case, group: Any) -> Row:
        compute = _compute(kernels, case)
        sync = kernels.collective("all_reduce", case.sizes["bytes"], case.sizes["ranks"], group)
        repeats = _same(self._repeats(sync, rank), group, rank.device)
        alone, sync_alone = (seconds_of(kernel, repeats, rank.device) for kernel in (compute, sync))
        rows = max(self.shapes.tokens // 2, 1)
        handover = Handover(kernels, self.shapes, rows, sync, rank.device)
        skew = handover.skew(repeats, group)
        wait_for_all(rank)
        together = _together_cuda if rank.device.type == "cuda" else _together_cpu
        beside, sync_beside = together(compute, sync, repeats, alone, rank.device)
        return Row(case, beside, alone, sync_alone, sync_beside, skew)


def _compute(kernels: Kernels, case: Case) -> Kernel:
    """The kernel of a contention case: a GEMM, or attention."""
    if "m" in case.sizes:
        return kernels.gemm(*(case.sizes[name] for name in "mnk"))
    return kernels.attention(**{name: case.sizes[name] for name in ATTENTION_SIZES})


def _together_cpu(
    compute: Any, sync: Any, repeats: int, alone_s: float, device: torch.device
) -> tuple[float, float]:
    """Times of a kernel while all-reduces run in another thread, and of those.

    Means: a step is disturbed now and then, and a pass adds up many.
    """
    syncs: list[float] = []
    thread = threading.Thread(target=lambda: syncs.extend(clocks_of(sync, repeats, device)))
    thread.start()
    computed: list[float] = []
    while thread.is_alive():
        computed += clocks_of(compute, 1, device)
    thread.join()
    # The last one outlived the collectives.
    return statistics.fmean(computed[:-1] or computed or [alone_s]), statistics.fmean(syncs)


def _together_cuda(
    compute: Any, sync: Any, repeats: int, alone_s: float, device: torch.device
) -> tuple[float, float]:
    """As on CPU, on two streams; about as many kernels as fit beside the collectives."""
    sync_s = max(seconds_of(sync, 1, device), 1e-6)
    repeats = min(repeats, _MOST_TOGETHER)
    count = max(3, int(repeats * sync_s / alone_s))
    if count > _MOST_ENQUEUED:
        repeats, count = max(3, repeats * _MOST_ENQUEUED // count), _MOST_ENQUEUED
    # Of the same priorities as the executor's.
    streams = [torch.cuda.Stream(device, priority=priority) for priority in (-1, 0)]
    events: list[list[Any]] = [[], []]
    # Both wait until all is enqueued: otherwise the first stream would run alone meanwhile.
    let_host_ahead(repeats + count)
    for stream in streams:
        stream.wait_stream(torch.cuda.current_stream(device))
    # In turns, so that neither stream's queue fills while the other has nothing to do.
    turns = sorted(
        [(at / repeats, 0) for at in range(repeats)] + [(at / count, 1) for at in range(count)]
    )
    for _, side in turns:
        with torch.cuda.stream(streams[side]):
            pair = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            pair[0].record(streams[side])
            (sync, compute)[side]()
            pair[1].record(streams[side])
            events[side].append(pair)
    torch.cuda.synchronize(device)
    syncs, computed = ([a.elapsed_time(b) / 1e3 for a, b in marks] for marks in events)
    return statistics.fmean(computed[: max(1, count // 2)]), statistics.fmean(syncs)


def _group_key(case: Case) -> tuple[int, int]:
    return case.sizes.get("ranks", 1), case.sizes.get("sms", 0)


def _same(value: int, group: Any, device: torch.device) -> int:
    """Rank 0's value on every rank."""
    box = torch.tensor([value], device=device)
    dist.broadcast(box, 0, group=group)
    return int(box.item())
