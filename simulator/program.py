"""The program: a plan expanded, once, into ordered compute and sync steps.

Its readers are the timeline (when does each step run?), the executor (run it) and the
drawings. None of them knows the strategies; a new strategy is a new expansion here.

A chunk passes through *segments*: the compute between two sync points. A standard block
has two segments (attention, MLP), a block whose attention sync is dropped has one. Each
segment is issued for every chunk in turn, and while the next chunk computes, the sync of
the previous one is in flight:

    compute:  attn(A) | attn(B) | mlp(A)  | mlp(B)  | attn'(A) ...
    comm:             | AR(A)   | AR(B)   | AR'(A)  | AR'(B) ...

(ISO, arXiv 2409.11155; SPD, arXiv 2502.20727.) With nothing to overlap the syncs stand in
the compute stream itself, as in any serial engine.

Where a group of blocks cuts the work otherwise than the blocks before it, each new chunk is
first gathered (`Op.RECUT`) from the old chunks that share rows with it, once their syncs are
done; chunks that stay as they were go on as ever.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from simulator.model import Model
from simulator.plan import Group, Plan
from simulator.workload import Workload


class Stream(StrEnum):
    """An in-order queue of the device."""

    COMPUTE = "compute"
    COMM = "comm"


class Op(StrEnum):
    """One kernel's worth of work; the last two are the sync points of a block.

    `PARTIAL_ADD` belongs to blocks without attention sync: the rank's own attention output
    joins what its MLP hands to the block's one all-reduce.

    `RECUT` gathers a chunk's rows from those of another cut, between two groups of blocks.

    `HOST` is in no program: it names the engine's own time per pass in a breakdown.
    """

    EMBED = "embed"
    RECUT = "recut"
    ATTENTION_NORM = "attention_norm"
    QKV = "qkv"
    ROPE = "rope"
    ATTENTION = "attention"
    ATTENTION_OUT = "attention_out"
    MLP_NORM = "mlp_norm"
    MLP_UP = "mlp_up"
    ACTIVATION = "activation"
    PARTIAL_ADD = "partial_add"
    MLP_DOWN = "mlp_down"
    FINAL_NORM = "final_norm"
    LM_HEAD = "lm_head"
    HOST = "host"
    ATTENTION_SYNC = "attention_sync"
    MLP_SYNC = "mlp_sync"


SYNCS: Final = frozenset({Op.ATTENTION_SYNC, Op.MLP_SYNC})
_ATTENTION: Final = (Op.ATTENTION_NORM, Op.QKV, Op.ROPE, Op.ATTENTION, Op.ATTENTION_OUT)
_MLP: Final = (Op.MLP_NORM, Op.MLP_UP, Op.ACTIVATION, Op.MLP_DOWN)
_MLP_AFTER_DROP: Final = (*_MLP[:-1], Op.PARTIAL_ADD, Op.MLP_DOWN)


@dataclass(frozen=True, slots=True)
class Chunk:
    """`tokens` tokens of each of `requests` requests, after `start` tokens of context."""

    index: int
    first_request: int
    requests: int
    start: int
    tokens: int

    @property
    def rows(self) -> int:
        """Rows of the activation matrix: all the chunk's tokens."""
        return self.requests * self.tokens

    def shared(self, other: "Chunk") -> tuple[range, range]:
        """The requests and the positions that two chunks have in common."""
        return (
            _common(self.first_request, self.requests, other.first_request, other.requests),
            _common(self.start, self.tokens, other.start, other.tokens),
        )


def _common(first: int, count: int, other: int, others: int) -> range:
    return range(max(first, other), min(first + count, other + others))


Role = tuple[tuple[Op, ...], int, int | None, int]


@dataclass(frozen=True, slots=True)
class Step:
    """Ops that run back to back on one stream over `rows` rows of a chunk, from `first_row`.

    `tile` counts the tiles of a chunk whose last op is cut by rows, else it is None. A step
    starts when the steps it depends on (indices into the program) and the step before
    it on its stream have ended. `block` is -1 before the first block and
    `num_hidden_layers` after the last.
    """

    stream: Stream
    ops: tuple[Op, ...]
    block: int
    chunk: Chunk
    tile: int | None
    first_row: int
    rows: int
    depends_on: tuple[int, ...]

    @property
    def is_sync(self) -> bool:
        """Whether the step is an all-reduce."""
        return self.ops[0] in SYNCS

    @property
    def role(self) -> Role:
        """What it shares with all steps that cost the same (`rows`: groups may tile unlike)."""
        return self.ops, self.chunk.index, self.tile, self.rows


@dataclass(frozen=True, slots=True)
class Program:
    """Steps in issue order; each stream runs its own in that order.

    The order is part of the meaning: a chunk attends to the keys and values of the chunk
    before it, which its stream has issued earlier; no dependency repeats that. `chunks` are
    those of the last blocks.
    """

    steps: tuple[Step, ...]
    chunks: tuple[Chunk, ...]

    def roles(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Which steps are alike: the role of each step, and one step that plays each role.

        Steps of one role differ only in their block, so they cost the same.
        """
        seen: dict[Role, int] = {}
        players: list[int] = []
        role_of: list[int] = []
        for index, step in enumerate(self.steps):
            role = seen.setdefault(step.role, len(players))
            if role == len(players):
                players.append(index)
            role_of.append(role)
        return tuple(role_of), tuple(players)


@dataclass(frozen=True, slots=True)
class _Segment:
    """Compute between two sync points; `tiles` cuts its last op and the sync by rows."""

    block: int
    ops: tuple[tuple[Op, ...], ...]
    sync: Op


@dataclass(frozen=True, slots=True)
class _Cut:
    """How a group of blocks is run; `tiles` is empty unless row-parallel GEMMs are tiled."""

    blocks: range
    chunks: tuple[Chunk, ...]
    tiles: tuple[int, ...]

    @property
    def overlapped(self) -> bool:
        return len(self.chunks) > 1 or bool(self.tiles)


def expand(model: Model, workload: Workload, plan: Plan) -> Program:
    """The program of a plan that `check_plan` accepted."""
    cuts = _cuts(model, workload, plan)
    emitter = _Emitter(overlaps=workload.tp > 1)
    for chunk in cuts[0].chunks:
        emitter.compute(chunk, -1, (Op.EMBED,))
    dropped = frozenset(plan.dropped) if workload.tp > 1 else frozenset[int]()
    for cut in cuts:
        emitter.enter(cut)
        for segment in _segments(cut.blocks, dropped):
            for chunk in cut.chunks:
                emitter.segment(chunk, segment, cut.tiles or (chunk.rows,))
    count = 1 + max(chunk.index for cut in cuts for chunk in cut.chunks)
    everything = Chunk(count, 0, workload.batch, 0, 1)
    emitter.join(everything)
    emitter.compute(everything, model.num_hidden_layers, (Op.FINAL_NORM, Op.LM_HEAD))
    return Program(tuple(emitter.steps), cuts[-1].chunks)


def _cuts(model: Model, workload: Workload, plan: Plan) -> list[_Cut]:
    """The cut of each group; a chunk that stays as it was keeps its index."""
    groups = plan.all_groups
    ends = [*(group.first for group in groups[1:]), model.num_hidden_layers]
    cuts: list[_Cut] = []
    number = 0
    for group, end in zip(groups, ends, strict=True):
        chunks = _chunks(workload, group)
        before = {replace(chunk, index=0): chunk for chunk in cuts[-1].chunks} if cuts else {}
        kept = [before.get(replace(chunk, index=0)) for chunk in chunks]
        numbers = iter(range(number, number + len(chunks)))
        named = tuple(
            old or replace(chunk, index=next(numbers))
            for old, chunk in zip(kept, chunks, strict=True)
        )
        number += kept.count(None)
        # A single tile is no cut: the plan is the serial one.
        tiled = group.strategy == "gemm_overlap" and len(group.chunks) > 1
        cuts.append(_Cut(range(group.first, end), named, group.chunks if tiled else ()))
    return cuts


def _chunks(workload: Workload, group: Group) -> tuple[Chunk, ...]:
    batch, tokens, context = workload.batch, workload.tokens, workload.context
    by_requests = group.strategy == "request_overlap"
    by_tokens = group.strategy == "iso"
    if not (by_requests or by_tokens):
        return (Chunk(0, 0, batch, context, tokens),)
    chunks: list[Chunk] = []
    done = 0
    for index, size in enumerate(group.chunks):
        if by_requests:
            chunks.append(Chunk(index, done, size, context, tokens))
        else:
            chunks.append(Chunk(index, 0, batch, context + done, size))
        done += size
    return tuple(chunks)


def _segments(blocks: range, dropped: frozenset[int]) -> list[_Segment]:
    segments: list[_Segment] = []
    for block in blocks:
        if block in dropped:
            segments.append(_Segment(block, (_ATTENTION, _MLP_AFTER_DROP), Op.MLP_SYNC))
        else:
            segments.append(_Segment(block, (_ATTENTION,), Op.ATTENTION_SYNC))
            segments.append(_Segment(block, (_MLP,), Op.MLP_SYNC))
    return segments


class _Emitter:
    """Appends steps and remembers what each chunk's next step must wait for."""

    def __init__(self, overlaps: bool) -> None:
        self.steps: list[Step] = []
        self._syncs = overlaps
        self._sync_stream = Stream.COMPUTE
        self._pending: dict[Chunk, tuple[int, ...]] = {}
        self._recut: set[Chunk] = set()

    def enter(self, cut: _Cut) -> None:
        """Go on with other chunks: new ones wait for all old ones that share rows with them."""
        self._sync_stream = Stream.COMM if cut.overlapped else Stream.COMPUTE
        before, self._pending = self._pending, {}
        self._recut = set(cut.chunks) - set(before) if before else set()
        for chunk in cut.chunks:
            awaited = [steps for old, steps in before.items() if all(map(len, chunk.shared(old)))]
            self._pending[chunk] = tuple(sorted(sum(awaited, ())))

    def compute(self, chunk: Chunk, block: int, ops: tuple[Op, ...]) -> None:
        """Work on all rows of a chunk."""
        self._append(Step(Stream.COMPUTE, ops, block, chunk, None, 0, chunk.rows, ()))

    def segment(self, chunk: Chunk, segment: _Segment, tiles: tuple[int, ...]) -> None:
        """The compute up to the next sync point, and the sync."""
        if chunk in self._recut:
            self._recut.remove(chunk)
            self.compute(chunk, segment.block, (Op.RECUT,))
        *whole, last = segment.ops
        for ops in whole:
            self.compute(chunk, segment.block, ops)
        if len(tiles) > 1:
            self.compute(chunk, segment.block, last[:-1])
            last = last[-1:]
        first_row = 0
        syncs: list[int] = []
        for index, rows in enumerate(tiles):
            tile = index if len(tiles) > 1 else None
            place = (segment.block, chunk, tile, first_row, rows)
            done = self._append(Step(Stream.COMPUTE, last, *place, ()))
            if self._syncs:
                sync = Step(self._sync_stream, (segment.sync,), *place, (done,))
                syncs.append(self._append(sync))
            first_row += rows
        self._pending[chunk] = tuple(syncs)

    def join(self, into: Chunk) -> None:
        """Have a chunk wait for all others."""
        self._pending[into] = sum(self._pending.values(), ())

    def _append(self, step: Step) -> int:
        if not step.is_sync:
            step = replace(step, depends_on=self._pending.get(step.chunk, ()))
            self._pending[step.chunk] = ()
        self.steps.append(step)
        return len(self.steps) - 1
