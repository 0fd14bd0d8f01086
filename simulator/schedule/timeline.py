"""When each step of a program runs, on lanes of which those of one stage contend for its GPU.

This is the reference: one event at a time, every step by name. While a compute step and a
collective of one stage are both in flight each progresses at a rate below one; rates change at
every start and end, so overlap and its cost emerge from the schedule.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from isotune.simulator.schedule.program import Lane, Program, Queue


class StepCosts(Protocol):
    """Costs of a program's steps."""

    def seconds(self, step: int) -> float:
        """Time of a step with the GPU to itself."""

    def slowdowns(self, compute: int, sync: int) -> tuple[float, float]:
        """How many times longer a compute step and a sync take while both are in flight."""

    @property
    def event_wait(self) -> float:
        """Delay of a step that waits for another lane."""


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Start and end of each step in seconds, in the program's order."""

    starts: tuple[float, ...]
    ends: tuple[float, ...]
    latency: float
    overlapped: float
    """Seconds during which a compute step and a collective both run, summed over stages."""


class _Line:
    """One lane: its steps in order, the one in flight, and the work left in it."""

    def __init__(self, lane: Lane, steps: list[int]) -> None:
        self.lane, self.steps = lane, steps
        self.next = 0
        self.running = -1
        self.left = 0.0


def simulate(program: Program, costs: StepCosts) -> Timeline:
    """Run the program's steps in order on their lanes.

    Between two events all running steps progress at constant rates; the event is the
    earliest end, or the earliest moment at which a waiting step may start.
    """
    lines = _lines(program)
    stages = _stages(lines)
    starts = [0.0] * len(program.steps)
    ends = [-1.0] * len(program.steps)
    now = overlapped = 0.0
    while True:
        wake = [_start(line, program, ends, costs, now, starts) for line in lines]
        rates = _rates(lines, stages, costs)
        waits = [
            line.left / rate if line.running >= 0 else until - now
            for line, rate, until in zip(lines, rates, wake, strict=True)
        ]
        elapsed = min(waits, default=float("inf"))
        if elapsed == float("inf"):
            break
        overlapped += elapsed * sum(_both_run(lines, stage) for stage in stages)
        now += elapsed
        for line, rate, wait in zip(lines, rates, waits, strict=True):
            if line.running < 0:
                continue
            line.left -= elapsed * rate
            if wait == elapsed:
                ends[line.running] = now
                line.running = -1
    return Timeline(tuple(starts), tuple(ends), now, overlapped)


def _lines(program: Program) -> list[_Line]:
    """The lanes of a program in order: by stage, compute before communication."""
    order = list(Queue)
    by_lane: dict[Lane, list[int]] = {}
    for index, step in enumerate(program.steps):
        by_lane.setdefault(step.lane, []).append(index)
    found = [_Line(lane, steps) for lane, steps in by_lane.items()]
    return sorted(found, key=lambda line: (line.lane.stage, order.index(line.lane.queue)))


def _stages(lines: Sequence[_Line]) -> list[tuple[int, int]]:
    """Where the compute and the communication lane of each stage that has both are in `lines`."""
    at = {line.lane: index for index, line in enumerate(lines)}
    both = ((Lane(stage, Queue.COMPUTE), Lane(stage, Queue.COMM)) for stage, _ in at)
    return list(dict.fromkeys((at[c], at[m]) for c, m in both if c in at and m in at))


def _start(
    line: _Line,
    program: Program,
    ends: Sequence[float],
    costs: StepCosts,
    now: float,
    starts: list[float],
) -> float:
    """Start the lane's next step if it may; else the known moment at which it may (or inf)."""
    if line.running >= 0 or line.next == len(line.steps):
        return float("inf")
    index = line.steps[line.next]
    step = program.steps[index]
    ready = 0.0
    for dependency in step.depends_on:
        if ends[dependency] < 0.0:
            return float("inf")
        crosses = program.steps[dependency].lane != step.lane
        ready = max(ready, ends[dependency] + (costs.event_wait if crosses else 0.0))
    if ready > now:
        return ready
    line.running, line.left = index, costs.seconds(index)
    line.next += 1
    starts[index] = now
    return float("inf")


def _both_run(lines: Sequence[_Line], stage: tuple[int, int]) -> bool:
    return lines[stage[0]].running >= 0 and lines[stage[1]].running >= 0


def _rates(
    lines: Sequence[_Line], stages: Sequence[tuple[int, int]], costs: StepCosts
) -> list[float]:
    rates = [1.0] * len(lines)
    for stage in stages:
        if _both_run(lines, stage):
            compute, sync = stage
            slower = costs.slowdowns(lines[compute].running, lines[sync].running)
            rates[compute], rates[sync] = 1.0 / slower[0], 1.0 / slower[1]
    return rates
