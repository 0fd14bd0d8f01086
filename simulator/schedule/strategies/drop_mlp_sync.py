"""The mirror image of SPD: the all-reduce after the MLP of every block is left out."""

from isotune.simulator.architecture import Block, Segment
from isotune.simulator.schedule.strategies.contract import Unsplit, unsynced


class DropMlpSync(Unsplit):
    """One all-reduce per block, after its attention."""

    name = "drop_mlp_sync"
    label = "dropped MLP all-reduces"
    overlaps = False
    takes_one_of_two = True
    needs_retraining = True
    caveat = "the model must be trained without its MLP all-reduces"

    def segments(self, block: Block, index: int, blocks: int) -> tuple[Segment, ...]:
        """The last segment has no collective."""
        del index, blocks
        *before, last = block.segments
        return (*before, unsynced(last))
