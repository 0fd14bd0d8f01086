"""The program: a plan expanded, once, into ordered compute and sync steps.

Its readers are the timeline (when does each step run?), the executor (run it) and the
drawings. None of them knows the strategies; a new strategy is a new expansion here.

A chunk passes through *segments*: the compute between two collectives. A standard block
has two segments (attention, MLP), a block whose attention all-reduce is dropped has one. Each
segment is issued for every chunk in turn, and while the next chunk computes, the sync of
the previous one is in flight:

    compute:  attn(A) | attn(B) | mlp(A)  | mlp(B)  | attn'(A) ...
    comm:             | AR(A)   | AR(B)   | AR'(A)  | AR'(B) ...

(ISO, arXiv 2409.11155; SPD, arXiv 2502.20727.) With nothing to overlap the syncs stand in
the compute stream itself, as in any serial engine.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from isotune.simulator.architecture import (
    Block,
    Collective,
    Model,
    Op,
    Parallelism,
    Ranks,
    Segment,
)
from isotune.simulator.errors import InputError
from isotune.simulator.schedule.plan import Plan
from isotune.simulator.schedule.split import Chunk, PassSizes, added
from isotune.simulator.schedule.strategies import Strategy
from isotune.simulator.schedule.workload import Workload


class Queue(StrEnum):
    """An in-order queue of a device."""

    COMPUTE = "compute"
    COMM = "comm"


class Lane(NamedTuple):
    """A queue of the ranks of one pipeline stage."""

    stage: int
    queue: Queue


_MOST_PASSES = 128_000
"""Passes of a chunk through a block in one program; it has a few steps for each."""
COMPUTE: Final = Lane(0, Queue.COMPUTE)
COMM: Final = Lane(0, Queue.COMM)

Role = tuple[tuple[Op, ...], int, int | None]


@dataclass(frozen=True, slots=True)
class Step:
    """Ops that run back to back on one lane over `rows` rows of a chunk, from `first_row`.

    `tile` counts the tiles of a chunk whose last op is cut by rows, else it is None. A step
    starts when the steps it depends on (indices into the program) and the step before
    it on its lane have ended. `block` is -1 before the first block and
    `num_hidden_layers` after the last.
    """

    lane: Lane
    ops: tuple[Op, ...]
    block: int
    chunk: Chunk
    tile: int | None
    first_row: Any
    rows: Any
    depends_on: tuple[int, ...]

    @property
    def is_sync(self) -> bool:
        """Whether the step is a collective."""
        return isinstance(self.ops[0], Collective)

    @property
    def role(self) -> Role:
        """What it shares with all steps that cost the same."""
        return self.ops, self.chunk.index, self.tile


@dataclass(frozen=True, slots=True)
class Program:
    """Steps in issue order; each lane runs its own in that order.

    The order is part of the meaning: a chunk attends to the keys and values of the chunk
    before it, which its lane has issued earlier; no dependency repeats that.
    """

    steps: tuple[Step, ...]
    chunks: tuple[Chunk, ...]

    def roles(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Which steps are alike: the role of each step, and one step that plays each role.

        Steps of one role differ only in their block, so they cost the same.
        """
        kinds: dict[tuple[Op, ...], int] = {}
        kind_of: dict[int, int] = {}
        seen: dict[tuple[int, int, int | None], int] = {}
        players: list[int] = []
        role_of: list[int] = []
        for index, step in enumerate(self.steps):
            # Blocks share their ops; the hash of a tuple of ops is taken once for all of them.
            kind = kind_of.get(id(step.ops))
            if kind is None:
                kind = kind_of[id(step.ops)] = kinds.setdefault(step.ops, len(kinds))
            role = seen.setdefault((kind, step.chunk.index, step.tile), len(players))
            if role == len(players):
                players.append(index)
            role_of.append(role)
        return tuple(role_of), tuple(players)


def expand(model: Model, workload: Workload, plan: Plan) -> Program:
    """The program of a plan that `check_plan` accepted.

    Raises:
        InputError: more blocks and chunks than are simulated in seconds.
    """
    passes = model.num_hidden_layers * max(1, len(plan.chunks))
    if passes > _MOST_PASSES:
        raise InputError(
            f"plan: {model.num_hidden_layers} blocks in {len(plan.chunks)} chunks are {passes} "
            f"passes of a block (allowed: up to {_MOST_PASSES})"
        )
    ranks = workload.parallelism
    return expand_sizes(model, ranks, workload.share, plan.how, plan.chunks, plan.dropped)


def expand_sizes(
    model: Model,
    ranks: Ranks,
    work: PassSizes,
    how: Strategy,
    sizes: Sequence[Any],
    dropped: Collection[int] = (),
    *,
    pattern: Sequence[int] | None = None,
) -> Program:
    """The program of one pass, or of many that differ in their sizes.

    Args:
        model: its blocks.
        ranks: how its ranks share it; the program is that of the busiest.
        work: sizes of the pass of one group of ranks, or arrays of one element per pass.
        how: the strategy.
        sizes: of the chunks, as a plan has them, or an array of one element per pass for each.
        dropped: blocks whose attention all-reduce is dropped.
        pattern: the kinds of the blocks, those of the model unless given.
    """
    pattern = model.pattern if pattern is None else pattern
    shared = Parallelism.of(ranks)
    tp = shared.tp
    chunks = how.split(work, sizes)
    emitter = _Emitter(shared, _sync_lane(shared, how, len(sizes)), how.lag)
    for chunk in chunks:
        emitter.compute(chunk, -1, model.head(tp))
    dropped = frozenset(dropped) if tp > 1 else frozenset()
    tiles = how.tiles(sizes, added(chunk.rows for chunk in chunks), tp)
    for block, segment in _segments(model.blocks(shared), pattern, how, dropped):
        for chunk in chunks:
            emitter.segment(chunk, block, segment, tiles or (chunk.rows,))
    everything = Chunk.of(len(chunks), 0, work.batch, 0, 1)
    emitter.join(everything)
    emitter.step(model.tail(tp), len(pattern), everything, None, 0, work.batch)
    return Program(tuple(emitter.steps), chunks)


def _sync_lane(shared: Parallelism, how: Strategy, parts: int) -> Lane | None:
    """The lane of the collectives: one GPU has none, one chunk or tile has nothing beside them."""
    if shared.gpus == 1:
        return None
    return COMM if how.beside(parts) else COMPUTE


def _segments(
    kinds: Sequence[Block], pattern: Sequence[int], how: Strategy, dropped: frozenset[int]
) -> Iterator[tuple[int, Segment]]:
    for index, kind in enumerate(pattern):
        block = kinds[kind].without_collective() if index in dropped else kinds[kind]
        for segment in how.segments(block, index, len(pattern)):
            yield index, segment


class _Emitter:
    """Appends steps and remembers what each chunk's next step must wait for."""

    def __init__(self, shared: Parallelism, sync_lane: Lane | None, lag: int) -> None:
        self.steps: list[Step] = []
        self._shared, self._sync_lane, self._lag = shared, sync_lane, lag
        self._pending: dict[int, tuple[int, ...]] = {}
        self._arriving: dict[int, list[tuple[int, int | None, Any]]] = {}
        self._later: dict[int, tuple[int, ...]] = {}

    def compute(self, chunk: Chunk, block: int, ops: tuple[Op, ...]) -> None:
        """Work on all rows of a chunk."""
        self.step(ops, block, chunk, None, 0, -(-chunk.rows // self._shared.cp))

    def segment(self, chunk: Chunk, block: int, segment: Segment, tiles: Sequence[Any]) -> None:
        """The compute up to the next sync point, and the sync; `tiles` cuts the last op and it."""
        *whole, last = self._arrived(chunk, block, segment.sublayers)
        held = self._shared.cp  # ranks that hold a part of the rows each
        ranks = held * (self._shared.tp if segment.sharded else 1)
        sync = segment.collective
        if sync is not None and self._shared.size(sync.group) == 1:
            sync = None
        for ops in whole:
            self.step(ops, block, chunk, None, 0, -(-chunk.rows // ranks))
        if segment.streamed and sync is not None and self._sync_lane:
            done = self.step(last, block, chunk, None, 0, -(-chunk.rows // ranks))
            self._stream(sync, done, block, chunk, tiles)
            return
        if len(tiles) > 1:
            self.compute(chunk, block, last[:-1])
            last = last[-1:]
        first_row = 0
        syncs: list[int] = []
        for index, rows in enumerate(tiles):
            tile = index if len(tiles) > 1 else None
            place = (block, chunk, tile, first_row)
            done = self.step(last, *place, -(-rows // ranks))
            if self._sync_lane and sync:
                syncs.append(len(self.steps))
                sent = rows if sync.group == "cp" else -(-rows // held)
                self.steps.append(Step(self._sync_lane, (sync,), *place, sent, (done,)))
            first_row = first_row + rows
        self._wait(chunk.index, tuple(syncs))

    def _stream(
        self, sync: Collective, done: int, block: int, chunk: Chunk, tiles: Sequence[Any]
    ) -> None:
        """A collective in tiles, for each of which the next segment of the chunk waits alone."""
        first_row = 0
        for index, rows in enumerate(tiles):
            tile = index if len(tiles) > 1 else None
            assert self._sync_lane is not None
            self._arriving.setdefault(chunk.index, []).append((len(self.steps), tile, rows))
            place = (block, chunk, tile, first_row, rows)
            self.steps.append(Step(self._sync_lane, (sync,), *place, (done,)))
            first_row = first_row + rows

    def _arrived(
        self, chunk: Chunk, block: int, sublayers: tuple[tuple[Op, ...], ...]
    ) -> tuple[tuple[Op, ...], ...]:
        """Run the first op on each tile as it arrives, if tiles do; the ops that are left."""
        arriving = self._arriving.pop(chunk.index, [])
        if not arriving:
            return sublayers
        (first, *others), *later = sublayers
        first_row = 0
        for sync, tile, rows in arriving:
            self._pending[chunk.index] = (*self._pending.get(chunk.index, ()), sync)
            self.step((first,), block, chunk, tile, first_row, rows)
            first_row = first_row + rows
        left = (tuple(others), *later)
        return tuple(ops for ops in left if ops)

    def _wait(self, chunk: int, syncs: tuple[int, ...]) -> None:
        """Have the next segment of a chunk wait for syncs, or the one after it."""
        if self._lag:
            self._pending[chunk], self._later[chunk] = self._later.get(chunk, ()), syncs
        else:
            self._pending[chunk] = syncs

    def join(self, into: Chunk) -> None:
        """Have a chunk wait for all others."""
        waits = (*self._pending.values(), *self._later.values())
        self._pending[into.index] = sum(waits, ())

    def step(
        self,
        ops: tuple[Op, ...],
        block: int,
        chunk: Chunk,
        tile: int | None,
        first_row: Any,
        rows: Any,
    ) -> int:
        """Append a compute step that waits for what its chunk waits for; its index."""
        waits = self._pending.get(chunk.index, ())
        self._pending[chunk.index] = ()
        self.steps.append(Step(COMPUTE, ops, block, chunk, tile, first_row, rows, waits))
        return len(self.steps) - 1
