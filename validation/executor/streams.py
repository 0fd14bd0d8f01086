"""Two in-order streams that run a program's steps and clock them: CUDA's, or CPU threads."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from isotune.simulator.errors import InputError
from isotune.simulator.schedule import COMM, COMPUTE, Lane, Program, StepTimes
from isotune.validation.choices import Launch

Perform = Callable[[int], None]
"""Does the work of the step with this index."""
OnStep = Callable[[int], object]
"""Told the index of a step that begins, or that the host waits for."""


class Streams(Protocol):
    """Runs steps in order on their streams, each after the steps it depends on.

    `replays`: a program's first run performs its steps, later ones repeat the same kernels.
    """

    replays: bool

    def play(self, program: Program, perform: Perform, on_step: OnStep = int) -> StepTimes:
        """Run a program to its end; `on_step` hears which step is reached."""

    def close(self) -> None:
        """Let go of what outlives a pass."""


class CpuStreams:
    """Compute in the calling thread; the communication stream is a thread of its own.

    Collectives leave Python while they wait, so the compute goes on under them.
    """

    replays = False

    def play(self, program: Program, perform: Perform, on_step: OnStep = int) -> StepTimes:
        """See `Streams`."""
        starts, ends = [0.0] * len(program.steps), [0.0] * len(program.steps)
        begin = time.perf_counter()

        def clocked(index: int) -> None:
            on_step(index)
            starts[index] = time.perf_counter() - begin
            perform(index)
            ends[index] = time.perf_counter() - begin

        with ThreadPoolExecutor(max_workers=1) as comm:
            in_flight: dict[int, Future[None]] = {}
            try:
                for index, step in enumerate(program.steps):
                    if step.lane == COMM:
                        in_flight[index] = comm.submit(clocked, index)
                        continue
                    for awaited in step.depends_on:
                        if awaited in in_flight:
                            in_flight.pop(awaited).result()
                    clocked(index)
            except BaseException:
                comm.shutdown(wait=False, cancel_futures=True)
                raise
        for left in in_flight.values():
            left.result()
        return StepTimes(tuple(starts), tuple(ends))

    def close(self) -> None:
        """See `Streams`; nothing does."""


class CudaStreams:
    """Two CUDA streams; waits and clocks are events, so the host runs ahead of the device."""

    replays = False

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._streams: dict[Lane, Any] = {
            lane: torch.cuda.Stream(device, priority=-1 if lane == COMM else 0)
            for lane in (COMPUTE, COMM)
        }
        self._begin = torch.cuda.Event(enable_timing=True)
        self._starts: list[Any] = []
        self._ends: list[Any] = []

    def play(self, program: Program, perform: Perform, on_step: OnStep = int) -> StepTimes:
        """See `Streams`."""
        # The device is idle now, so tensors that another stream made before are whole, and what
        # a stream frees from here on was last used in an order that the program gives.
        torch.cuda.synchronize(self._device)
        begin, starts, ends = self._begin, *self._events(len(program.steps))
        started = time.perf_counter()
        begin.record(self._streams[COMPUTE])
        self._streams[COMM].wait_event(begin)
        for index, step in enumerate(program.steps):
            on_step(index)
            stream = self._streams[step.lane]
            for awaited in step.depends_on:
                if program.steps[awaited].lane != step.lane:
                    stream.wait_event(ends[awaited])
            with torch.cuda.stream(stream):
                starts[index].record(stream)
                perform(index)
                ends[index].record(stream)
        host = time.perf_counter() - started
        # One by one, so that a run that hangs is known by the step it hangs in.
        for index, end in enumerate(ends):
            on_step(index)
            end.synchronize()
        torch.cuda.synchronize(self._device)
        return StepTimes(
            tuple(begin.elapsed_time(event) / 1e3 for event in starts),
            tuple(begin.elapsed_time(event) / 1e3 for event in ends),
            host,
        )

    def close(self) -> None:
        """See `Streams`; nothing does."""

    def _events(self, steps: int) -> tuple[list[Any], list[Any]]:
        """A start and an end of each step, made once: making them would delay the ranks unlike."""
        for events in (self._starts, self._ends):
            missing = range(len(events), steps)
            events.extend(torch.cuda.Event(enable_timing=True) for _ in missing)
        return self._starts[:steps], self._ends[:steps]


class GraphStreams(CudaStreams):
    """A program captured once as a CUDA graph and replayed, its steps clocked inside the graph.

    It runs twice launched one by one before, since libraries make their handles and connections
    then. What it reads (embeddings, weights, cache) must stay where it is; what it leaves lies
    where the capture put it, and the next replay writes over it. A replay performs no step.
    """

    replays = True

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._captured: dict[int, _Captured] = {}

    def play(self, program: Program, perform: Perform, on_step: OnStep = int) -> StepTimes:
        """See `Streams`.

        Raises:
            InputError: this torch clocks no steps inside a graph, or a step cannot be captured.
        """
        captured = self._captured.get(id(program))
        if captured is None:
            for _ in range(2):
                super().play(program, perform, on_step)
            captured = self._captured[id(program)] = self._capture(program, perform)
        torch.cuda.synchronize(self._device)
        on_step(0)
        started = time.perf_counter()
        with torch.cuda.stream(self._streams[COMPUTE]):
            captured.graph.replay()
        host = time.perf_counter() - started
        torch.cuda.synchronize(self._device)
        begin = captured.begin
        return StepTimes(
            tuple(begin.elapsed_time(event) / 1e3 for event in captured.starts),
            tuple(begin.elapsed_time(event) / 1e3 for event in captured.ends),
            host,
        )

    def close(self) -> None:
        """Graphs that hold NCCL's kernels must go before the process group does."""
        self._captured.clear()

    def _capture(self, program: Program, perform: Perform) -> "_Captured":
        graph: Any = torch.cuda.CUDAGraph()
        try:
            begin = _graph_clock()
            starts, ends = ([_graph_clock() for _ in program.steps] for _ in "se")
            compute = self._streams[COMPUTE]
            # Other threads of the process (NCCL's watchdog) may call CUDA meanwhile.
            with torch.cuda.graph(graph, stream=compute, capture_error_mode="thread_local"):
                self._enqueue(program, perform, (begin, starts, ends))
        except (TypeError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"--launch graph: this pass cannot be captured: {reason} (allowed: --launch eager)"
            ) from error
        return _Captured(program, graph, begin, starts, ends)

    def _enqueue(
        self, program: Program, perform: Perform, clocks: tuple[Any, list[Any], list[Any]]
    ) -> None:
        """Capture a program's steps; both streams begin and end joined."""
        compute, comm = self._streams[COMPUTE], self._streams[COMM]
        begin, starts, ends = clocks
        done = [torch.cuda.Event() for _ in program.steps]  # edges of the graph; clocks are none
        fork, join = torch.cuda.Event(), torch.cuda.Event()
        begin.record(compute)
        fork.record(compute)
        comm.wait_event(fork)
        for index, step in enumerate(program.steps):
            stream = self._streams[step.lane]
            for awaited in step.depends_on:
                if program.steps[awaited].lane != step.lane:
                    stream.wait_event(done[awaited])
            with torch.cuda.stream(stream):
                starts[index].record(stream)
                perform(index)
                ends[index].record(stream)
                done[index].record(stream)
        join.record(comm)
        compute.wait_event(join)


@dataclass(frozen=True)
class _Captured:
    """A program as a graph, with its clocks; the program is kept, since its id is the key."""

    program: Program
    graph: Any
    begin: Any
    starts: list[Any]
    ends: list[Any]


def _graph_clock() -> Any:
    """An event that a graph records at every replay (torch 2.8 or later)."""
    return torch.cuda.Event(enable_timing=True, external=True)


def streams_on(device: torch.device, launch: Launch = "eager") -> Streams:
    """The streams of a device; on a CPU there is nothing to launch."""
    if device.type != "cuda":
        return CpuStreams()
    return GraphStreams(device) if launch == "graph" else CudaStreams(device)


_ENQUEUE_CYCLES = 150_000
"""Device cycles (some 80 us) in which the host enqueues one kernel or collective and its events."""


def let_host_ahead(kernels: int) -> None:
    """Keep the current stream busy while the host enqueues so many kernels.

    Otherwise a short kernel would be clocked with the gap before its launch, which a profile
    has apart from it.
    """
    torch.cuda._sleep(kernels * _ENQUEUE_CYCLES)
