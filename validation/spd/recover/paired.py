"""Whether one loss is below another of the same windows by more than noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Change:
    """The mean change of a loss over windows, and its standard error (0 of a single window).

    The windows are paired: what makes one of them hard is in both losses and cancels.
    """

    mean: float
    error: float

    @classmethod
    def of(cls, before: Sequence[float], after: Sequence[float], tokens: int) -> Self:
        """From the nats of each window, over `tokens` in all, per token.

        Raises:
            ValueError: not the same number of windows.
        """
        count = len(before)
        each = [(new - old) * count / tokens for old, new in zip(before, after, strict=True)]
        error = stdev(each) / math.sqrt(count) if count > 1 else 0.0
        return cls(mean=fmean(each), error=error)

    @property
    def lower(self) -> bool:
        """Whether the loss fell by more than one standard error."""
        return -self.mean > self.error
