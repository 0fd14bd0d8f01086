"""One block of a timeline as plain data, for pictures."""

from typing import TYPE_CHECKING, Any

from isotune.simulator.predict import PricedRun
from isotune.simulator.schedule import Program, Timeline, kind_of

if TYPE_CHECKING:
    from isotune.validation.real_run import Comparison, Validation


def block_of(run: PricedRun) -> dict[str, Any]:
    """The middle block of a predicted run, with what each step takes alone."""
    alone = [run.costs.seconds(index) for index in range(len(run.program.steps))]
    return block_dict(run.program, run.timeline, alone)


def block_dict(
    program: Program, timeline: Timeline, alone: list[float] | None = None
) -> dict[str, Any]:
    """The middle block: its steps, and those of its neighbours that run beside them.

    Seconds from the block's first start to its last end. `alone_s` is what a step takes with the
    GPU to itself (null in a real run); what it takes beyond that, it loses to contention.
    """
    block = (program.steps[-1].block) // 2
    steps = range(len(program.steps))
    inside = [index for index in steps if program.steps[index].block == block]
    begin = min(timeline.starts[index] for index in inside)
    end = max(timeline.ends[index] for index in inside)
    shown = [i for i in steps if timeline.starts[i] < end and timeline.ends[i] > begin]
    return {
        "block": block,
        "duration_s": end - begin,
        "steps": [
            {
                "name": kind_of(program.steps[index]),
                "stream": "communication" if program.steps[index].is_sync else "compute",
                "block": program.steps[index].block,
                "chunk": program.steps[index].chunk.index,
                "tile": program.steps[index].tile,
                "start_s": timeline.starts[index] - begin,
                "end_s": timeline.ends[index] - begin,
                "alone_s": alone[index] if alone else None,
            }
            for index in shown
        ],
    }


def timelines(result: "Validation") -> dict[str, Any]:
    """One block of a validation: the serial run and the plan, predicted and measured."""
    found: dict[str, Any] = {}
    for name, side in (("serial", result.serial), ("plan", result.plan)):
        found[f"{name} predicted"] = block_of(side.prediction.run)
        if side.measured is not None:
            found[f"{name} measured"] = _measured(side)
    return found


def _measured(side: "Comparison") -> dict[str, Any]:
    ran = side.measured
    assert ran is not None
    return block_dict(ran.program, ran.timeline)
