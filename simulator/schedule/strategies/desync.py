"""Desynced residuals: one all-reduce in two blocks (`desync4` in the ladder paper's code)."""

from isotune.simulator.architecture import Block, Segment
from isotune.simulator.schedule.strategies.contract import Unsplit, unsynced


class Desync4(Unsplit):
    """One of four all-reduces: that after the MLP of every second block, and of the last."""

    name = "desync4"
    label = "desynced residuals"
    overlaps = False
    uniform = False
    needs_retraining = True
    caveat = "the model must be trained with desynced residuals"

    def segments(self, block: Block, index: int, blocks: int) -> tuple[Segment, ...]:
        """The last segment of an odd block, and of the last, keeps its collective."""
        *before, last = block.segments
        synced = index % 2 == 1 or index == blocks - 1
        return (*map(unsynced, before), last if synced else unsynced(last))
