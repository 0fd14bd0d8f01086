"""What one rank of a run knows, and how its process joins the others."""

import ctypes
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist

from isotune.simulator.errors import InputError
from isotune.validation.executor import nccl_options

PHASES = ("starting", "joining", "loading", "checking numbers", "warming up", "measuring")
"""What a rank may be doing, in order."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_PR_SET_PDEATHSIG = 1  # of Linux' sys/prctl.h


@dataclass
class Rank:
    """A rank's place, its device, and how it tells what it is doing.

    `progress` is memory shared with the process that watches: phase, step (-1 outside a
    program) and a count that grows with every report.
    """

    index: int
    ranks: int
    device: torch.device
    send: Callable[[Any], None]
    progress: MutableSequence[int] = field(default_factory=lambda: [0, -1, 0])
    program: int = 0

    def at(self, phase: str) -> None:
        """Say that a phase begins."""
        self.progress[0], self.progress[1] = PHASES.index(phase), -1
        self.tick()

    def step(self, index: int) -> None:
        """Say that a step of the running program (number `program`) begins."""
        self.progress[1] = self.program * STEPS + index
        self.tick()

    def tick(self) -> None:
        """Say that this rank is alive."""
        self.progress[2] += 1


STEPS = 2**32
"""More steps than a program has: a progress of `n * STEPS + i` is step i of program n."""


_NO_MEMORY = ("can't allocate memory", "annot allocate memory", "out of memory")
"""How torch, the system, and CUDA or NCCL say that there is no memory."""


class Job(Protocol):
    """What every rank runs; picklable."""

    def __call__(self, rank: Rank) -> None:
        """Do it; results go through `rank.send`."""


@dataclass(frozen=True, kw_only=True)
class Seat:
    """A rank's place among all ranks, and among those of this machine; `device` is its kind."""

    rank: int
    ranks: int
    local_rank: int
    local_ranks: int
    device: str = "cpu"


STORE = "store://"
"""Where ranks meet that a launcher started: at the store at MASTER_ADDR and MASTER_PORT."""


@contextmanager
def joined(rank: Rank, meeting: str, timeout_s: float) -> Iterator[None]:
    """Be part of the process group within the block.

    After a failure the group is left as it is: to end it may wait for collectives that the
    other ranks never enter, and the process ends anyway.
    """
    rank.at("joining")
    cuda = rank.device.type == "cuda"
    if cuda:
        torch.cuda.set_device(rank.device)
    store = meeting_store(timeout_s) if meeting == STORE else None
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=None if store else meeting,
        store=store,
        rank=rank.index,
        world_size=rank.ranks,
        timeout=timedelta(seconds=timeout_s),
        pg_options=nccl_options() if cuda else None,
    )
    yield
    dist.destroy_process_group()


def meeting_store(timeout_s: float, *, host: bool = False) -> dist.Store:
    """The store at MASTER_ADDR and MASTER_PORT, which torchrun holds, or else one rank."""
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    held = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = dist.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=host and not held,
        timeout=timedelta(seconds=timeout_s),
        wait_for_workers=False,
    )
    return dist.PrefixStore(f"isotune/{attempt}", store)


def use_cores(local_rank: int, local_ranks: int, *, keep_to_them: bool) -> None:
    """Give each rank of this machine cores of its own, and as many threads (OMP_NUM_THREADS wins).

    With fewer cores than ranks they share them all. A rank that only launches kernels should not
    `keep_to_them`: they may be another rank's hyper-threads, or far from its GPU.
    """
    cores = sorted(os.sched_getaffinity(0))
    share = len(cores) // local_ranks
    if share and keep_to_them:
        os.sched_setaffinity(0, cores[local_rank * share : (local_rank + 1) * share])
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, share))
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let malloc keep what is freed, as CUDA's caching allocator does.

    Otherwise large activations are mapped and unmapped at every op, and a pass spends a
    tenth of its time in page faults that no microbenchmark of a kernel shows.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def spawned(  # the entry of a process that `started` starts
    job: Job, seat: Seat, meeting: str, timeout_s: float, pipe: Any, progress: Any
) -> None:
    """Run a job as one rank; what happens goes through the pipe.

    The process ends with the one that started it, however that one ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _be_killed_with_parent()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cuda = seat.device == "cuda"
    use_cores(seat.local_rank, seat.local_ranks, keep_to_them=not cuda)
    where = torch.device(f"cuda:{seat.local_rank}" if cuda else seat.device)
    rank = Rank(
        seat.rank, seat.ranks, where, lambda message: pipe.send(("message", message)), progress
    )
    try:
        with joined(rank, meeting, timeout_s):
            job(rank)
        pipe.send(("done", ""))
    except BaseException as error:
        pipe.send(describe(error))
        # Not sys.exit: a comm thread may still hang in a collective.
        os._exit(1)


def peak_resident_bytes() -> float:
    """The most memory this process has held; what its parent held before does not count."""
    try:
        status = Path("/proc/self/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in status)
        return float(fields["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def describe(error: BaseException) -> tuple[str, str]:
    """The kind of a failure and one line about it.

    Kinds: `input` (the user's), `memory`, `peers` (the consequence of another rank's failure
    or of a lost link) and `error`.
    """
    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if isinstance(error, InputError):
        return "input", text
    full = any(sign in str(error) for sign in _NO_MEMORY)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or full:
        return "memory", f"ran out of memory: {text}"
    signs = ("gloo", "onnection", "NCCL", "Timed out", "timed out", "peer")
    if isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs):
        return "peers", f"lost the other ranks: {text}"
    return "error", f"{type(error).__name__}: {text}"


def _be_killed_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, also while it is stopped."""
    with suppress(OSError, AttributeError):  # not Linux; a thread watches as well
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
