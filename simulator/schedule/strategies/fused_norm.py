"""TokenWeave (arXiv 2505.11329): two halves of the prompt, norms computed inside the all-reduces.

Each rank normalises its share of the rows between the two halves of an all-reduce, which hides the
norm's time in the collective's.
"""

from isotune.simulator.architecture import Block, Norm, Segment
from isotune.simulator.schedule.strategies.contract import SplitPrompt, without


class FusedNorm(SplitPrompt):
    """ISO whose blocks have no norm kernels."""

    name = "split_overlap_fused_norm"
    label = "ISO with fused norms"
    compared = True

    def segments(self, block: Block, index: int, blocks: int) -> tuple[Segment, ...]:
        """No segment has a norm of its own."""
        del index, blocks
        return tuple(
            without(segment, lambda op: isinstance(op, Norm)) for segment in block.segments
        )
