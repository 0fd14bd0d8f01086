"""The best plan of many prompt lengths at once: serial, two chunks, or three.

Lengths that share a batch share its fixed cost. Two chunks are compared exhaustively: every split
at tile granularity with every SM budget. So are three where a prompt has few tiles; longer ones
are compared on a coarser grid, under the budget that is best for two chunks, and the best split is
then improved by moving its split points by ever fewer tiles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from isotune.simulator.batch import SPLITS_AT_ONCE, Array, Batch, Index, Splits, Timer
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Plan, granularity
from isotune.tuner.exact.enumeration import split_sizes

_GRID = 32
"""Split points of a prompt up to which all pairs of them are compared."""
_MOVES = [move for move in product((-1, 0, 1), repeat=2) if any(move)]
_Budgets = Sequence[int | None]


@dataclass(frozen=True, kw_only=True)
class Solved:
    """Serial baseline and optimum of a length in seconds, and the optimum's plan."""

    serial: float
    optimum: float
    plan: Plan


@dataclass(kw_only=True)
class _Best:
    """The best split of each length so far."""

    seconds: Array
    sizes: list[tuple[int, ...]]
    sms: list[int | None]

    @classmethod
    def none(cls, lengths: int) -> "_Best":
        return cls(seconds=np.full(lengths, np.inf), sizes=[()] * lengths, sms=[None] * lengths)

    def take(self, owner: Index, sizes: Index, seconds: Array, sms: int | None) -> None:
        """Keep what is faster; `owner` [splits] is the index of each split's length."""
        for row in _first_of_each(owner, seconds):
            length = int(owner[row])
            if seconds[row] < self.seconds[length]:
                self.seconds[length] = seconds[row]
                self.sizes[length], self.sms[length] = tuple(sizes[row].tolist()), sms


def _first_of_each(owner: Index, seconds: Array) -> Index:
    order = np.lexsort((seconds, owner))
    return order[np.append(True, np.diff(owner[order]) != 0)] if len(order) else order


def solve(scenario: Scenario, lengths: Sequence[int], plain: Plan) -> list[Solved]:
    """The best plan at each length; `plain` gives transfer type and drop set."""
    return _Solver(scenario, lengths, plain).solved()


class _Solver:
    """The best overlapped split of each length so far, and what makes it better."""

    def __init__(self, scenario: Scenario, lengths: Sequence[int], plain: Plan) -> None:
        self.scenario, self.lengths, self.plain = scenario, lengths, plain
        self.best = _Best.none(len(lengths))
        self._timer = Timer(scenario)

    def solved(self) -> list[Solved]:
        none = np.empty((len(self.lengths), 0), dtype=np.int64)
        serial, same = (
            times(self.scenario, plan, self.lengths, none).tolist() for plan in (Plan(), self.plain)
        )
        work = self.scenario.workload
        if work.phase == "prefill" and work.parallelism.communicates:
            self._two()
            self._three()
        baselines = zip(serial, same, strict=True)
        return [self._solved(index, *seconds) for index, seconds in enumerate(baselines)]

    def _solved(self, index: int, serial: float, plain: float) -> Solved:
        best = self.best
        if best.seconds[index] >= plain:
            return Solved(serial=serial, optimum=plain, plan=self.plain)
        fields = {"strategy": "iso", "chunks": best.sizes[index], "comm_sms": best.sms[index]}
        plan = self.plain.model_copy(update=fields)
        return Solved(serial=serial, optimum=float(best.seconds[index]), plan=plan)

    def _two(self) -> None:
        splits = [split_sizes(length) for length in self.lengths]
        self._compare(self.best, splits, self.scenario.sm_budgets)

    def _three(self) -> None:
        grids = [_points(length) for length in self.lengths]
        splits = [_splits(length, grid) for length, grid in zip(self.lengths, grids, strict=True)]
        three = _Best.none(len(self.lengths))
        every = [len(grid) == _all_points(n) for n, grid in zip(self.lengths, grids, strict=True)]
        self._compare(three, _where(every, splits), self.scenario.sm_budgets)
        coarse = _where([not all_points for all_points in every], splits)
        self._compare_under(self.best.sms, three, coarse)
        self._improve(three, [0 if e else _spacing(g) for e, g in zip(every, grids, strict=True)])
        better = three.seconds < self.best.seconds
        for index in np.flatnonzero(better).tolist():
            self.best.seconds[index] = three.seconds[index]
            self.best.sizes[index], self.best.sms[index] = three.sizes[index], three.sms[index]

    def _improve(self, best: _Best, steps: list[int]) -> None:
        """Move split points by `steps` tokens, and by half of that, down to one tile."""
        while any(steps):
            moved = [_moved(sizes, step) for sizes, step in zip(best.sizes, steps, strict=True)]
            self._compare_under(best.sms, best, moved)
            grains = map(granularity, self.lengths)
            steps = [step // 2 // grain * grain for step, grain in zip(steps, grains, strict=True)]
        last = [np.array([sizes], dtype=np.int64).reshape(-1, 3) for sizes in best.sizes]
        self._compare(best, last, self.scenario.sm_budgets)

    def _compare_under(self, budgets: _Budgets, best: _Best, splits: Sequence[Index]) -> None:
        """Time the splits of each length under its own budget, and keep the best."""
        for sms in dict.fromkeys(budgets):
            own = [budget == sms for budget in budgets]
            self._compare(best, _where(own, splits), (sms,))

    def _compare(self, best: _Best, splits: Sequence[Index], budgets: _Budgets) -> None:
        """Time the splits of each length under each budget, and keep the best."""
        owner = np.repeat(np.arange(len(splits)), [len(sizes) for sizes in splits])
        sizes = np.concatenate(list(splits))
        lengths = np.array(self.lengths)[owner]
        plan = self.plain.model_copy(update={"strategy": "iso"})
        for first in range(0, len(sizes), SPLITS_AT_ONCE):
            rows = slice(first, first + SPLITS_AT_ONCE)
            some = splits_of(self.scenario, lengths[rows], sizes[rows])
            for sms in budgets:
                under = plan.model_copy(update={"comm_sms": sms})
                seconds = self._timer.run(Batch(scenario=self.scenario, plan=under, splits=some))
                best.take(owner[rows], sizes[rows], seconds, sms)


def _where(kept: Sequence[bool], splits: Sequence[Index]) -> list[Index]:
    """The splits of the lengths that are kept, and none of the others."""
    return [sizes if keep else sizes[:0] for keep, sizes in zip(kept, splits, strict=True)]


def splits_of(scenario: Scenario, lengths: Sequence[int] | Index, sizes: Index) -> Splits:
    """Splits of prompts of these lengths [splits] by the rows of `sizes`."""
    tokens = np.asarray(lengths, dtype=np.int64)
    ones = np.ones_like(tokens)
    decode = scenario.workload.phase == "decode"
    return Splits(
        batch=scenario.workload.share.batch * ones,
        tokens=ones if decode else tokens,
        context=tokens if decode else 0 * ones,
        sizes=sizes,
    )


def times(scenario: Scenario, plan: Plan, lengths: Sequence[int] | Index, sizes: Index) -> Array:
    """Seconds of `plan` at each length, split by the rows of `sizes`."""
    splits = splits_of(scenario, lengths, sizes)
    return Timer(scenario).run(Batch(scenario=scenario, plan=plan, splits=splits))


def _all_points(length: int) -> int:
    return (length - 1) // granularity(length)


def _points(length: int) -> Index:
    """Split points of a prompt, `_GRID` of them at most."""
    grain, count = granularity(length), _all_points(length)
    if count > _GRID:
        return grain * np.unique(np.linspace(1, count, _GRID).round().astype(np.int64))
    return grain * np.arange(1, count + 1, dtype=np.int64)


def _spacing(points: Index) -> int:
    return int(np.diff(points).max()) if len(points) > 1 else 0


def _splits(length: int, points: Index) -> Index:
    """All splits into three at two of the points."""
    first, second = points[np.array(np.triu_indices(len(points), 1))]
    return np.stack([first, second - first, length - second], axis=1)


def _moved(sizes: tuple[int, ...], step: int) -> Index:
    """The three chunks with their split points moved by a step, those that are splits."""
    if not step or not sizes:
        return np.empty((0, 3), dtype=np.int64)
    first, second, last = sizes
    rows = [(first + a * step, second + (b - a) * step, last - b * step) for a, b in _MOVES]
    moved = np.array(rows, dtype=np.int64)
    return moved[(moved > 0).all(axis=1)]
