"""Starts the ranks of a run on this machine, watches them, and ends them all if one fails."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

import torch.multiprocessing as mp

from simulator.errors import InputError, IsotuneError
from validation.rank import PHASES, Job, spawned, store_path

LOADING = PHASES.index("loading")
_URGENCY = ("died", "input", "memory", "error", "hang", "peers")
"""Kinds of failure, the likeliest cause of the others first."""
_START_S = 180.0
"""How long a process may take to import torch and find the others, at least."""
_GRACE_S = 1.5
"""How long the other ranks may take to tell what they saw, once one has failed."""


_COLLECTIVE_S = 86400.0
"""How long a collective may wait: a rank may read a large model for long while others wait for it
in one. It is the watching process that tells waiting from hanging."""


class RunFailedError(IsotuneError):
    """A real run ended early: which rank, where, and why."""


@dataclass
class _Watched:
    """A rank as the watching process sees it."""

    index: int
    process: Any
    pipe: Any
    progress: Any
    done: bool = False
    failure: tuple[str, str] | None = None
    count: int = -1
    moved: float = field(default_factory=time.monotonic)

    def patience(self, timeout_s: float) -> float:
        """Seconds without progress after which the rank counts as hung."""
        return timeout_s if self.progress[0] >= LOADING else max(timeout_s, _START_S)

    def look(self, on_message: Callable[[int, Any], None]) -> None:
        """Take in what the rank sent, whether it moved, and whether its process lives."""
        try:
            while self.pipe.poll():
                kind, content = self.pipe.recv()
                if kind == "message":
                    on_message(self.index, content)
                elif kind == "done":
                    self.done = True
                elif self.failure is None:
                    self.failure = kind, content
        except (EOFError, ConnectionResetError):
            pass
        if self.progress[2] != self.count:
            self.count, self.moved = self.progress[2], time.monotonic()
        code = self.process.exitcode
        if code is not None and not self.done and self.failure is None:
            self.failure = "died", _obituary(code)


def launch(
    job: Job,
    ranks: int,
    *,
    device: str,
    timeout_s: float,
    on_message: Callable[[int, Any], None],
    where: Callable[[int], str] = lambda step: f"step {step}",
) -> None:
    """Run a job on `ranks` processes of this machine; returns when all are done.

    A rank that reports nothing for `timeout_s` seconds (a starting one: three minutes, if that
    is more) counts as hung; whatever fails, every process has ended when this returns or raises.
    `where` words a step of the program.

    Raises:
        RunFailedError: a rank died, hung, ran out of memory or raised.
        InputError: a rank refused its input.
    """
    context = mp.get_context("spawn")
    folder, store = store_path()
    watched: list[_Watched] = []
    try:
        for index in range(ranks):
            mine, theirs = context.Pipe(duplex=False)
            progress = context.Array("q", [0, -1, 0], lock=False)
            arguments = (job, index, ranks, device, store, _COLLECTIVE_S, theirs, progress)
            process = context.Process(target=spawned, args=arguments, daemon=True)
            process.start()
            theirs.close()
            watched.append(_Watched(index, process, mine, progress))
        _watch(watched, timeout_s, on_message, where)
    finally:
        for rank in watched:
            rank.process.kill()
        for rank in watched:
            rank.process.join()
        folder.cleanup()


def _watch(
    watched: list[_Watched],
    timeout_s: float,
    on_message: Callable[[int, Any], None],
    where: Callable[[int], str],
) -> None:
    while not all(rank.done for rank in watched):
        pipes = [rank.pipe for rank in watched if not (rank.done or rank.failure)]
        connection.wait([*pipes, *(r.process.sentinel for r in watched if not r.done)], 0.2)
        for rank in watched:
            rank.look(on_message)
        now = time.monotonic()
        # Ranks wait for each other, so the run hangs where the rank behind all others stands.
        busy = [rank for rank in watched if not rank.done]
        if busy and all(now - rank.moved > rank.patience(timeout_s) for rank in busy):
            behind = min(busy, key=lambda rank: rank.progress[2])
            behind.failure = "hang", f"did nothing for {behind.patience(timeout_s):g} s"
        if any(rank.failure for rank in watched):
            _fail(watched, on_message, where)


def _fail(
    watched: list[_Watched],
    on_message: Callable[[int, Any], None],
    where: Callable[[int], str],
) -> None:
    if not any(rank.failure and rank.failure[0] == "hang" for rank in watched):
        time.sleep(_GRACE_S)
        for rank in watched:
            rank.look(on_message)
    failed = [rank for rank in watched if rank.failure]
    first = min(failed, key=lambda rank: _URGENCY.index((rank.failure or ("peers", ""))[0]))
    kind, text = first.failure or ("", "")
    if kind == "input":
        raise InputError(text)
    phase, step = PHASES[first.progress[0]], first.progress[1]
    place = f"{phase}, {where(step)}" if step >= 0 else phase
    raise RunFailedError(f"rank {first.index} of {len(watched)} ({place}) {text}")


def _obituary(code: int) -> str:
    if code >= 0:
        return f"ended without a word (exit code {code})"
    name = signal.Signals(-code).name
    hint = ", as when memory runs out" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
