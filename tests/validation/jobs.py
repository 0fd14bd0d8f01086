"""Jobs that fail in every way a rank can, and tell their process before they do."""

import os
import signal
import time
from dataclasses import dataclass

import torch.distributed as dist

from validation.job import Timed, agree
from validation.rank import Rank
from validation.streams import Clocked


@dataclass(frozen=True)
class Failing:
    """Rank 1 fails at step 3 in one way; the other waits for it in a collective."""

    how: str

    def __call__(self, rank: Rank) -> None:
        rank.send(os.getpid())
        if self.how == "disagree":
            agree(rank, f"the plan of rank {rank.index}")
        rank.at("measuring")
        rank.send(Timed(0, 0, Clocked((0.0,), (1.0,))))
        rank.step(3)
        dist.barrier()
        if rank.index == 1:
            if self.how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.how == "hang":
                time.sleep(600)
            elif self.how == "memory":
                raise MemoryError("no room for 3 GB")
        rank.step(4)
        dist.barrier()
