"""Watches the ranks of a run: what they send, whether they move, and which one failed first."""

import signal
import time
from collections.abc import Callable, MutableSequence, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

from isotune.simulator.errors import InputError, IsotuneError
from isotune.validation.ranks.rank import PHASES

LOADING = PHASES.index("loading")
START_S = 180.0
"""How long a process may take to import torch and find the others, at least."""
COLLECTIVE_S = 86400.0
"""How long a collective may wait: a rank may read a large model for long while others wait for it
in one. It is the watching process that tells waiting from hanging."""
_URGENCY = ("died", "input", "memory", "error", "aborted", "hang", "peers")
"""Kinds of failure, the likeliest cause of the others first. NCCL's own watchdog aborts a process
some time after it has lost another one."""
_GRACE_S = 1.5
"""How long the other ranks may take to tell what they saw, once one has failed."""
_TOGETHER_S = 0.25
"""Failures seen within this time count as seen at once; a later one is a consequence."""

OnMessage = Callable[[int, Any], None]
"""Told a rank's number and what it sent."""


class RunFailedError(IsotuneError):
    """A real run ended early: which rank, where, and why."""


@dataclass
class Watched:
    """A rank as the watching process sees it; `pipe` is None until it has come.

    Through the pipe come pairs: `message` and its content, `progress` and the phase, step and
    count of `Rank.progress`, `done`, or the kind and text of a failure.
    """

    index: int
    pipe: Any = None
    progress: MutableSequence[int] = field(default_factory=lambda: [0, -1, 0])
    done: bool = False
    failure: tuple[str, str] | None = None
    noticed: float = 0.0
    count: int = -1
    moved: float = field(default_factory=time.monotonic)

    def patience(self, timeout_s: float) -> float:
        """Seconds without progress after which the rank counts as hung."""
        return timeout_s if self.progress[0] >= LOADING else max(timeout_s, START_S)

    def handles(self) -> list[Any]:
        """What to wait on for news of this rank."""
        return [] if self.pipe is None or self.done or self.failure else [self.pipe]

    def look(self, on_message: OnMessage) -> None:
        """Take in what the rank sent, whether it moved, and whether its process lives."""
        ended = self._ended()
        open_ = self._receive(on_message)
        if self.progress[2] != self.count:
            self.count, self.moved = self.progress[2], time.monotonic()
        if not open_ and ended is None:
            ended = self._cut_off()
        if ended is not None and not self.done:
            self.fail(ended)

    def fail(self, failure: tuple[str, str]) -> None:
        """Note a failure, if it is the first of this rank."""
        if self.failure is None:
            self.failure, self.noticed = failure, time.monotonic()

    def _receive(self, on_message: OnMessage) -> bool:
        """Whether the other end is still open."""
        try:
            while self.pipe is not None and self.pipe.poll():
                kind, content = self.pipe.recv()
                if kind == "message":
                    on_message(self.index, content)
                elif kind == "progress":
                    self.progress[:] = content
                elif kind == "done":
                    self.done = True
                else:
                    self.fail((kind, content))
        except (EOFError, OSError):
            return False
        return True

    def _ended(self) -> tuple[str, str] | None:
        """How the process has ended, where that is known; asked before its last words are read."""
        return None

    def _cut_off(self) -> tuple[str, str] | None:
        """What it means that nothing more can come."""
        return "died", "ended without a word"


@dataclass
class Child(Watched):
    """A rank whose process was started here."""

    process: Any = None

    def handles(self) -> list[Any]:
        """See `Watched`."""
        return [*super().handles(), *([] if self.done else [self.process.sentinel])]

    def _ended(self) -> tuple[str, str] | None:
        code = self.process.exitcode
        return None if code is None else obituary(code)

    def _cut_off(self) -> tuple[str, str] | None:
        return None  # the exit code, which follows, says more


def watch(
    watched: Sequence[Watched],
    timeout_s: float,
    on_message: OnMessage,
    where: Callable[[int], str],
    stopped: Callable[[], str | None] = lambda: None,
) -> None:
    """Returns when all ranks are done; `stopped` says why the run is to end, if it is.

    Raises:
        RunFailedError: a rank died, hung, ran out of memory or raised.
        InputError: a rank refused its input.
    """
    while not all(rank.done for rank in watched):
        connection.wait([handle for rank in watched for handle in rank.handles()], 0.2)
        reason = stopped()
        for rank in watched:
            rank.look(on_message)
        _find_hung([rank for rank in watched if not rank.done], timeout_s)
        if reason or any(rank.failure for rank in watched):
            _fail(watched, on_message, where, reason)


def _find_hung(busy: Sequence[Watched], timeout_s: float) -> None:
    """Ranks wait for each other, so a run hangs where the rank behind all others stands."""
    now = time.monotonic()
    if busy and all(now - rank.moved > rank.patience(timeout_s) for rank in busy):
        behind = min(busy, key=lambda rank: rank.progress[2])
        behind.fail(("hang", f"did nothing for {behind.patience(timeout_s):g} s"))


def _fail(
    watched: Sequence[Watched],
    on_message: OnMessage,
    where: Callable[[int], str],
    reason: str | None,
) -> None:
    if not any(rank.failure and rank.failure[0] == "hang" for rank in watched):
        time.sleep(_GRACE_S)
        for rank in watched:
            rank.look(on_message)
    failed = [rank for rank in watched if rank.failure]
    if not failed:
        raise RunFailedError(f"{reason} ({_furthest(watched, where)})")
    first = _first(failed)
    kind, text = first.failure or ("", "")
    if kind == "input":
        raise InputError(text)
    raise RunFailedError(f"{_name(first, watched, where)} {text}")


def _first(failed: Sequence[Watched]) -> Watched:
    """The failure that caused the others."""
    soonest = min(rank.noticed for rank in failed)

    def order(rank: Watched) -> tuple[bool, bool, int, float]:
        kind = (rank.failure or ("peers", ""))[0]
        late = rank.noticed > soonest + _TOGETHER_S
        return kind == "peers", late, _URGENCY.index(kind), rank.noticed

    return min(failed, key=order)


def _furthest(watched: Sequence[Watched], where: Callable[[int], str]) -> str:
    absent = [str(rank.index) for rank in watched if rank.pipe is None]
    if absent:
        return f"rank {', '.join(absent)} of {len(watched)} had not come"
    return _name(max(watched, key=lambda rank: rank.progress[2]), watched, where)


def _name(rank: Watched, watched: Sequence[Watched], where: Callable[[int], str]) -> str:
    """A rank and the step it was at."""
    phase, step = PHASES[rank.progress[0]], rank.progress[1]
    place = f"{phase}, {where(step)}" if step >= 0 else phase
    return f"rank {rank.index} of {len(watched)} ({place})"


def obituary(code: int) -> tuple[str, str]:
    """The kind of failure, and words for it, of a process that ended with this exit code."""
    if code >= 0:
        return "died", f"ended without a word (exit code {code})"
    name = signal.Signals(-code).name
    hint = ", as when memory runs out" if name == "SIGKILL" else ""
    return "aborted" if name == "SIGABRT" else "died", f"was killed by {name}{hint}"
