"""When each step of a program runs, on two streams that contend for the GPU.

This is the reference: one event at a time, every step by name. While a compute step and a
sync are both in flight each progresses at a rate below one; rates change at every start and
end, so overlap and its price emerge from the schedule.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from isotune.simulator.schedule.program import Program, Stream


class StepCosts(Protocol):
    """CostTable of a program's steps."""

    def seconds(self, step: int) -> float:
        """Time of a step with the GPU to itself."""

    def slowdowns(self, compute: int, sync: int) -> tuple[float, float]:
        """How many times longer a compute step and a sync take while both are in flight."""

    @property
    def event_wait(self) -> float:
        """Delay of a step that waits for the other stream."""


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Start and end of each step in seconds, in the program's order."""

    starts: tuple[float, ...]
    ends: tuple[float, ...]
    latency: float
    overlapped: float
    """Seconds during which a compute step and a sync of the other stream both run."""


class _Lane:
    """One stream: its steps in order, the one in flight, and the work left in it."""

    def __init__(self, steps: list[int]) -> None:
        self.steps = steps
        self.next = 0
        self.running = -1
        self.left = 0.0


def simulate(program: Program, costs: StepCosts) -> Timeline:
    """Run the program's steps in order on their streams.

    Between two events both running steps progress at constant rates; the event is the
    earliest end, or the earliest moment at which a waiting step may start.
    """
    streams = [step.stream for step in program.steps]
    lanes = [
        _Lane([index for index, on in enumerate(streams) if on is stream]) for stream in Stream
    ]
    starts = [0.0] * len(streams)
    ends = [-1.0] * len(streams)
    now = overlapped = 0.0
    while True:
        wake = [_start(lane, program, ends, costs, now, starts) for lane in lanes]
        rates = _rates(lanes, costs)
        waits = [
            lane.left / rate if lane.running >= 0 else until - now
            for lane, rate, until in zip(lanes, rates, wake, strict=True)
        ]
        elapsed = min(waits)
        if elapsed == float("inf"):
            break
        if lanes[0].running >= 0 and lanes[1].running >= 0:
            overlapped += elapsed
        now += elapsed
        for lane, rate, wait in zip(lanes, rates, waits, strict=True):
            if lane.running < 0:
                continue
            lane.left -= elapsed * rate
            if wait == elapsed:
                ends[lane.running] = now
                lane.running = -1
    return Timeline(tuple(starts), tuple(ends), now, overlapped)


def _start(
    lane: _Lane,
    program: Program,
    ends: Sequence[float],
    costs: StepCosts,
    now: float,
    starts: list[float],
) -> float:
    """Start the lane's next step if it may; else the known moment at which it may (or inf)."""
    if lane.running >= 0 or lane.next == len(lane.steps):
        return float("inf")
    index = lane.steps[lane.next]
    step = program.steps[index]
    ready = 0.0
    for dependency in step.depends_on:
        if ends[dependency] < 0.0:
            return float("inf")
        crosses = program.steps[dependency].stream is not step.stream
        ready = max(ready, ends[dependency] + (costs.event_wait if crosses else 0.0))
    if ready > now:
        return ready
    lane.running, lane.left = index, costs.seconds(index)
    lane.next += 1
    starts[index] = now
    return float("inf")


def _rates(lanes: Sequence[_Lane], costs: StepCosts) -> tuple[float, float]:
    compute, sync = (lane.running for lane in lanes)
    if compute < 0 or sync < 0:
        return 1.0, 1.0
    slower_compute, slower_sync = costs.slowdowns(compute, sync)
    return 1.0 / slower_compute, 1.0 / slower_sync
