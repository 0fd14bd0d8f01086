"""What every rank of a measurement does. All ranks run a kernel together, as a real pass does."""

import statistics
import threading
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from validation.collectives import group_of
from validation.job import DTYPES
from validation.measure.cases import Case, Range, cases
from validation.measure.kernels import Kernels, let_host_ahead, repeats_of, seconds_of
from validation.rank import Rank
from validation.turns import wait_for_all


@dataclass(frozen=True)
class Row:
    """A case and its time; a contention case also has the times of each side alone, the
    collective's beside compute, and of one after the other on every rank. Seconds."""

    case: Case
    seconds: float
    alone_s: float = 0.0
    sync_alone_s: float = 0.0
    sync_s: float = 0.0
    in_turn_s: float = 0.0


@dataclass(frozen=True)
class MeasureJob:
    """Measures a range's cases, each for about `budget_s` seconds; rank 0 sends `Row`s."""

    wanted: Range
    dtype: str
    budget_s: float

    def __call__(self, rank: Rank) -> None:
        """See `Job`."""
        kernels = Kernels(DTYPES[self.dtype], rank.device)
        todo = cases(self.wanted)
        groups = self._groups(rank, todo)
        rank.at("measuring")
        for index, case in enumerate(todo):
            rank.step(index)
            wait_for_all(rank)
            row: Row | None
            if case.op == "contention":
                row = self._contention(rank, kernels, case, groups[_group_key(case)])
            elif case.op == "all_reduce":
                row = self._all_reduce(rank, kernels, case, groups[_group_key(case)])
            else:
                kernel = getattr(kernels, case.op)(**case.sizes)
                repeats = repeats_of(kernel, self.budget_s, rank.device)
                row = Row(case, seconds_of(kernel, repeats, rank.device))
            if rank.index == 0 and row is not None:
                rank.send(row)

    def _groups(self, rank: Rank, todo: tuple[Case, ...]) -> dict[tuple[int, int], Any]:
        """A process group for each number of ranks and SM budget; made by all ranks together."""
        groups: dict[tuple[int, int], Any] = {}
        for key in dict.fromkeys(_group_key(c) for c in todo if "ranks" in c.sizes):
            members, sms = key
            cuda = rank.device.type == "cuda"
            groups[key] = group_of(list(range(members)), cuda=cuda, sms=sms or None)
        return groups

    def _all_reduce(self, rank: Rank, kernels: Kernels, case: Case, group: Any) -> Row | None:
        if rank.index >= case.sizes["ranks"]:
            return None
        kernel = kernels.all_reduce(case.sizes["bytes"], group)
        repeats = _same(repeats_of(kernel, self.budget_s, rank.device), group, rank.device)
        return Row(case, seconds_of(kernel, repeats, rank.device))

    def _contention(self, rank: Rank, kernels: Kernels, case: Case, group: Any) -> Row:
        gemm = kernels.gemm(*(case.sizes[name] for name in "mnk"))
        sync = kernels.all_reduce(case.sizes["bytes"], group)
        repeats = _same(repeats_of(sync, self.budget_s, rank.device), group, rank.device)
        alone, sync_alone = (seconds_of(kernel, repeats, rank.device) for kernel in (gemm, sync))
        in_turn = seconds_of(lambda: (gemm(), sync()), repeats, rank.device)
        wait_for_all(rank)
        together = _together_cuda if rank.device.type == "cuda" else _together_cpu
        beside, sync_beside = together(gemm, sync, repeats, alone, rank.device)
        return Row(case, beside, alone, sync_alone, sync_beside, in_turn)


def _together_cpu(
    gemm: Any, sync: Any, repeats: int, alone_s: float, device: torch.device
) -> tuple[float, float]:
    """Times of a GEMM while all-reduces run in another thread, and of those."""
    syncs: list[float] = []
    thread = threading.Thread(
        target=lambda: syncs.extend(seconds_of(sync, 1, device) for _ in range(repeats))
    )
    thread.start()
    gemms: list[float] = []
    while thread.is_alive():
        gemms.append(seconds_of(gemm, 1, device))
    thread.join()
    # The last GEMM outlived the collectives.
    return statistics.median(gemms[:-1] or gemms or [alone_s]), statistics.median(syncs)


def _together_cuda(
    gemm: Any, sync: Any, repeats: int, alone_s: float, device: torch.device
) -> tuple[float, float]:
    """As on CPU, on two streams; about as many GEMMs as fit beside the collectives."""
    sync_s = max(seconds_of(sync, 1, device), 1e-6)
    count = max(3, int(repeats * sync_s / alone_s))
    # Of the same priorities as the executor's.
    streams = [torch.cuda.Stream(device, priority=priority) for priority in (-1, 0)]
    events: list[list[Any]] = [[], []]
    # Both wait until all is enqueued: otherwise the first stream would run alone meanwhile.
    let_host_ahead(repeats + count)
    for stream in streams:
        stream.wait_stream(torch.cuda.current_stream(device))
    for stream, kernel, runs, marks in zip(
        streams, (sync, gemm), (repeats, count), events, strict=True
    ):
        with torch.cuda.stream(stream):
            for _ in range(runs):
                pair = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
                pair[0].record(stream)
                kernel()
                pair[1].record(stream)
                marks.append(pair)
    torch.cuda.synchronize(device)
    syncs, gemms = ([a.elapsed_time(b) / 1e3 for a, b in marks] for marks in events)
    return statistics.median(gemms[: max(1, count // 2)]), statistics.median(syncs)


def _group_key(case: Case) -> tuple[int, int]:
    return case.sizes.get("ranks", 1), case.sizes.get("sms", 0)


def _same(value: int, group: Any, device: torch.device) -> int:
    """Rank 0's value on every rank."""
    box = torch.tensor([value], device=device)
    dist.broadcast(box, 0, group=group)
    return int(box.item())
