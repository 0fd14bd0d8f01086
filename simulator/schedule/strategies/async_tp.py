"""Async tensor parallelism (PyTorch's symmetric memory): sequence parallelism in tiles.

The rows of an all-gather arrive rank by rank, and the next product works on those that are there;
a row-parallel product hands over its tiles to the reduce-scatter while it works on the next.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from isotune.simulator.architecture import Block, Segment
from isotune.simulator.schedule.strategies.sequence_parallel import SequenceParallel
from isotune.simulator.schedule.workload import Workload


class AsyncTp(SequenceParallel):
    """A tile for each rank."""

    name = "async_tp"
    label = "async TP"
    overlaps = compared = True
    assumes = (
        "a tile takes what a collective of the library and a product of its rows take; run "
        "eagerly, torch's calls took some 0.1 ms more per all-gather and 0.25 ms more per "
        "reduce-scatter on 8x H100 (meta-pytorch/kraken, PR 2 and 19)"
    )

    def refusal(self, workload: Workload) -> str | None:
        """Each rank has a row at least."""
        rows = sum(group.rows for group in workload.groups)
        tp = workload.parallelism.tp
        if rows >= tp:
            return None
        return f"{self.label} has a tile for each of {tp} ranks, not {rows} rows"

    def tiles(self, sizes: Sequence[Any], rows: Any, tp: int) -> Sequence[Any]:
        """The rows of each rank, as even as they go."""
        del sizes
        return [(rows + rank) // tp for rank in range(tp)] if tp > 1 else ()

    def segments(self, block: Block, index: int, blocks: int) -> tuple[Segment, ...]:
        """Those of sequence parallelism, whose all-gathers arrive tile by tile."""
        found = super().segments(block, index, blocks)
        return tuple(replace(one, streamed=one.sharded) for one in found)
