"""The processes of ranks: how they are started, join the process group, and end.

torch's `start_processes` starts them. It could also wait for them, but takes the first one that it
finds dead for the failed one; `ranks.watch` finds the one that failed first.
"""

import ctypes
import os
import signal
import threading
from collections.abc import Iterator, MutableSequence, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection, parent_process
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from isotune.simulator.errors import InputError
from isotune.validation.executor import nccl_options
from isotune.validation.ranks.gpus import gpu_of
from isotune.validation.ranks.placement import RankPlacement
from isotune.validation.ranks.rank import Job, Rank
from isotune.validation.ranks.run_store import Failure, Outbox, StoreAddress

COLLECTIVE_S = 86400.0
"""Timeout of a collective: a rank may load a large model for long while others wait for it in
one. The watching process tells waiting from hanging."""
LEAVE_S = 10.0
"""How long a rank that has said all may take to leave the process group."""
START_METHOD = "spawn"
"""How rank processes are started; see `multiprocessing.set_start_method`."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_PR_SET_PDEATHSIG = 1  # of Linux' sys/prctl.h
_NO_MEMORY = ("can't allocate memory", "annot allocate memory", "out of memory")
"""How torch, the system, and CUDA or NCCL say that there is no memory."""
_LOST_PEER = ("gloo", "onnection", "NCCL", "Timed out", "timed out", "peer")


@dataclass(frozen=True, kw_only=True)
class RankProcess:
    """A rank's process on this machine, and the memory in which it reports its progress."""

    rank: int
    process: Any
    progress: MutableSequence[int]


@dataclass(frozen=True, kw_only=True)
class _Start:
    """What the processes of some ranks need to begin."""

    job: Job
    placements: tuple[RankPlacement, ...]
    device: str
    store: StoreAddress


@contextmanager
def started(
    job: Job, local: Sequence[RankPlacement], device: str, store: StoreAddress
) -> Iterator[list[RankProcess]]:
    """A process for each rank, which runs the job; all have ended after the block."""
    context = mp.get_context(START_METHOD)
    shared = [context.Array("q", [0, -1, 0], lock=False) for _ in local]
    start = _Start(job=job, placements=tuple(local), device=device, store=store)
    # A launcher sends SIGTERM to whole process groups. Ranks inherit that they ignore it: the
    # process that watches ends them, after it has heard which one failed.
    with sigterm_handler(signal.SIG_IGN):
        running = mp.start_processes(
            _run_rank,
            (start, shared),
            len(local),
            join=False,
            daemon=True,
            start_method=START_METHOD,
        )
    try:
        yield [
            RankProcess(rank=placement.rank, process=process, progress=progress)
            for placement, process, progress in zip(local, running.processes, shared, strict=True)
        ]
    finally:
        for process in running.processes:
            process.kill()  # SIGTERM, which torch would send, leaves a stopped process alive
        for process in running.processes:
            process.join()


@contextmanager
def sigterm_handler(handler: Any) -> Iterator[None]:
    """SIGTERM is handled like this within the block; only a main thread can have it so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_rank(index: int, start: _Start, shared: Sequence[MutableSequence[int]]) -> None:
    """Run a job as one rank, in a process that ends with the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _be_killed_with_parent()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    placement, cuda = start.placements[index], start.device == "cuda"
    _use_cores(placement, keep_to_them=not cuda)
    device = torch.device(f"cuda:{gpu_of(placement)}" if cuda else start.device)
    outbox = Outbox(start.store.connect(COLLECTIVE_S)[0], placement.rank)
    rank = Rank(placement.rank, placement.ranks, device, outbox.send, shared[index])
    code = 1
    try:
        _join(rank, start.store)
        start.job(rank)
        code = 0
    except BaseException as error:
        with suppress(dist.DistError):
            outbox.send(describe(error))
    finally:
        with suppress(dist.DistError):  # the store has ended with the leading process
            outbox.flush()
        if code == 0:
            _leave()
        os._exit(code)  # not sys.exit: a comm thread may still hang in a collective


def _join(rank: Rank, address: StoreAddress) -> None:
    """Become part of the process group."""
    rank.at("joining")
    cuda = rank.device.type == "cuda"
    # Containers set TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, and a check in TF32 finds faults of its own.
    torch.set_float32_matmul_precision("highest")
    if cuda:
        torch.cuda.set_device(rank.device)
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        store=address.connect(COLLECTIVE_S)[0],
        rank=rank.index,
        world_size=rank.ranks,
        timeout=timedelta(seconds=COLLECTIVE_S),
        pg_options=nccl_options(timeout=timedelta(seconds=COLLECTIVE_S)) if cuda else None,
    )


def _leave() -> None:
    """Leave the process group, in a few seconds or not at all: all has been said by now.

    Destroying it may wait for ever where a CUDA graph holds NCCL's kernels, or for collectives
    that a failed rank never enters.
    """
    leaving = threading.Thread(target=dist.destroy_process_group, daemon=True)
    leaving.start()
    leaving.join(LEAVE_S)


def describe(error: BaseException) -> Failure:
    """What a rank's exception says of its failure."""
    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if isinstance(error, InputError):
        return Failure("input", text)
    full = any(sign in str(error) for sign in _NO_MEMORY)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or full:
        return Failure("memory", f"ran out of memory: {text}")
    if isinstance(error, RuntimeError) and any(sign in str(error) for sign in _LOST_PEER):
        return Failure("peers", f"lost the other ranks: {text}")
    return Failure("error", f"{type(error).__name__}: {text}")


def exit_reason(code: int) -> Failure:
    """The failure of a process that ended with this exit code."""
    if code >= 0:
        return Failure("died", f"ended without a word (exit code {code})")
    name = signal.Signals(-code).name
    hint = ", as when memory runs out" if name == "SIGKILL" else ""
    return Failure("aborted" if name == "SIGABRT" else "died", f"was killed by {name}{hint}")


def _use_cores(placement: RankPlacement, *, keep_to_them: bool) -> None:
    """Give each rank of this machine cores of its own, and as many threads (OMP_NUM_THREADS wins).

    With fewer cores than ranks they share them all. A rank that only launches kernels should not
    `keep_to_them`: they may be another rank's hyper-threads, or far from its GPU.
    """
    cores = sorted(os.sched_getaffinity(0))
    share, index = len(cores) // placement.local_ranks, placement.local_rank
    if share and keep_to_them:
        os.sched_setaffinity(0, cores[index * share : (index + 1) * share])
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


def _be_killed_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, also while it is stopped."""
    with suppress(OSError, AttributeError):  # not Linux; a thread watches as well
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
