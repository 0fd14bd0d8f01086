"""What a strategy is asked, and the four ways of splitting a pass.

A strategy is one object. Whoever needs to know something about it asks the object; nobody tests
its name. A new strategy is one module here and one line in the registry.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from isotune.simulator.architecture import Block, Model, Op, Parallelism, Segment
from isotune.simulator.schedule.split import Chunk, PassSizes, Slice, added, granularity
from isotune.simulator.schedule.workload import Workload

Splits = Literal["nothing", "prompt", "requests", "tiles"]


class Strategy(ABC):
    """How the blocks of a pass are run.

    Attributes:
        name: what plans, tables and options call it.
        label: what people call it.
        splits: what a plan's chunks divide: nothing, each prompt into token ranges, the batch
            into groups of requests, or the row-parallel GEMMs into row tiles.
        unit: the unit of a chunk's size.
        unit_text: what chunks add up to, in words.
        searchable: whether a search may choose it.
        enumerable: whether `tuner.exact` compares all its splits.
        executable: whether the executor can run its programs.
        overlaps: whether all-reduces can run beside compute.
        uniform: whether it runs all blocks alike, but for dropped all-reduces.
        stages: pipeline stages that its programs have lanes for.
        quantised: whether its collectives can send a narrower type.
        lag: segments that a chunk runs before it waits for an all-reduce.
        drops: whether attention all-reduces of single blocks can be dropped under it.
        most_parts: chunks up to which even splits are worth comparing.
        swept_parts: chunks of the even split that stands for it in a sweep.
        takes_one_of_two: whether it takes one of two collectives of each block away.
        any_collective: whether it runs blocks whose collectives are not all all-reduces.
        needs_retraining: whether the model must be trained for it.
        caveat: what its results must be read with; empty where the model's numbers stay.
        assumes: what its predicted time rests on beside the profile; said with each result.
        compared: whether a table of techniques shows it beside what a search may choose.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    splits: ClassVar[Splits]
    unit: ClassVar[str] = "tokens"
    unit_text: ClassVar[str] = ""
    searchable: ClassVar[bool] = False
    enumerable: ClassVar[bool] = False
    executable: ClassVar[bool] = False
    overlaps: ClassVar[bool] = True
    uniform: ClassVar[bool] = True
    stages: ClassVar[int] = 1
    quantised: ClassVar[bool] = True
    lag: ClassVar[int] = 0
    drops: ClassVar[bool] = False
    most_parts: ClassVar[int] = 2
    swept_parts: ClassVar[int] = 2
    takes_one_of_two: ClassVar[bool] = False
    any_collective: ClassVar[bool] = False
    needs_retraining: ClassVar[bool] = False
    caveat: ClassVar[str] = ""
    assumes: ClassVar[str] = ""
    compared: ClassVar[bool] = False

    @abstractmethod
    def total(self, work: PassSizes) -> Any:
        """What a plan's chunks add up to; 0 where a plan has none."""

    @abstractmethod
    def split(self, work: PassSizes, sizes: Sequence[Any]) -> tuple[Chunk, ...]:
        """The chunks of a pass that a plan with chunks of `sizes` divides."""

    def tiles(self, sizes: Sequence[Any], rows: Any, tp: int) -> Sequence[Any]:
        """Rows of the tiles of each row-parallel GEMM; none where it runs in one piece.

        Args:
            sizes: of the plan's chunks.
            rows: of the pass.
            tp: ranks that share each matrix.
        """
        del sizes, rows, tp
        return ()

    def segments(self, block: Block, index: int, blocks: int) -> tuple[Segment, ...]:
        """What the strategy makes of block `index` of `blocks`."""
        del index, blocks
        return block.segments

    @property
    def chunked(self) -> bool:
        """Whether its plans have chunks."""
        return self.splits != "nothing"

    @property
    def by_length(self) -> bool:
        """Whether shares of each prompt's length, or none at all, tell how a plan splits."""
        return self.splits in ("nothing", "prompt")

    def beside(self, parts: int) -> bool:
        """Whether the all-reduces of a plan with this many chunks run beside compute."""
        return self.overlaps and (parts > 1 or not self.chunked)

    def grain(self, total: int) -> int:
        """The unit's smallest step between split points worth comparing."""
        return granularity(total)

    def refusal(self, workload: Workload) -> str | None:
        """Why no plan of the strategy can run a workload; None where one can."""
        del workload
        return None

    def adds_up_to(self, workload: Workload) -> str:
        """What the chunks of a workload add up to, in words."""
        del workload
        return self.unit_text

    @property
    def never_chosen(self) -> str:
        """Why no search chooses it; empty where one may."""
        return "" if self.searchable else self.caveat or "it has no splits to search"

    def unsuited(self, model: Model, ranks: Parallelism) -> str | None:
        """Why it cannot run the blocks of a model on these ranks; None where it can."""
        if ranks.communicates and not (self.any_collective or model.only_sums(ranks)):
            return (
                f"{self.label} knows all-reduces only; with {ranks.text} blocks of {model.name} "
                "have other collectives too"
            )
        if not self.takes_one_of_two or ranks.tp == 1:
            return None
        blocks = model.blocks(ranks)
        for index, kind in enumerate(model.pattern):
            if obstacle := blocks[kind].drop_obstacle:
                return (
                    f"{self.label} takes one of two all-reduces of each block away; "
                    f"block {index} of {model.name} {obstacle}"
                )
        return None

    def obstacle(self, workload: Workload) -> str | None:
        """Why the strategy can gain nothing on a workload; None where it can."""
        if (refusal := self.refusal(workload)) is not None:
            return refusal
        if not workload.parallelism.communicates:
            gpus = workload.parallelism.gpus
            return (
                f"{'one GPU has' if gpus == 1 else 'GPUs that share nothing have'} no all-reduces"
            )
        if self.chunked and self.total(workload.share) < 2:
            return f"{self.label} needs two {self.unit} to split"
        return None


class Unsplit(Strategy):
    """All tokens of all requests are one chunk."""

    splits = "nothing"

    def total(self, work: PassSizes) -> Any:
        """No chunks."""
        return 0 * work.batch

    def split(self, work: PassSizes, sizes: Sequence[Any]) -> tuple[Chunk, ...]:
        """One chunk."""
        del sizes
        return (Chunk(0, work.groups),)


class SplitPrompt(Strategy):
    """Each prompt is divided into token ranges, and a chunk has one range of every request.

    A mixed batch is divided as an engine lays it out: the new tokens of one request after those of
    another. A chunk may end inside a prompt, whose rest then stands in the next one.
    """

    splits = "prompt"
    unit_text = "tokens of a request"

    def adds_up_to(self, workload: Workload) -> str:
        """The tokens of a request, or of a mixed batch."""
        return self.unit_text if workload.uniform else "tokens of the batch"

    def total(self, work: PassSizes) -> Any:
        """The new tokens of a request; of a mixed batch, all of them."""
        if len(work.groups) > 1:
            return added(group.rows for group in work.groups)
        return work.tokens

    def split(self, work: PassSizes, sizes: Sequence[Any]) -> tuple[Chunk, ...]:
        """One chunk after the other, each on the keys and values of those before it."""
        if len(work.groups) > 1:
            return _tokens_in_order(work.groups, sizes)
        chunks: list[Chunk] = []
        start = work.context
        for index, tokens in enumerate(sizes):
            chunks.append(Chunk.of(index, 0, work.batch, start, tokens))
            start = start + tokens
        return tuple(chunks)


class SplitRequests(Strategy):
    """The batch is divided into groups of requests."""

    splits = "requests"
    unit = "requests"
    unit_text = "requests of the batch"

    def total(self, work: PassSizes) -> Any:
        """The requests."""
        return work.batch

    def split(self, work: PassSizes, sizes: Sequence[Any]) -> tuple[Chunk, ...]:
        """One chunk per size; in a mixed batch it takes requests of the groups in their order."""
        if len(work.groups) > 1:
            return _in_order(work.groups, sizes)
        chunks: list[Chunk] = []
        first = 0
        for index, requests in enumerate(sizes):
            chunks.append(Chunk.of(index, first, requests, work.context, work.tokens))
            first = first + requests
        return tuple(chunks)

    def grain(self, total: int) -> int:
        """One request."""
        del total
        return 1


class SplitTiles(Strategy):
    """The rows of each row-parallel GEMM are divided into tiles, each with its own all-reduce."""

    splits = "tiles"
    unit_text = "tokens of the batch"

    def total(self, work: PassSizes) -> Any:
        """The rows of the activation matrix."""
        return added(group.rows for group in work.groups)

    def split(self, work: PassSizes, sizes: Sequence[Any]) -> tuple[Chunk, ...]:
        """One chunk."""
        del sizes
        return (Chunk(0, work.groups),)

    def tiles(self, sizes: Sequence[Any], rows: Any, tp: int) -> Sequence[Any]:
        """The chunks are the tiles."""
        del rows, tp
        return sizes


def without(segment: Segment, unwanted: Callable[[Op], bool]) -> Segment:
    """The segment without some of its ops."""
    kept = (tuple(op for op in ops if not unwanted(op)) for ops in segment.sublayers)
    return replace(segment, sublayers=tuple(ops for ops in kept if ops))


def unsynced(segment: Segment) -> Segment:
    """The segment without the collective after it."""
    return replace(segment, collective=None)


def _in_order(groups: tuple[Slice, ...], sizes: Sequence[int]) -> tuple[Chunk, ...]:
    """Chunks of so many requests each, taken from the groups in their order."""
    chunks: list[Chunk] = []
    first = 0
    for index, requests in enumerate(sizes):
        parts: list[Slice] = []
        for group in groups:
            start = max(first, group.first_request)
            end = min(first + requests, group.first_request + group.requests)
            if start < end:
                parts.append(Slice(start, end - start, group.start, group.tokens))
        chunks.append(Chunk(index, tuple(parts)))
        first += requests
    return tuple(chunks)


def _tokens_in_order(groups: tuple[Slice, ...], sizes: Sequence[int]) -> tuple[Chunk, ...]:
    """Chunks of so many tokens each, one request after the other."""
    left = list(groups)
    chunks: list[Chunk] = []
    for index, size in enumerate(sizes):
        parts: list[Slice] = []
        held = 0
        while held < size and left:
            part, rest = _cut(left.pop(0), size - held)
            parts.append(part)
            left[:0] = rest
            held += part.rows
        chunks.append(Chunk(index, tuple(parts)))
    return tuple(chunks)


def _cut(group: Slice, size: int) -> tuple[Slice, list[Slice]]:
    """As many whole requests as `size` tokens hold, else a part of the first, and what is left."""
    first, requests = group.first_request, group.requests
    start, tokens = group.start, group.tokens
    whole = min(requests, size // tokens)
    if whole:
        part, rest = Slice(first, whole, start, tokens), []
    else:
        part, rest = Slice(first, 1, start, size), [Slice(first, 1, start + size, tokens - size)]
    done = max(1, whole)
    if requests > done:
        rest.append(Slice(first + done, requests - done, start, tokens))
    return part, rest
