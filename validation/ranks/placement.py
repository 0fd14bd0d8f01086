"""Which ranks of a run this process starts: all of them, or the one that torchrun assigned to it.

Imports no torch.
"""

import os
from dataclasses import dataclass

from isotune.simulator.errors import InputError

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, kw_only=True)
class RankPlacement:
    """A rank's index among all ranks, and among those of its machine."""

    rank: int
    ranks: int
    local_rank: int
    local_ranks: int


def under_torchrun() -> bool:
    """Whether torchrun, or a launcher that sets the same variables, started this process."""
    return all(name in os.environ for name in _VARIABLES)


def placements(ranks: int) -> tuple[RankPlacement, ...]:
    """The ranks that this process starts: torchrun's one, or `ranks` on this machine.

    Raises:
        InputError: a variable of the launcher is not a number.
    """
    if not under_torchrun():
        return tuple(
            RankPlacement(rank=i, ranks=ranks, local_rank=i, local_ranks=ranks)
            for i in range(ranks)
        )
    try:
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        int(os.environ["MASTER_PORT"])
        local_rank = int(os.environ.get("LOCAL_RANK", rank))
        local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    except ValueError as error:
        names = "RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_PORT"
        raise InputError(f"{names}: {error}") from error
    return (RankPlacement(rank=rank, ranks=world, local_rank=local_rank, local_ranks=local_ranks),)


def leads() -> bool:
    """Whether this process starts rank 0: it gathers what the ranks measure and shows it."""
    return placements(1)[0].rank == 0
