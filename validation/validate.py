"""The front door: run a plan for real, on ranks of its own or as one rank of torchrun's."""

import os
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from simulator.errors import InputError
from simulator.program import Step
from validation.compare import Collected, Validation, validation
from validation.job import ValidateJob
from validation.launch import RunFailedError, launch
from validation.rank import STEPS, Rank, describe, joined, use_cores
from validation.setup import Setup, check_machine

_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def under_torchrun() -> bool:
    """Whether this process is a rank that torchrun started."""
    return all(name in os.environ for name in _TORCHRUN)


def validate(
    setup: Setup,
    *,
    timeout_s: float,
    ranks: int | None = None,
    on_message: Callable[[int, int], None] | None = None,
) -> Validation | None:
    """Run a plan and its serial baseline; the result, or None on a rank that is not torchrun's 0.

    A run that fails, or is interrupted, keeps what was measured: see `Validation.failure`.

    Raises:
        InputError: the plan does not fit this machine or number of ranks.
    """
    if under_torchrun():
        return _as_rank(setup, timeout_s)
    check_machine(setup, ranks or setup.ranks, ranks or setup.ranks)
    job, collected = ValidateJob(setup), Collected(ranks=setup.ranks)
    total, failure = 2 * setup.repeat * setup.ranks, None

    def take(rank: int, message: Any) -> None:
        collected.take(rank, message)
        if on_message:
            on_message(sum(map(len, collected.clocks.values())), total)

    try:
        launch(
            job,
            setup.ranks,
            device=setup.device,
            timeout_s=timeout_s,
            on_message=take,
            where=where(job),
        )
    except RunFailedError as error:
        failure = str(error)
    except KeyboardInterrupt:
        failure = "interrupted"
    return validation(setup, collected, failure)


def where(job: ValidateJob) -> Callable[[int], str]:
    """Words for a step of the job's programs, by the number that `Rank.step` reports."""
    programs = job.programs()

    def words(reported: int) -> str:
        number, index = divmod(reported, STEPS)
        return f"{('serial run', 'plan')[number]}, {_step_words(programs[number].steps[index])}"

    return words


def _step_words(step: Step) -> str:
    tile = "" if step.tile is None else f", tile {step.tile}"
    return f"{step.ops[0]} of block {step.block}, chunk {step.chunk.index}{tile}"


def _as_rank(setup: Setup, timeout_s: float) -> Validation | None:
    index, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local, local_ranks = (
        int(os.environ.get(name, default))
        for name, default in (("LOCAL_RANK", index), ("LOCAL_WORLD_SIZE", ranks))
    )
    check_machine(setup, ranks, local_ranks)
    use_cores(local_ranks)
    collected = Collected(ranks=ranks)
    sent: list[Any] = []
    device = torch.device(f"cuda:{local}" if setup.device == "cuda" else "cpu")
    rank = Rank(index, ranks, device, sent.append)
    job, failure = ValidateJob(setup), None
    try:
        with joined(rank, "env://", timeout_s):
            job(rank)
            everyone: list[list[Any]] = [[] for _ in range(ranks)]
            dist.all_gather_object(everyone, sent)
    except InputError:
        raise
    except Exception as error:
        place = where(job)(rank.progress[1]) if rank.progress[1] >= 0 else "before any step"
        failure = f"rank {index} of {ranks} ({place}) {describe(error)[1]}"
        if index:
            # Not sys.exit: a thread may still hang in a collective.
            print(f"isotune: {failure}", file=sys.stderr, flush=True)
            os._exit(1)
        everyone = [sent]
    for number, messages in enumerate(everyone):
        for message in messages:
            collected.take(number, message)
    return validation(setup, collected, failure) if index == 0 else None
