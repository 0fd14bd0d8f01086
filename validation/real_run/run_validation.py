"""Runs a plan and its serial baseline, on ranks started here or by torchrun."""

from collections.abc import Callable, Mapping
from typing import Any

from isotune.simulator.schedule import Program, Step
from isotune.validation.ranks import STEPS, leads, placements, run
from isotune.validation.real_run.comparison import Collected, Validation, validation
from isotune.validation.real_run.fits_machine import check_machine
from isotune.validation.real_run.setup import Setup
from isotune.validation.real_run.validate_job import ValidateJob


def validate(
    setup: Setup,
    *,
    timeout_s: float,
    ranks: int | None = None,
    on_message: Callable[[int, int], None] | None = None,
) -> Validation | None:
    """Run a plan and its serial baseline; the result, or None in a process that does not lead.

    A run that fails, or is interrupted, keeps what was measured: see `Validation.failure`.

    Raises:
        InputError: the plan does not fit this machine or number of ranks.
    """
    job, collected = ValidateJob(setup), Collected(ranks=setup.ranks)
    runs = (1 + len(setup.baseline)) * setup.repeat
    total = runs * setup.ranks

    def take(rank: int, message: Any) -> None:
        collected.take(rank, message)
        if on_message:
            on_message(sum(map(len, collected.times.values())), total)

    local = placements(ranks or setup.ranks)
    check_machine(setup, local)
    failure = run(
        job, local, device=setup.device, timeout_s=timeout_s, on_message=take, where=where(job)
    )
    return validation(setup, collected, failure) if leads() else None


def where(job: ValidateJob) -> Callable[[int], str]:
    """Words for a step of the job's programs, by the number that `Rank.step` reports.

    The programs are expanded only when a step has to be named.
    """
    names = {0: "serial run", 1: "plan"}
    return lambda reported: step_words(reported, names, dict(enumerate(job.programs())))


def step_words(reported: int, names: Mapping[int, str], programs: Mapping[int, Program]) -> str:
    """Words for a step of named programs, by the number that `Rank.step` reports."""
    number, index = divmod(reported, STEPS)
    return f"{names[number]}, {_step_words(programs[number].steps[index])}"


def _step_words(step: Step) -> str:
    tile = "" if step.tile is None else f", tile {step.tile}"
    return f"{step.ops[0]} of block {step.block}, chunk {step.chunk.index}{tile}"
