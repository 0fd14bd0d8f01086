"""One block of a timeline, for pictures."""

from typing import Literal, Self

from pydantic import Field

from isotune.results._result import Part, Seconds, Word
from isotune.simulator.predict import SimulatedRun
from isotune.simulator.schedule import Program, Timeline, kind_of


class Step(Part):
    """One bar of a timeline; seconds from the block's first start.

    `alone_s` is what it takes with the GPU to itself (None in a real run); what it takes beyond
    that, it loses to contention.
    """

    name: Word
    stream: Literal["compute", "communication"]
    block: int
    chunk: int
    tile: int | None
    start_s: float
    end_s: float
    alone_s: float | None

    @property
    def lost_s(self) -> float:
        """What it loses to contention."""
        if self.alone_s is None:
            return 0.0
        return max(0.0, self.end_s - self.start_s - self.alone_s)


class Block(Part):
    """The middle block of a run: its steps, and those of its neighbours that run beside them."""

    block: int
    duration_s: Seconds
    steps: tuple[Step, ...] = Field(min_length=1, max_length=5_000)

    @classmethod
    def of_run(cls, run: SimulatedRun) -> Self:
        """The middle block of a predicted run, with what each step takes alone."""
        return cls._of(run.program, run.timeline, run)

    @classmethod
    def of(cls, program: Program, timeline: Timeline) -> Self:
        """The middle block of a real run."""
        return cls._of(program, timeline, None)

    @classmethod
    def _of(cls, program: Program, timeline: Timeline, run: SimulatedRun | None) -> Self:
        block = (program.steps[-1].block) // 2
        steps = range(len(program.steps))
        inside = [index for index in steps if program.steps[index].block == block]
        begin = min(timeline.starts[index] for index in inside)
        end = max(timeline.ends[index] for index in inside)
        shown = [i for i in steps if timeline.starts[i] < end and timeline.ends[i] > begin]
        return cls(
            block=block,
            duration_s=end - begin,
            steps=tuple(
                Step(
                    name=kind_of(program.steps[index]),
                    stream="communication" if program.steps[index].is_sync else "compute",
                    block=program.steps[index].block,
                    chunk=program.steps[index].chunk.index,
                    tile=program.steps[index].tile,
                    start_s=timeline.starts[index] - begin,
                    end_s=timeline.ends[index] - begin,
                    alone_s=None if run is None else run.costs.seconds(index),
                )
                for index in shown
            ),
        )
