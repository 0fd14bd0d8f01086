"""Two in-order streams that run a program's steps and clock them: CUDA's, or CPU threads."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch

from isotune.simulator.schedule import COMM, COMPUTE, Lane, Program, StepTimes

Perform = Callable[[int], None]
"""Does the work of the step with this index."""
OnStep = Callable[[int], object]
"""Told the index of a step that begins, or that the host waits for."""


class Streams(Protocol):
    """Runs steps in order on their streams, each after the steps it depends on."""

    def play(self, program: Program, perform: Perform, on_step: OnStep = int) -> StepTimes:
        """Run a program to its end; `on_step` hears which step is reached."""


class CpuStreams:
    """Compute in the calling thread; the communication stream is a thread of its own.

    Collectives leave Python while they wait, so the compute goes on under them.
    """

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


class CudaStreams:
    """Two CUDA streams; waits and clocks are events, so the host runs ahead of the device."""

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

    def _events(self, steps: int) -> tuple[list[Any], list[Any]]:
        """A start and an end of each step, made once: making them would delay the ranks unlike."""
        for events in (self._starts, self._ends):
            missing = range(len(events), steps)
            events.extend(torch.cuda.Event(enable_timing=True) for _ in missing)
        return self._starts[:steps], self._ends[:steps]


def streams_on(device: torch.device) -> Streams:
    """The streams of a device."""
    return CudaStreams(device) if device.type == "cuda" else CpuStreams()


_ENQUEUE_CYCLES = 150_000
"""Device cycles (some 80 us) in which the host enqueues one kernel or collective and its events."""


def let_host_ahead(kernels: int) -> None:
    """Keep the current stream busy while the host enqueues so many kernels.

    Otherwise a short kernel would be clocked with the gap before its launch, which a profile
    has apart from it.
    """
    torch.cuda._sleep(kernels * _ENQUEUE_CYCLES)
