"""Starts the ranks of a run on this machine, watches them, and ends them all if one fails."""

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch.multiprocessing as mp

from isotune.validation.ranks.rank import Job, Seat, spawned
from isotune.validation.ranks.watch import COLLECTIVE_S, Child, OnMessage, RunFailedError, watch

__all__ = ["RunFailedError", "asked_to_end", "launch", "started"]


def launch(
    job: Job,
    ranks: int,
    *,
    device: str,
    timeout_s: float,
    on_message: OnMessage,
    where: Callable[[int], str] = lambda step: f"step {step}",
) -> None:
    """Run a job on `ranks` processes of this machine; returns when all are done.

    A rank that reports nothing for `timeout_s` seconds (a starting one: three minutes, if that
    is more) counts as hung; whatever fails, every process has ended when this returns or raises.
    `where` words a step of the program. A SIGTERM, as schedulers send it, is a failure too.

    Raises:
        RunFailedError: a rank died, hung, ran out of memory or raised, or the run was to end.
        InputError: a rank refused its input.
    """
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory(prefix="isotune-") as folder:
        meeting = f"file://{Path(folder) / 'rendezvous'}"
        seats = [
            Seat(rank=i, ranks=ranks, local_rank=i, local_ranks=ranks, device=device)
            for i in range(ranks)
        ]
        with asked_to_end("ended by SIGTERM") as stopped, started(job, seats, meeting) as children:
            watch(children, timeout_s, on_message, where, stopped)


@contextmanager
def asked_to_end(words: str) -> Iterator[Callable[[], str | None]]:
    """Within the block SIGTERM is noted; what is yielded gives `words` from then on.

    What was measured can still be shown then. Only the main thread hears of signals.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    try:
        yield lambda: words if asked else None
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def started(job: Job, seats: Sequence[Seat], meeting: str) -> Iterator[list[Child]]:
    """A process for each seat, which runs the job; all have ended after the block."""
    context = mp.get_context("spawn")
    children: list[Child] = []
    try:
        for seat in seats:
            mine, theirs = context.Pipe(duplex=False)
            progress = context.Array("q", [0, -1, 0], lock=False)
            arguments = (job, seat, meeting, COLLECTIVE_S, theirs, progress)
            process = context.Process(target=spawned, args=arguments, daemon=True)
            with _inheriting_deafness():
                process.start()
            theirs.close()
            children.append(Child(seat.rank, mine, progress, process=process))
        yield children
    finally:
        for child in children:
            child.process.kill()
        for child in children:
            child.process.join()


@contextmanager
def _inheriting_deafness() -> Iterator[None]:
    """A process started in the block ignores SIGTERM from its first moment.

    A launcher sends it to whole process groups, and it is for the process that watches to end
    the rank, after it has heard which one failed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
