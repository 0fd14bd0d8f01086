"""The forward passes in a trace: what ran in each, and how much communication stayed exposed."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from isotune.simulator.errors import InputError
from isotune.validation.traces.events import GPU, LAUNCHES, Event, Trace
from isotune.validation.traces.kernel_names import COPY, IGNORED, UNKNOWN, KernelNames, Stream

Span = tuple[float, float]
WHOLE = "whole trace"


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A kernel, or on a CPU an operator, and what it does."""

    event: Event
    op: str
    stream: Stream


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """All calls of one kernel in a pass."""

    name: str
    op: str
    seconds: float
    calls: int


@dataclass(frozen=True, kw_only=True)
class TracedPass:
    """A pass, in seconds.

    `exposed_s` is the communication during which no compute ran, `idle_s` the time in which
    nothing ran at all. Both together are the time without compute.
    """

    name: str
    work: tuple[Work, ...]

    @cached_property
    def span(self) -> Span:
        """From the start of its first kernel to the end of its last."""
        return self.work[0].event.start, max(one.event.end for one in self.work)

    @property
    def latency_s(self) -> float:
        """From the first kernel's start to the last one's end."""
        return self.span[1] - self.span[0]

    @cached_property
    def compute(self) -> tuple[Span, ...]:
        """When compute ran."""
        return _merged(_spans(self.work, "compute"))

    @cached_property
    def communication(self) -> tuple[Span, ...]:
        """When communication ran."""
        return _merged(_spans(self.work, "communication"))

    @property
    def compute_s(self) -> float:
        """Seconds in which compute ran."""
        return _length(self.compute)

    @property
    def comm_s(self) -> float:
        """Seconds in which communication ran."""
        return _length(self.communication)

    @property
    def overlapped_s(self) -> float:
        """Seconds in which both ran."""
        together = self.compute_s + self.comm_s
        return max(0.0, together - _length(_merged([*self.compute, *self.communication])))

    @property
    def exposed_s(self) -> float:
        """Seconds of communication without compute beside it."""
        return max(0.0, self.comm_s - self.overlapped_s)

    @property
    def idle_s(self) -> float:
        """Seconds in which nothing ran."""
        return max(0.0, self.latency_s - _length(_merged([*self.compute, *self.communication])))

    def within(self, name: str, span: Span) -> "TracedPass | None":
        """The part of the pass in a span of time; None where nothing ran in it."""
        start, end = span
        parts = tuple(
            _clipped(one, start, end)
            for one in self.work
            if one.event.start < end and one.event.end > start
        )
        return TracedPass(name=name, work=parts) if parts else None

    def kernels(self) -> tuple[Kernel, ...]:
        """Its kernels by name, those that took longest first."""
        found: dict[tuple[str, str], list[float]] = {}
        for one in self.work:
            found.setdefault((one.event.name, one.op), []).append(one.event.seconds)
        kernels = [
            Kernel(name=name, op=op, seconds=sum(times), calls=len(times))
            for (name, op), times in found.items()
        ]
        return tuple(sorted(kernels, key=lambda kernel: (-kernel.seconds, kernel.name)))


def passes_of(trace: Trace, names: KernelNames, mark: str | None = None) -> tuple[TracedPass, ...]:
    """The passes of a trace, in the order of time.

    A pass is what was launched inside an annotation that contains `mark`; without one, inside
    the first of the table's annotations that the trace has, else the whole trace is one pass.

    Raises:
        InputError: no annotation contains `mark`, or nothing ran.
    """
    work = tuple(_work_of(trace, names))
    if not work:
        raise InputError("the trace: nothing in it is compute or communication")
    marks = _marks(trace, names, mark)
    if not marks:
        return _that_took_time((TracedPass(name=WHOLE, work=work),), "nothing in it took time")
    launched = _launches(trace)
    starts = [one.start for one in marks]
    inside: list[list[Work]] = [[] for _ in marks]
    for one in work:
        at = launched.get(_correlation(one.event), one.event.start)
        index = bisect_right(starts, at) - 1
        if index >= 0 and at <= marks[index].end:
            inside[index].append(one)
    found = tuple(
        TracedPass(name=one.name, work=tuple(parts))
        for one, parts in zip(marks, inside, strict=True)
        if parts
    )
    return _that_took_time(found, f"nothing ran inside {marks[0].name!r:.60}")


def _that_took_time(found: tuple[TracedPass, ...], otherwise: str) -> tuple[TracedPass, ...]:
    kept = tuple(one for one in found if one.latency_s > 0)
    if not kept:
        raise InputError(f"the trace: {otherwise}")
    return kept


def _marks(trace: Trace, names: KernelNames, mark: str | None) -> list[Event]:
    annotations = trace.of("user_annotation")
    for text in names.passes if mark is None else (mark,):
        found = [event for event in annotations if text in event.name]
        if found:
            return found
    if mark is None:
        return []
    known = list(dict.fromkeys(event.name for event in annotations))
    listed = ", ".join(f"{name!r:.40}" for name in known[:6]) or "none"
    raise InputError(f"--pass: no annotation contains {mark!r:.60} (the trace has: {listed})")


def _launches(trace: Trace) -> dict[object, float]:
    """When the host launched what has a correlation."""
    return {
        number: event.start
        for event in trace.of(*LAUNCHES)
        if (number := _correlation(event)) is not None
    }


def _correlation(event: Event) -> object:
    number = event.arguments.get("correlation")
    return number if isinstance(number, (int, str)) else None


def _work_of(trace: Trace, names: KernelNames) -> Iterator[Work]:
    """What ran: the kernels of a GPU, else the outermost operators of the CPU that are known."""
    if trace.on_gpu:
        for event in trace.of(*GPU):
            yield (
                _named(event, names)
                if event.category == "kernel"
                else Work(event=event, op=COPY, stream="compute")
            )
        return
    collectives = (
        one
        for event in trace.of("user_annotation")
        if (one := _named(event, names)).stream == "communication" and ":" in event.name
    )
    operators = (_named(event, names) for event in _outermost(trace.of("cpu_op"), names))
    found = [one for one in (*collectives, *operators) if one.op != IGNORED]
    yield from sorted(found, key=lambda one: one.event.start)


def _named(event: Event, names: KernelNames) -> Work:
    entry = names.of(event.name)
    if entry is None:
        return Work(event=event, op=UNKNOWN, stream="compute")
    return Work(event=event, op=entry.op, stream=entry.stream)


def _outermost(events: Sequence[Event], names: KernelNames) -> Iterator[Event]:
    """Known operators that stand in no other known one, and unknown ones that hold none."""
    threads: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        threads.setdefault(event.thread, []).append(event)
    for of_thread in threads.values():
        done = float("-inf")
        for index, event in enumerate(of_thread):
            if event.start < done:
                continue
            following = of_thread[index + 1] if index + 1 < len(of_thread) else None
            holds = following is not None and following.end <= event.end
            if names.of(event.name) is None and holds:
                continue
            done = event.end
            yield event


def _spans(work: Iterable[Work], stream: Stream) -> list[Span]:
    return [(one.event.start, one.event.end) for one in work if one.stream == stream]


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans of time that do not touch one another, together the same."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return tuple(found)


def _length(spans: Iterable[Span]) -> float:
    return sum(end - start for start, end in spans)


def _clipped(work: Work, start: float, end: float) -> Work:
    event = work.event
    cut = Event(
        name=event.name,
        category=event.category,
        start=max(start, event.start),
        end=min(end, event.end),
        thread=event.thread,
        arguments=event.arguments,
    )
    return Work(event=cut, op=work.op, stream=work.stream)
