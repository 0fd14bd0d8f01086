"""The one entry: runs a job on ranks, whether this process starts all of them or torchrun does.

Every rank is a process of its own, and the process that started it watches it. The one that
started rank 0 leads: it reads what all ranks send, names the rank that fails first, and ends
the run. Under torchrun the other processes report to it through the store (`ranks.run_store`).
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import torch.distributed as dist

from isotune.simulator.io import heard
from isotune.validation.ranks.placement import RankPlacement
from isotune.validation.ranks.process import sigterm_handler, started
from isotune.validation.ranks.rank import Job
from isotune.validation.ranks.run_store import Inbox, open_store
from isotune.validation.ranks.watch import START_S, OnMessage, RunFailedError, follow, watch


def run(
    job: Job,
    local: Sequence[RankPlacement],
    *,
    device: str,
    timeout_s: float,
    on_message: OnMessage,
    where: Callable[[int], str] = lambda step: f"step {step}",
) -> str | None:
    """Run a job on all ranks, of which this process starts the `local` ones (see `placements`).

    Returns None when all ranks are done, or one line about the failure that ended the run: a
    rank died, hung, ran out of memory or raised, SIGTERM (as schedulers send it) or Ctrl-C. All
    messages arrive in the process that `leads`; in another one of torchrun's a failed run exits
    with code 1 and no output. Every process started here has ended then.

    A rank that reports nothing for `timeout_s` seconds (a starting one: three minutes, if that
    is more) counts as hung. `where` describes a step of the program.

    Raises:
        InputError: a rank refused its input.
    """
    if local[0].local_ranks == local[0].ranks:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if local[0].rank:
        if not _follow(job, local, device, timeout_s):
            sys.exit(1)
        return None
    try:
        _lead(job, local, device, timeout_s, on_message, where)
    except RunFailedError as error:
        return str(error)
    except dist.DistError as error:
        return f"lost the store at which the ranks meet: {str(error).splitlines()[0]}"
    except KeyboardInterrupt:
        heard()
        return "interrupted"
    return None


def _lead(
    job: Job,
    local: Sequence[RankPlacement],
    device: str,
    timeout_s: float,
    on_message: OnMessage,
    where: Callable[[int], str],
) -> None:
    """Start the ranks of this process and watch all ranks."""
    # The store is kept to the end: without torchrun's agent it lives in this process.
    store, address = open_store(local[0], max(timeout_s, START_S))
    noted: list[int] = []  # SIGTERM ends the run; what was measured can still be shown
    with (
        sigterm_handler(lambda number, _: noted.append(number)),
        started(job, local, device, address) as processes,
    ):

        def stopped() -> str | None:
            return "ended by SIGTERM" if noted else None

        try:
            inboxes = [Inbox(store, rank, job.messages) for rank in range(local[0].ranks)]
            watch(processes, inboxes, store, timeout_s, on_message, where, stopped)
        except BaseException:
            with suppress(dist.DistError):
                store.set("failed", "")
            raise


def _follow(job: Job, local: Sequence[RankPlacement], device: str, timeout_s: float) -> bool:
    """Start torchrun's rank and report it to the leading process; whether it came to its end."""
    try:
        store, address = open_store(local[0], max(timeout_s, START_S))
        # The leading process ends the run, after it has heard of the rank that failed.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        with started(job, local, device, address) as (process,):
            return follow(process, store)
    except dist.DistError:  # the leading process has ended, and its store with it
        return False
