"""What a plan costs in accuracy, and what an accuracy budget affords.

Costs and budgets are relative growths of perplexity (0.01 = 1 %). That costs add up is an
assumption, which `Recovery` corrects by drop sets that were measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from isotune.simulator.schedule import CommDtype, Plan


@dataclass(frozen=True, kw_only=True)
class DropCosts:
    """The costs that a search goes by: of each block's drop, and of each quantised transfer."""

    blocks: tuple[float, ...]
    transfer: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Blocks from the least to the most costly."""
        return tuple(sorted(range(len(self.blocks)), key=lambda block: (self.blocks[block], block)))

    def of_drops(self, dropped: tuple[int, ...]) -> float:
        """The cost of a drop set."""
        return sum(self.blocks[block] for block in dropped)

    def of_transfer(self, comm_dtype: CommDtype) -> float:
        """The cost of a transfer type; 0 where nothing tells."""
        return self.transfer.get(comm_dtype, 0.0)

    def of(self, plan: Plan) -> float:
        """The cost of a plan: drop set and transfer together."""
        return self.of_drops(plan.dropped) + self.of_transfer(plan.comm_dtype)

    def left(self, budget: float, comm_dtype: CommDtype) -> float:
        """What a transfer type leaves of a budget for drops: the transfer is paid first."""
        return budget - self.of_transfer(comm_dtype)

    def affordable(self, left: float) -> list[tuple[int, ...]]:
        """The drop sets, each in order, that `left` affords, the least costly blocks first.

        Every drop saves the same all-reduce, so the last of them, the largest, is the optimal
        knapsack. The empty set is always one of them.
        """
        sums = np.cumsum([0.0, *(self.blocks[block] for block in self.order)])
        return [self.order[:count] for count, cost in enumerate(sums) if cost <= left or not count]

    def steps(self, points: int) -> list[float]:
        """Some budgets at which one more stretch of blocks becomes affordable, from none to all."""
        sums = np.cumsum([0.0, *(self.blocks[block] for block in self.order)])
        sums = np.maximum.accumulate(np.maximum(sums, 0.0))
        at = np.linspace(0, len(sums) - 1, min(points, len(sums))).round().astype(int)
        return sorted(set(sums[at].tolist()))
