"""Sequence parallelism (Megatron-LM, arXiv 2205.05198), without overlap.

An all-reduce is a reduce-scatter and an all-gather. Between the two a rank holds the sums of its
share of the rows only, so the norm stands there, on 1/tp of the rows.
"""

from collections.abc import Iterator
from dataclasses import replace

from isotune.simulator.architecture import Block, Collective, CollectiveKind, Norm, Segment
from isotune.simulator.schedule.strategies.contract import Unsplit, without


class SequenceParallel(Unsplit):
    """Norms on a share of the rows, between the two halves of every all-reduce.

    The first norm reads the embedding, which every rank has; the head needs the last sum complete,
    so the last all-reduce stays in one piece.
    """

    name = "sequence_parallel"
    label = "sequence parallelism"
    overlaps = uniform = quantised = False
    compared = True

    def segments(self, block: Block, index: int, blocks: int) -> tuple[Segment, ...]:
        """Norm, all-gather, the rest, reduce-scatter."""
        segments = list(block.segments)
        found = [segments.pop(0)] if index == 0 else []
        found += [part for segment in segments for part in _parts(segment)]
        ends = [_half(one, "reduce_scatter") if not one.sharded else one for one in found]
        if index == blocks - 1:
            ends[-1] = found[-1]
        return tuple(ends)


def _parts(segment: Segment) -> Iterator[Segment]:
    """The norm of a segment on a share of the rows, which are then gathered, and the rest."""
    norms = tuple(op for ops in segment.sublayers for op in ops if isinstance(op, Norm))
    yield _half(replace(segment, sublayers=(norms,), sharded=True), "all_gather")
    yield without(segment, lambda op: isinstance(op, Norm))


def _half(segment: Segment, kind: CollectiveKind) -> Segment:
    """The segment with one half of its all-reduce."""
    whole = segment.collective
    assert isinstance(whole, Collective)
    half = replace(whole, name=f"{whole.sublayer}_{kind}", kind=kind)
    return replace(segment, collective=half)
