"""In-sensitive, sensitive and extremely sensitive blocks (ISB, SB, ESB; SPD, arXiv 2502.20727).

Two thresholds on a block's sensitivity make the classes: up to tau1 it is dropped as it is, up
to tau2 with recovery, above it with the strongest recovery. How the thresholds are chosen from
quantiles or from a budget is isotune's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from isotune.simulator.errors import InputError

SensitivityClass = Literal["ISB", "SB", "ESB"]


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Sensitivities up to `tau1` are ISB, up to `tau2` SB, above it ESB.

    Raises:
        InputError: they are not finite, or tau2 is below tau1.
    """

    tau1: float
    tau2: float

    def __post_init__(self) -> None:
        if not (np.isfinite((self.tau1, self.tau2)).all() and self.tau1 <= self.tau2):
            raise InputError(
                f"thresholds {self.tau1:g} and {self.tau2:g}: tau1 must not be above tau2"
            )

    @classmethod
    def by_quantiles(cls, costs: Sequence[float], first: float, second: float) -> Self:
        """The share `first` of the blocks is ISB, the share `second` ISB or SB.

        Raises:
            InputError: shares that are not ascending within 0 to 1.
        """
        if not 0.0 <= first <= second <= 1.0:
            raise InputError(
                f"quantiles {first:g} and {second:g}: must ascend, from 0 to 1 (such as 60%,90%)"
            )
        tau1, tau2 = (_threshold(costs, round(share * len(costs))) for share in (first, second))
        return cls(tau1=tau1, tau2=tau2)

    @classmethod
    def by_budget(cls, costs: Sequence[float], budget: float) -> Self:
        """The least sensitive blocks that cost at most `budget` together are ISB; those that
        would exceed it alone are ESB."""
        ordered = np.sort(np.asarray(costs, dtype=float))
        affordable = np.flatnonzero(np.cumsum(ordered) <= budget)
        count = int(affordable[-1]) + 1 if len(affordable) else 0
        # No threshold tells equal blocks apart: all of them, or none.
        while 0 < count < len(ordered) and ordered[count - 1] == ordered[count]:
            count -= 1
        tau1 = _threshold(costs, count)
        return cls(tau1=tau1, tau2=max(tau1, budget))

    def classes(self, costs: Sequence[float]) -> tuple[SensitivityClass, ...]:
        """The class of each block."""
        return tuple(
            "ISB" if cost <= self.tau1 else "SB" if cost <= self.tau2 else "ESB" for cost in costs
        )


def _threshold(costs: Sequence[float], count: int) -> float:
    """A sensitivity that `count` blocks do not exceed, halfway to the next one's."""
    ordered = sorted(costs)
    if count == 0:
        return ordered[0] - abs(ordered[0]) * 1e-6 - 1e-12
    if count == len(ordered):
        return ordered[-1]
    return (ordered[count - 1] + ordered[count]) / 2
