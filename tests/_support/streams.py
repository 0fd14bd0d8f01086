"""CUDA streams and events that note what happens before what, so that races show on a CPU.

`Machine.installed()` puts recorders in place of torch.cuda's streams. Every stream and the host
have a vector clock; `Watch`, a dispatch mode, sees each op with the stream it is issued on, what it
reads, writes (by bytes of a block of memory) and frees, and counts launches. A fault is
  - a read or write that is not ordered after an earlier write (or a write after an earlier read)
  - a block freed to the pool of its stream while another stream may still use it
  - a wait for an event that nobody recorded, and memory read that nobody wrote.
"""

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Clock = dict[int, int]
Span = tuple[int, int]
_ALL: Span = (0, 1 << 62)
_NO_LAUNCH = {"aten::detach", "aten::lift_fresh", "prim::device", "aten::_unsafe_view"}
_ALLOCATES = {
    "aten::empty.memory_format",
    "aten::empty_like",
    "aten::new_empty",
    "aten::empty_strided",
    "aten::new_empty_strided",
}
_OVERWRITES = {"aten::copy_", "aten::fill_", "aten::zero_"}
_HOST_WAITS = {
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::nonzero",
    "aten::_unique2",
    "aten::equal",
    "aten::masked_select",
    "aten::is_nonzero",
}


def _merge(clock: Clock, other: Clock) -> None:
    for key, count in other.items():
        clock[key] = max(count, clock.get(key, 0))


class Use:
    """One use of some bytes of a block: by which op, on which stream, at which of its ticks."""

    def __init__(self, span: Span, stream: "Stream", tick: int, op: str) -> None:
        self.span, self.stream, self.tick, self.op = span, stream, tick, op

    def before(self, clock: Clock) -> bool:
        return self.tick <= clock.get(id(self.stream), 0)

    def touches(self, span: Span) -> bool:
        return self.span[0] < span[1] and span[0] < self.span[1]

    def within(self, span: Span) -> bool:
        return span[0] <= self.span[0] and self.span[1] <= span[1]


class Block:
    """A block of memory: the stream whose pool it comes from, and who used it."""

    def __init__(self, storage: Any, stream: "Stream", made: str) -> None:
        self.alive = StorageWeakRef(storage)
        self.stream, self.made = stream, made
        self.writes: list[Use] = []
        self.reads: list[Use] = []


class Stream:
    """Stands for torch.cuda.Stream."""

    machine: "Machine"

    def __init__(self, _device: Any = None, priority: int = 0) -> None:
        self.clock: Clock = {}
        self.freed: list[tuple[Block, list[Use]]] = []
        self.name = f"stream {len(self.machine.streams)} (priority {priority})"
        self.machine.streams.append(self)

    def wait_event(self, event: "Event") -> None:
        self.machine.find_freed()
        if event.clock is None:
            self.machine.fault("wait", f"{self.name} waits for an event that nobody recorded")
        else:
            _merge(self.clock, event.clock)

    def wait_stream(self, other: "Stream") -> None:
        self.machine.find_freed()
        _merge(self.clock, other.clock)

    def synchronize(self) -> None:
        self.machine.find_freed()
        _merge(self.machine.host, self.clock)


class Event:
    """Stands for torch.cuda.Event; its time is a count of records."""

    machine: "Machine"
    times = itertools.count()

    def __init__(self, enable_timing: bool = False, **_: Any) -> None:
        self.clock: Clock | None = None
        self.timed, self.time = enable_timing, 0

    def record(self, stream: Stream | None = None) -> None:
        self.machine.find_freed()
        stream = stream or self.machine.current
        self.clock = dict(stream.clock)
        _merge(self.clock, self.machine.host)
        self.time = next(self.times)

    def synchronize(self) -> None:
        self.machine.find_freed()
        assert self.clock is not None
        _merge(self.machine.host, self.clock)

    def elapsed_time(self, later: "Event") -> float:
        assert self.timed
        assert later.timed
        return float(later.time - self.time)


class Graph:
    """Stands for torch.cuda.CUDAGraph; what is captured runs once, and a replay runs nothing."""

    def __init__(self) -> None:
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1


class Machine:
    """The streams, the host's clock, the blocks that live, faults and launches."""

    def __init__(self) -> None:
        kinds = {"machine": self}
        self.Stream = type("BoundStream", (Stream,), kinds)
        self.Event = type("BoundEvent", (Event,), kinds)
        self.streams: list[Stream] = []
        self.host: Clock = {}
        self.default = self.current = self.Stream()
        self.blocks: dict[int, Block] = {}
        self.faults: Counter[tuple[str, str]] = Counter()
        self.launches: Counter[str] = Counter()
        self.host_waits: Counter[str] = Counter()
        self.on: Counter[tuple[str, str]] = Counter()

    def fault(self, kind: str, text: str) -> None:
        self.faults[kind, text] += 1

    @contextlib.contextmanager
    def installed(self, monkeypatch: Any) -> Iterator["Watch"]:
        """This machine in place of torch.cuda's streams, watched."""

        @contextlib.contextmanager
        def stream(chosen: Stream | None) -> Iterator[None]:
            self.find_freed()
            before, self.current = self.current, chosen or self.current
            try:
                yield
            finally:
                self.find_freed()
                self.current = before

        @contextlib.contextmanager
        def graph(_graph: Graph, stream: Stream, **_: Any) -> Iterator[None]:
            before, self.current = self.current, stream
            try:
                yield
            finally:
                self.current = before

        def synchronize(_device: Any = None) -> None:
            self.find_freed()
            for each in self.streams:
                _merge(self.host, each.clock)

        fakes = {
            "Stream": self.Stream,
            "Event": self.Event,
            "stream": stream,
            "synchronize": synchronize,
            "current_stream": lambda _device=None: self.current,
            "CUDAGraph": Graph,
            "graph": graph,
            "_sleep": lambda _cycles: None,
        }
        with monkeypatch.context() as patch:
            for name, fake in fakes.items():
                patch.setattr(torch.cuda, name, fake)
            watch = Watch(self)
            with watch:
                yield watch
            self.find_freed()

    def find_freed(self) -> None:
        """Give blocks that are gone to their stream's pool, with those who may still use them."""
        for key, block in list(self.blocks.items()):
            if block.alive.expired():
                del self.blocks[key]
                others = [u for u in (*block.writes, *block.reads) if u.stream is not block.stream]
                if others:
                    block.stream.freed.append((block, others))

    def block_of(self, tensor: torch.Tensor, made: str = "outside") -> Block:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.blocks:
            block = Block(storage, self.current, made)
            if made == "outside":
                block.writes.append(Use(_ALL, self.default, 0, made))
            self.blocks[storage._cdata] = block
        return self.blocks[storage._cdata]


class Watch(TorchDispatchMode):
    """Sees every op; see the module."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine
        self.paused = False

    @contextlib.contextmanager
    def unwatched(self) -> Iterator[None]:
        """What runs within counts for nothing."""
        self.paused = True
        try:
            yield
        finally:
            self.paused = False

    @contextlib.contextmanager
    def one_launch(self, name: str, reads: Any, writes: Any) -> Iterator[None]:
        """What runs within stands for one kernel of a GPU."""
        with self.unwatched():
            yield
        self._launch(name, list(reads), list(writes), [])

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.machine.find_freed()
        out = func(*args, **kwargs)
        name = func.name()
        if self.paused or name in _NO_LAUNCH or self._is_view(func, args, kwargs, out):
            return out
        outs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        if name in _ALLOCATES:
            for tensor in outs:
                self._reuse(name, self._now())
                self.machine.block_of(tensor, name)
            return out
        reads, writes = _operands(func, args, kwargs)
        if name.startswith("c10d::"):
            outs = []
        self._launch(name, reads, writes, [o for o in outs if not any(o is w for w in writes)])
        if name.split(".")[0] in _HOST_WAITS:
            self.machine.host_waits[name] += 1
            _merge(self.machine.host, self.machine.current.clock)
        return out

    @staticmethod
    def _is_view(func: Any, args: Any, kwargs: Any, out: Any) -> bool:
        if not getattr(func, "is_view", False):
            return False
        keys = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor)
        }
        tensors = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        return all(tensor.untyped_storage()._cdata in keys for tensor in tensors)

    def _now(self) -> Clock:
        """The clock of the next op on the current stream."""
        stream = self.machine.current
        clock = dict(stream.clock)
        _merge(clock, self.machine.host)
        clock[id(stream)] = stream.clock.get(id(stream), 0) + 1
        return clock

    def _reuse(self, name: str, clock: Clock) -> None:
        """The op takes memory from its stream's pool: it may be a block that was freed there."""
        stream = self.machine.current
        for block, others in stream.freed:
            late = sorted(
                {f"{use.stream.name}: {use.op}" for use in others if not use.before(clock)}
            )
            if late:
                self.machine.fault(
                    "reuse", f"{name} may get the block of {block.made}, used on {late}"
                )
        stream.freed = []

    def _launch(self, name: str, reads: Any, writes: Any, outs: Any) -> None:
        machine, stream, clock = self.machine, self.machine.current, self._now()
        if outs:
            self._reuse(name, clock)
        machine.launches[name] += 1
        machine.on[stream.name, name] += 1
        stream.clock = clock
        tick = clock[id(stream)]
        for tensor in reads:
            block, span = machine.block_of(tensor), _span(tensor)
            self._check("read", block.writes, span, clock, name)
            if tensor.numel() and not any(use.touches(span) for use in block.writes):
                machine.fault("unwritten", f"{name} reads what nobody wrote")
            block.reads.append(Use(span, stream, tick, name))
        for tensor in (*writes, *outs):
            made = name if any(tensor is out for out in outs) else "outside"
            block, span = machine.block_of(tensor, made), _span(tensor)
            self._check("write", block.writes, span, clock, name)
            self._check("write", block.reads, span, clock, name)
            # What this stream did within these bytes before is over.
            for uses in (block.writes, block.reads):
                uses[:] = [u for u in uses if not (u.within(span) and u.stream is stream)]
            block.writes.append(Use(span, stream, tick, name))

    def _check(self, what: str, uses: list[Use], span: Span, clock: Clock, name: str) -> None:
        for use in uses:
            if use.touches(span) and not use.before(clock):
                self.machine.fault(what, f"{name} {what}s beside {use.op} on {use.stream.name}")


def _operands(func: Any, args: Any, kwargs: Any) -> tuple[list[Any], list[Any]]:
    """The tensors that an op reads, and those that it writes."""
    schema = func._schema.arguments
    given = [*zip(args, schema, strict=False)]
    given += [(kwargs[argument.name], argument) for argument in schema if argument.name in kwargs]
    if func.name().startswith("c10d::"):
        flat = [[t for t in tree_leaves(v) if isinstance(t, torch.Tensor)] for v, _ in given]
        if "allreduce" in func.name() or "broadcast" in func.name():
            return [*flat[0]], flat[0]
        return flat[1], flat[0]
    reads, writes = [], []
    for value, argument in given:
        mutated = argument.alias_info is not None and argument.alias_info.is_write
        for tensor in tree_leaves(value):
            if isinstance(tensor, torch.Tensor):
                if mutated:
                    writes.append(tensor)
                if not mutated or func.name() not in _OVERWRITES:
                    reads.append(tensor)
    return reads, writes


def _span(tensor: torch.Tensor) -> Span:
    """The bytes of its block that a tensor lies in."""
    if not tensor.numel():
        return 0, 0
    first = tensor.storage_offset()
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    last = first + sum((size - 1) * stride for size, stride in sizes) + 1
    return first * tensor.element_size(), last * tensor.element_size()
