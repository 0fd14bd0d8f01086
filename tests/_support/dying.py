"""isotune, but rank 1 is killed at its 200th step."""

import itertools
import os
import signal

from isotune.cli import main
from isotune.validation.ranks import Rank

steps = itertools.count(1)
step = Rank.step


def dying_step(rank: Rank, index: int) -> None:
    step(rank, index)
    if rank.index == 1 and next(steps) == 200:
        os.kill(os.getpid(), signal.SIGKILL)


Rank.step = dying_step  # type: ignore[method-assign]  # also in the process that runs the rank

if __name__ == "__main__":
    main()
