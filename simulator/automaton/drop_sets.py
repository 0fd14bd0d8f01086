"""Drop sets of many plans, one bit per block, written once per period where they repeat."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from isotune.simulator.automaton.walk import DROPPED, SYNCED, Index

_WORD = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class DropSets:
    """Block b of plan i drops its attention all-reduce if `masks[i]` has bit b mod `periods[i]`.

    `masks` is [plans, words] of 64 bits, `periods` [plans]; one row stands for all plans.
    """

    masks: Index
    periods: Index

    @classmethod
    def of(cls, dropped: npt.NDArray[np.bool_]) -> Self:
        """Drop sets from `dropped` [plans, blocks of one period]."""
        plans, blocks = dropped.shape
        padded = np.zeros((plans, -(-blocks // _WORD) * _WORD), dtype=np.bool_)
        padded[:, :blocks] = dropped
        masks = np.packbits(padded, axis=1, bitorder="little").view("<i8")
        return cls(
            masks=np.ascontiguousarray(masks, dtype=np.int64),
            periods=np.full(plans, blocks, dtype=np.int64),
        )

    @classmethod
    def named(cls, drop_sets: Sequence[tuple[int, ...]], blocks: int) -> Self:
        """Drop sets from the numbers of the dropped blocks, one tuple per plan."""
        masks = np.zeros((len(drop_sets), -(-blocks // _WORD)), dtype=np.uint64)
        periods = np.full(len(drop_sets), blocks, dtype=np.int64)
        for plan, dropped in enumerate(drop_sets):
            if not dropped or len(dropped) == blocks:
                periods[plan], masks[plan, 0] = 1, bool(dropped)
                continue
            bits = sum(1 << block for block in dropped)
            for word in range(masks.shape[1]):
                masks[plan, word] = (bits >> (_WORD * word)) & (2**_WORD - 1)
        return cls(masks=masks.view(np.int64), periods=periods)

    @classmethod
    def repeated(cls, dropped: tuple[int, ...], blocks: int) -> Self:
        """One drop set for all plans."""
        return cls.named([dropped], blocks)

    def of_plan(self, plan: int, blocks: int) -> tuple[int, ...]:
        """The dropped ones of a plan's blocks."""
        row = plan if len(self.periods) > 1 else 0
        period, words = int(self.periods[row]), self.masks[row].tolist()
        places = ((block, block % period) for block in range(blocks))
        return tuple(b for b, place in places if words[place // _WORD] >> (place % _WORD) & 1)

    def part(self, plans: slice) -> "DropSets":
        """The drop sets of some plans."""
        if len(self.periods) == 1:
            return self
        return DropSets(masks=self.masks[plans], periods=self.periods[plans])

    def kinds(self) -> frozenset[int]:
        """Kinds of blocks that may occur."""
        some = self.masks.any()
        every = self.periods.max() == 1 and bool(self.masks.all())
        return frozenset(({DROPPED} if some else set()) | (set() if every else {SYNCED}))
