"""Parallel blocks (GPT-J, PaLM): attention and MLP share a normed input and an all-reduce."""

from isotune.simulator.architecture import Block, Norm, Segment
from isotune.simulator.schedule.strategies.contract import Unsplit, unsynced, without


class ParallelBlock(Unsplit):
    """One all-reduce and one norm per block."""

    name = "parallel_block"
    label = "parallel blocks"
    overlaps = False
    takes_one_of_two = True
    needs_retraining = True
    caveat = "the model must be trained with parallel blocks"

    def segments(self, block: Block, index: int, blocks: int) -> tuple[Segment, ...]:
        """Only the first segment has a norm, only the last a collective."""
        del index, blocks
        first, *rest = block.segments
        plain = [without(segment, lambda op: isinstance(op, Norm)) for segment in rest]
        *before, last = (first, *plain)
        return (*map(unsynced, before), last)
