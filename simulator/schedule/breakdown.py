"""Clocks of real runs as a timeline in the simulator's own form."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from isotune.simulator.schedule.program import Program, Step
from isotune.simulator.schedule.timeline import Timeline

Interval = tuple[float, float]


@dataclass(frozen=True)
class StepTimes:
    """Start and end of each step of one run, in the program's order; seconds since it began.

    `host` is how long the host took to enqueue all steps, 0 where it runs them itself.
    """

    starts: tuple[float, ...]
    ends: tuple[float, ...]
    host: float = 0.0

    @property
    def latency(self) -> float:
        """Seconds until the last step ended."""
        return max(self.ends)


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """Repeated runs of one program; seconds.

    `latencies` has the slowest rank's latency in each repeat, `timeline` that rank's steps in
    the repeat with the median latency.
    """

    program: Program
    latencies: tuple[float, ...]
    timeline: Timeline

    @property
    def median_s(self) -> float:
        """Median latency."""
        return median(self.latencies)

    @property
    def spread(self) -> float:
        """Width of the middle half of the repeats, as a share of the median."""
        low, high = np.percentile(self.latencies, (25, 75), method="nearest")
        return float(high - low) / self.median_s


def measurement(program: Program, runs: Sequence[Sequence[Timeline]]) -> Measurement:
    """Repeats of a program, each with the timelines of all ranks."""
    slowest = [max(ranks, key=lambda timeline: timeline.latency) for ranks in runs]
    ordered = sorted(slowest, key=lambda timeline: timeline.latency)
    return Measurement(
        program=program,
        latencies=tuple(timeline.latency for timeline in slowest),
        timeline=ordered[(len(ordered) - 1) // 2],
    )


def timeline_of(program: Program, times: StepTimes) -> Timeline:
    """The timeline of a run."""
    intervals = list(zip(program.steps, times.starts, times.ends, strict=True))
    syncs = [(start, end) for step, start, end in intervals if step.is_sync]
    compute = [(start, end) for step, start, end in intervals if not step.is_sync]
    return Timeline(times.starts, times.ends, times.latency, _both(compute, syncs))


def kind_of(step: Step) -> str:
    """What a step is to people: its sublayer (attention, mlp, embed, head) or its collective."""
    first = step.ops[0]
    return first.name if step.is_sync else first.sublayer


def kind_seconds(program: Program, timeline: Timeline) -> Mapping[str, float]:
    """Time spent in each kind of step, in the order in which they first run."""
    total: dict[str, float] = {}
    for step, start, end in zip(program.steps, timeline.starts, timeline.ends, strict=True):
        total[kind_of(step)] = total.get(kind_of(step), 0.0) + end - start
    return total


def exposed_comm_s(program: Program, timeline: Timeline) -> float:
    """Seconds in which no compute runs, as `Prediction.exposed_comm_s` has them."""
    times = zip(program.steps, timeline.starts, timeline.ends, strict=True)
    return timeline.latency - sum(end - start for step, start, end in times if not step.is_sync)


def _both(some: Iterable[Interval], others: Iterable[Interval]) -> float:
    """Seconds in an interval of either kind; those of one kind do not overlap one another."""
    left, right = sorted(some), sorted(others)
    shared, i, j = 0.0, 0, 0
    while i < len(left) and j < len(right):
        start, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        shared += max(0.0, end - start)
        i, j = (i + 1, j) if left[i][1] <= right[j][1] else (i, j + 1)
    return shared
