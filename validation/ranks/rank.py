"""What one rank of a run knows, and what a job of ranks is."""

import gc
import resource
from collections.abc import Callable, MutableSequence, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

PHASES = ("starting", "joining", "loading", "checking numbers", "warming up", "measuring")
"""What a rank may be doing, in order."""
STEPS = 2**32
"""More steps than a program has: a progress of `n * STEPS + i` is step i of program n."""


@dataclass
class Rank:
    """A rank's index, its device, and how it reports what it is doing.

    `progress` is memory shared with the process that started it: phase, step (-1 outside a
    program) and a count that grows with every report.
    """

    index: int
    ranks: int
    device: torch.device
    send: Callable[[Any], None]
    progress: MutableSequence[int] = field(default_factory=lambda: [0, -1, 0])
    program: int = 0

    def at(self, phase: str) -> None:
        """Report that a phase begins."""
        self.progress[0], self.progress[1] = PHASES.index(phase), -1
        self.tick()

    def step(self, index: int) -> None:
        """Report that a step of the running program (number `program`) begins."""
        self.progress[1] = self.program * STEPS + index
        self.tick()

    def tick(self) -> None:
        """Report that this rank is alive."""
        self.progress[2] += 1


class Job(Protocol):
    """What every rank runs; picklable.

    `messages` are the types that its ranks send: dataclasses of plain fields, or of such. They
    travel as JSON, and what is of another type, or not as its fields say, ends the run.
    """

    @property
    def messages(self) -> Sequence[type]: ...  # noqa: D102

    def __call__(self, rank: Rank) -> None:
        """Do it; results go through `rank.send`."""


def forget_peak_resident_bytes() -> None:
    """Let the peak begin anew at what is held now, where the system can (Linux)."""
    gc.collect()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_resident_bytes() -> float:
    """The peak resident memory of this process; what its parent held before does not count."""
    try:
        status = Path("/proc/self/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in status)
        return float(fields["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
