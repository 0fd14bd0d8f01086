"""Runs a job as one rank of a run that torchrun, or anything like it, has started."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from simulator.errors import InputError
from validation.rank import Job, Rank, describe, joined, use_cores

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def under_torchrun() -> bool:
    """Whether this process is a rank that a launcher started."""
    return all(name in os.environ for name in _VARIABLES)


@dataclass(frozen=True)
class Place:
    """This process among the others: of all ranks, and of those on this machine."""

    rank: int
    ranks: int
    local_rank: int
    local_ranks: int


def place() -> Place:
    """Read the place from the environment.

    Raises:
        InputError: a variable that is not a number.
    """
    try:
        rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local = int(os.environ.get("LOCAL_RANK", rank))
        return Place(rank, ranks, local, int(os.environ.get("LOCAL_WORLD_SIZE", ranks)))
    except ValueError as error:
        raise InputError(f"RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE: {error}") from error


def run_as_rank(
    job: Job,
    *,
    device: str,
    timeout_s: float,
    where: Callable[[int], str],
    on_message: Callable[[int, Any], None],
) -> tuple[bool, str | None]:
    """Run a job; on rank 0 all ranks' messages arrive at the end, or its own if the run fails.

    Returns whether this is rank 0, and the one line of a failure. Another rank that fails
    says so and ends its process; the launcher, or the timeout of a collective, ends the rest.

    Raises:
        InputError: the job refused its input.
    """
    here = place()
    use_cores(here.local_rank, here.local_ranks)
    sent: list[Any] = []
    where_to_run = torch.device(f"cuda:{here.local_rank}" if device == "cuda" else device)
    rank = Rank(here.rank, here.ranks, where_to_run, sent.append)
    everyone: list[list[Any]] = [[] for _ in range(here.ranks)]
    failure = None
    try:
        with joined(rank, "env://", timeout_s):
            job(rank)
            dist.all_gather_object(everyone, sent)
    except InputError:
        raise
    except Exception as error:
        at = where(rank.progress[1]) if rank.progress[1] >= 0 else "before any step"
        failure = f"rank {here.rank} of {here.ranks} ({at}) {describe(error)[1]}"
        if here.rank:
            # Not sys.exit: a thread may still hang in a collective.
            print(f"isotune: {failure}", file=sys.stderr, flush=True)
            os._exit(1)
        everyone = [sent]
    if here.rank == 0:
        for number, messages in enumerate(everyone):
            for message in messages:
                on_message(number, message)
    return here.rank == 0, failure
