"""Jobs that fail in every way a rank can, and tell their process before they do."""

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch.distributed as dist

from isotune.simulator.schedule import StepTimes
from isotune.validation.ranks import Rank, leads, placements, run
from isotune.validation.real_run.messages import TimedRun
from isotune.validation.real_run.validate_job import check_same_request


@dataclass(frozen=True)
class Began:
    """The process of a rank."""

    pid: int


@dataclass(frozen=True)
class Fails:
    """When a rank fails, by `time.monotonic`."""

    at: float


@dataclass(frozen=True)
class Failing:
    """Rank 1 fails at step 3 in one way; the other waits for it in a collective."""

    messages: ClassVar = (Began, Fails, TimedRun)
    how: str

    def __call__(self, rank: Rank) -> None:
        rank.send(Began(os.getpid()))
        if self.how == "disagree":
            check_same_request(rank, f"the plan of rank {rank.index}")
        rank.at("measuring")
        rank.send(TimedRun(0, 0, StepTimes((0.0,), (1.0,))))
        rank.step(3)
        dist.barrier()
        if rank.index == 1:
            rank.send(Fails(time.monotonic()))
            if self.how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.how == "lose":
                os.kill(os.getppid(), signal.SIGKILL)  # the process that started this rank
                time.sleep(600)
            elif self.how == "hang":
                time.sleep(600)
            elif self.how == "memory":
                raise MemoryError("no room for 3 GB")
            elif self.how == "raise":
                raise ValueError("no such thing")
        rank.step(4)
        dist.barrier()


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie that waits for its parent has)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def main() -> None:
    """Let a job fail under torchrun; the first process prints what it was told, as JSON."""
    failure = run(
        Failing(sys.argv[1]),
        placements(1),
        device="cpu",
        timeout_s=5.0,
        on_message=lambda _, message: sent.append(message),
    )
    if leads():
        pids = [message.pid for message in sent if isinstance(message, Began)]
        measured = sum(isinstance(message, TimedRun) for message in sent)
        (fails,) = [message.at for message in sent if isinstance(message, Fails)]
        found = {"failure": failure, "pids": pids, "measured": measured, "fails": fails}
        print(json.dumps(found | {"ended": time.monotonic()}))
        sys.exit(failure is not None)


if __name__ == "__main__":
    sent: list[object] = []
    main()
