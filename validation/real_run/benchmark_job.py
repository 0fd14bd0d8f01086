"""A job in which rank 0 decides which plans run next, so that many plans need one start."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import ClassVar, Protocol

import torch
import torch.distributed as dist

from isotune.simulator.schedule import Plan
from isotune.validation.ranks import Rank, pack, unpack
from isotune.validation.real_run.interleave import Interleaved
from isotune.validation.real_run.machine_record import MachineRecord
from isotune.validation.real_run.messages import MESSAGES, FinalRound, PlanStarted, TimedRun
from isotune.validation.real_run.setup import Setup
from isotune.validation.real_run.validate_job import check_same_request, open_session


class Benchmark:
    """Measures plans for the study that runs on rank 0."""

    def __init__(self, rank: Rank, interleaved: Interleaved) -> None:
        self._rank, self._interleaved = rank, interleaved
        self._numbers: dict[Plan, int] = {}
        self._round = 0

    def measure(self, plans: Sequence[Plan], rounds: int, *, final: bool = False) -> list[float]:
        """Run plans interleaved on all ranks; the slowest rank's seconds, the median over rounds.

        A plan that runs for the first time has one more run before the first that counts.
        """
        new = [plan for plan in dict.fromkeys(plans) if plan not in self._numbers]
        for plan in new:
            self._numbers[plan] = len(self._numbers)
            self._rank.send(PlanStarted(self._numbers[plan], plan))
        numbers = tuple(self._numbers[plan] for plan in plans)
        if final:
            self._rank.send(FinalRound(numbers, self._round))
        request = _Request(tuple(zip(numbers, plans, strict=True)), tuple(new), rounds, self._round)
        self._round += rounds
        _broadcast(self._rank, request)
        seconds = _slowest(self._rank, _run(self._rank, self._interleaved, request))
        return [median(rounds) for rounds in seconds]

    def close(self) -> None:
        """Tell the other ranks that the benchmark is over."""
        _broadcast(self._rank, None)


class Study(Protocol):
    """Decides which plans are measured; picklable, called on rank 0 only."""

    def __call__(self, benchmark: Benchmark, /) -> None:
        """Measure plans."""


@dataclass(frozen=True)
class BenchmarkJob:
    """The study on rank 0 chooses which plans all ranks run.

    All send `TimedRun`s; rank 0 also sends what it runs on, and which plans they are of.
    """

    messages: ClassVar = MESSAGES
    setup: Setup
    study: Study

    def __call__(self, rank: Rank) -> None:
        """See `Job`."""
        setup = self.setup
        check_same_request(rank, setup.agreed)
        session = open_session(rank, setup, setup.scenario.workload.dtype)
        interleaved = Interleaved(rank, session, setup)
        rank.at("measuring")
        if rank.index == 0:
            rank.send(MachineRecord.of(rank.device, session.attention))
            benchmark = Benchmark(rank, interleaved)
            self.study(benchmark)
            benchmark.close()
            return
        while (request := _broadcast(rank, None)) is not None:
            _slowest(rank, _run(rank, interleaved, request))


@dataclass(frozen=True)
class _Request:
    """Plans by number, those new to the ranks, how many rounds, and the number of the first."""

    plans: tuple[tuple[int, Plan], ...]
    new: tuple[Plan, ...]
    rounds: int
    first: int


def _run(rank: Rank, interleaved: Interleaved, request: _Request) -> list[list[float]]:
    """This rank's seconds of every round [plans, rounds]."""
    for number, plan in request.plans:
        if plan in request.new:
            interleaved.run(number, plan)
    seconds: list[list[float]] = [[] for _ in request.plans]
    for repeat in range(request.first, request.first + request.rounds):
        for (number, plan), latencies in zip(request.plans, seconds, strict=True):
            times = interleaved.run(number, plan)
            latencies.append(times.latency)
            rank.send(TimedRun(number, repeat, times))
    return seconds


def _broadcast(rank: Rank, request: _Request | None) -> _Request | None:
    """Rank 0's request, on every rank."""
    rank.tick()
    if rank.ranks == 1:
        return request
    data = torch.frombuffer(bytearray(pack(request, _Request | None)), dtype=torch.uint8)
    size = torch.tensor([len(data)], device=rank.device)
    dist.broadcast(size, 0)
    sent = data if rank.index == 0 else torch.empty(int(size.item()), dtype=torch.uint8)
    sent = sent.to(rank.device)
    dist.broadcast(sent, 0)
    found: _Request | None = unpack(sent.cpu().numpy().tobytes(), _Request | None)
    return found


def _slowest(rank: Rank, seconds: list[list[float]]) -> list[list[float]]:
    """The slowest rank's seconds of every round."""
    if rank.ranks == 1:
        return seconds
    slowest = torch.tensor(seconds, dtype=torch.float64, device=rank.device)
    dist.all_reduce(slowest, dist.ReduceOp.MAX)
    found: list[list[float]] = slowest.tolist()
    return found
