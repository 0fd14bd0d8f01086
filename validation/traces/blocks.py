"""The blocks of a traced pass: what repeats between its collectives.

A trace does not say where a decoder layer begins. Between two all-reduces stand the same kernels
in every block, so the shortest period of that sequence is a block. It ends with the end of its last
collective; under an overlapping schedule the next block has begun by then.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from isotune.validation.traces.passes import Span, TracedPass

_ALIKE = 0.8
"""Share of the places at which a sequence must repeat itself."""
_MOST = 0.5
"""Share of a block's kernels that the first block has too."""
_LONGEST = 64
"""Collectives of a block at most."""
_Between = Counter[str]


@dataclass(frozen=True, kw_only=True)
class TracedBlock:
    """A block, and when it was: from the end of the block before it to its own."""

    index: int
    collectives: int
    span: Span
    part: TracedPass


def blocks_of(one: TracedPass, per_block: int | None = None) -> tuple[TracedBlock, ...]:
    """The blocks of a pass; none where nothing repeats between its collectives.

    The last collective of the pass ends its last block. What is left before the first block (the
    all-reduce of the embedding) belongs to none.

    Args:
        one: the pass.
        per_block: collectives of a block; found in the sequence unless given.
    """
    between, ends = _between(one)
    period = _period(between) if per_block is None else per_block
    if period is None or len(ends) < 2 * period:
        return ()
    first = _first(between, period)
    cuts = [one.span[0] if first == 0 else ends[first - 1]]
    cuts += [ends[at] for at in range(first + period - 1, len(ends), period)]
    found: list[TracedBlock] = []
    for index, span in enumerate(pairwise(cuts)):
        part = one.within(f"block {index}", span) if span[0] < span[1] else None
        if part is not None:
            found.append(TracedBlock(index=index, collectives=period, span=span, part=part))
    return tuple(found)


def _between(one: TracedPass) -> tuple[list[_Between], list[float]]:
    """What started before each collective since the one before it, and the collectives' ends.

    Only collectives of the most frequent kind count: the head gathers where blocks reduce.
    """
    kinds = Counter(work.op for work in one.work if work.stream == "communication")
    usual = max(kinds, key=lambda op: kinds[op], default=None)
    found: list[_Between] = []
    ends: list[float] = []
    kernels: _Between = Counter()
    for work in one.work:
        kernels[work.op] += 1
        if work.op == usual:
            found.append(kernels)
            ends.append(max(work.event.end, ends[-1] if ends else work.event.end))
            kernels = Counter()
    return found, ends


def _period(between: list[_Between]) -> int | None:
    """The shortest period at which a sequence repeats itself, but for its beginning and end."""
    for period in range(1, min(_LONGEST, len(between) // 2) + 1):
        pairs = len(between) - period
        compared = range(period, pairs - 1) if pairs >= 2 * period else range(pairs)
        alike = sum(between[at] == between[at + period] for at in compared)
        if alike >= _ALIKE * len(compared):
            return period
    return None


def _first(between: list[_Between], period: int) -> int:
    """The first collective of the first block.

    The first block has more kernels than the second (those of the embedding), or fewer (no sum
    with the block before it), but most of them are there.
    """
    first = len(between) % period
    while first + 2 * period <= len(between):
        one, following = between[first], between[first + period]
        if (one & following).total() >= _MOST * following.total():
            break
        first += period
    return first
