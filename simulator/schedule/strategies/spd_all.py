"""SPD (arXiv 2502.20727) in every block: no attention all-reduce at all.

Unlike a plan that drops all blocks it has no extra add: in the engines measured the rank's own
partial sum joins a residual add that they have anyway.
"""

from isotune.simulator.architecture import Block, PartialAdd, Segment
from isotune.simulator.schedule.strategies.contract import Unsplit, without


class SpdAll(Unsplit):
    """One all-reduce per block, after its MLP."""

    name = "spd_all"
    label = "SPD everywhere"
    overlaps = False
    takes_one_of_two = True
    caveat = "every attention all-reduce is dropped"

    def segments(self, block: Block, index: int, blocks: int) -> tuple[Segment, ...]:
        """Attention and MLP are one segment."""
        del index, blocks
        merged = block.without_collective().segments
        return tuple(without(segment, lambda op: isinstance(op, PartialAdd)) for segment in merged)
