"""A job whose first rank decides what runs next: one start for many plans."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

import torch.distributed as dist

from isotune.simulator.schedule import Plan
from isotune.validation.ranks import Rank
from isotune.validation.real_run.interleave import Turns
from isotune.validation.real_run.rank_job import Timed, agree, open_session
from isotune.validation.real_run.setup import Setup


@dataclass(frozen=True)
class Entered:
    """A plan's number among those run, sent by the first rank before the plan's first turn."""

    number: int
    plan: Plan


@dataclass(frozen=True)
class Final:
    """The plans that meet again at the end, and the first round of that."""

    numbers: tuple[int, ...]
    round: int


class Bench:
    """What the first rank's driver measures plans with."""

    def __init__(self, rank: Rank, turns: Turns) -> None:
        self._rank, self._turns = rank, turns
        self._numbers: dict[Plan, int] = {}
        self._round = 0

    def measure(self, plans: Sequence[Plan], rounds: int, *, final: bool = False) -> list[float]:
        """Run plans in turns on all ranks; the slowest rank's seconds, the median over rounds.

        A plan that runs for the first time has one more turn before the first that counts.
        """
        new = [plan for plan in dict.fromkeys(plans) if plan not in self._numbers]
        for plan in new:
            self._numbers[plan] = len(self._numbers)
            self._rank.send(Entered(self._numbers[plan], plan))
        numbers = tuple(self._numbers[plan] for plan in plans)
        if final:
            self._rank.send(Final(numbers, self._round))
        bout = _Bout(tuple(zip(numbers, plans, strict=True)), tuple(new), rounds, self._round)
        self._round += rounds
        _share(self._rank, bout)
        seconds = _slowest(self._rank, _play(self._rank, self._turns, bout))
        return [median(rounds) for rounds in seconds]

    def close(self) -> None:
        """Tell the other ranks that nothing more is run."""
        _share(self._rank, None)


class Driver(Protocol):
    """Decides what is run; picklable, called on the first rank alone."""

    def __call__(self, bench: Bench) -> None:
        """Measure plans until there is nothing more to learn, or no time."""


@dataclass(frozen=True)
class DrivenJob:
    """Rank 0 drives, the others follow; all send `Timed`s, rank 0 also what they are of."""

    setup: Setup
    driver: Driver

    def __call__(self, rank: Rank) -> None:
        """See `Job`."""
        setup = self.setup
        agree(rank, setup.agreed)
        turns = Turns(rank, open_session(rank, setup, setup.scenario.workload.dtype), setup)
        rank.at("measuring")
        if rank.index == 0:
            bench = Bench(rank, turns)
            self.driver(bench)
            bench.close()
            return
        while (bout := _share(rank, None)) is not None:
            _slowest(rank, _play(rank, turns, bout))


@dataclass(frozen=True)
class _Bout:
    """Plans by number, those new to the ranks, how many rounds, and the number of the first."""

    plans: tuple[tuple[int, Plan], ...]
    new: tuple[Plan, ...]
    rounds: int
    first: int


def _play(rank: Rank, turns: Turns, bout: _Bout) -> list[list[float]]:
    """This rank's seconds of every round [plans, rounds]."""
    for number, plan in bout.plans:
        if plan in bout.new:
            turns.run(number, plan)
    seconds: list[list[float]] = [[] for _ in bout.plans]
    for repeat in range(bout.first, bout.first + bout.rounds):
        for (number, plan), mine in zip(bout.plans, seconds, strict=True):
            clocked = turns.run(number, plan)
            mine.append(clocked.latency)
            rank.send(Timed(number, repeat, clocked))
    return seconds


def _share(rank: Rank, bout: _Bout | None) -> _Bout | None:
    """The first rank's bout, on every rank."""
    rank.tick()
    box: list[Any] = [bout]
    if rank.ranks > 1:
        dist.broadcast_object_list(box, 0)
    found: _Bout | None = box[0]
    return found


def _slowest(rank: Rank, seconds: list[list[float]]) -> list[list[float]]:
    """The slowest rank's seconds of every round."""
    everyone: list[Any] = [seconds] * rank.ranks
    if rank.ranks > 1:
        dist.all_gather_object(everyone, seconds)
    by_plan = zip(*everyone, strict=True)
    return [[max(ranks) for ranks in zip(*plan, strict=True)] for plan in by_plan]
