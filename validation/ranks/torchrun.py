"""Runs a job as one rank of a run that torchrun, or anything like it, has started.

Each process that the launcher started starts its rank as a child and watches it. The first one
hears of all others over a connection (`ranks.link`): it gathers what they measure, names the
rank that fails, and ends the run; the others end when their connection does.
"""

import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

from isotune.simulator.errors import InputError
from isotune.validation.ranks.link import Door, call, said_over
from isotune.validation.ranks.local_launch import asked_to_end, started
from isotune.validation.ranks.rank import STORE, Job, Seat, meeting_store
from isotune.validation.ranks.watch import (
    START_S,
    Child,
    OnMessage,
    RunFailedError,
    Watched,
    obituary,
    watch,
)

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def under_torchrun() -> bool:
    """Whether this process is a rank that a launcher started."""
    return all(name in os.environ for name in _VARIABLES)


def place(device: str = "cpu") -> Seat:
    """Read this process's seat from the environment.

    Raises:
        InputError: a variable that is not a number.
    """
    try:
        rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        int(os.environ["MASTER_PORT"])
        return Seat(
            rank=rank,
            ranks=ranks,
            local_rank=int(os.environ.get("LOCAL_RANK", rank)),
            local_ranks=int(os.environ.get("LOCAL_WORLD_SIZE", ranks)),
            device=device,
        )
    except ValueError as error:
        names = "RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_PORT"
        raise InputError(f"{names}: {error}") from error


def run_as_rank(
    job: Job,
    *,
    device: str,
    timeout_s: float,
    where: Callable[[int], str],
    on_message: OnMessage,
) -> tuple[bool, str | None]:
    """Run a job; on rank 0 all ranks' messages arrive, as they are sent.

    Returns whether this is rank 0, and the one line of a failure. Every other process ends
    without a word, with exit code 1, when the run has failed.

    Raises:
        InputError: the job refused its input.
    """
    seat = place(device)
    if seat.rank:
        if not _follow(job, seat, timeout_s):
            sys.exit(1)
        return False, None
    try:
        _lead(job, seat, timeout_s, where, on_message)
    except RunFailedError as error:
        return True, str(error)
    except KeyboardInterrupt:
        return True, "interrupted"
    return True, None


def _lead(
    job: Job,
    seat: Seat,
    timeout_s: float,
    where: Callable[[int], str],
    on_message: OnMessage,
) -> None:
    """Start the first rank, and watch all."""
    # Kept to the end: without torchrun this process holds the store at which the ranks meet.
    store = meeting_store(max(timeout_s, START_S), host=True)
    others = [Watched(index) for index in range(1, seat.ranks)]
    # torchrun ends all processes when one has ended: this one first hears which rank failed,
    # and has still to show what was measured.
    with (
        asked_to_end("the launcher ended the run") as stopped,
        Door(store, others),
        started(job, [seat], STORE) as (first,),
    ):
        watch([first, *others], timeout_s, on_message, where, stopped)


def _follow(job: Job, seat: Seat, timeout_s: float) -> bool:
    """Run a rank and tell the first process what it does; whether it came to its end."""
    link = call(meeting_store(max(timeout_s, START_S)), seat.rank)
    # The first process ends the run, after it has heard of the rank that failed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    with started(job, [seat], STORE) as (child,):
        try:
            return _report(child, link)
        except OSError:  # the first process has ended
            return False


def _report(child: Child, link: Any) -> bool:
    """Pass on what a rank sends and where it stands, until it or the first process ends."""
    told: list[int] = []
    open_ = True
    while True:
        connection.wait([child.process.sentinel, link, *([child.pipe] if open_ else [])], 0.2)
        if link.poll():  # nothing comes this way but the end of the run
            return said_over(link)
        code = child.process.exitcode
        words, open_ = _received(child.pipe)
        if told != list(child.progress):
            told = list(child.progress)
            link.send(("progress", told))
        for word in words:
            link.send_bytes(word)
        if code is not None:
            if code:
                link.send(obituary(code))
            return bool(code == 0)


def _received(pipe: Any) -> tuple[list[bytes], bool]:
    """What has come, and whether more can."""
    words: list[bytes] = []
    try:
        while pipe.poll():
            words.append(pipe.recv_bytes())
    except (EOFError, OSError):
        return words, False
    return words, True
