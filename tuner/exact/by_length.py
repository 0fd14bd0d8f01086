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
        """Keep what is faster; `owner` [splits] says whose split a row of `sizes` is."""
        for row in _first_of_each(owner, seconds):
            whose = int(owner[row])
            if seconds[row] < self.seconds[whose]:
                self.seconds[whose] = seconds[row]
                self.sizes[whose], self.sms[whose] = tuple(sizes[row].tolist()), sms


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
        if self.scenario.workload.phase == "prefill" and self.scenario.workload.tp > 1:
            self._two()
            self._three()
        found: list[Solved] = []
        for index, seconds in enumerate(serial):
            optimum, plan = self._fastest(index, same[index])
            found.append(Solved(serial=seconds, optimum=optimum, plan=plan))
        return found

    def _fastest(self, index: int, serial: float) -> tuple[float, Plan]:
        best = self.best
        if best.seconds[index] >= serial:
            return serial, self.plain
        parts = {"strategy": "iso", "chunks": best.sizes[index], "comm_sms": best.sms[index]}
        return float(best.seconds[index]), self.plain.model_copy(update=parts)

    def _two(self) -> None:
        splits = [split_sizes(length) for length in self.lengths]
        self._compare(self.best, splits, self.scenario.sm_budgets)

    def _three(self) -> None:
        grids = [_points(length) for length in self.lengths]
        splits = [_splits(length, grid) for length, grid in zip(self.lengths, grids, strict=True)]
        found = _Best.none(len(self.lengths))
        whole = [len(grid) == _all_points(n) for n, grid in zip(self.lengths, grids, strict=True)]
        few = [
            part if all_of_it else part[:0] for part, all_of_it in zip(splits, whole, strict=True)
        ]
        self._compare(found, few, self.scenario.sm_budgets)
        for sms in dict.fromkeys(self.best.sms):
            here = [
                part if budget == sms and not all_of_it else part[:0]
                for part, budget, all_of_it in zip(splits, self.best.sms, whole, strict=True)
            ]
            self._compare(found, here, (sms,))
        self._improve(found, [0 if w else _spacing(g) for w, g in zip(whole, grids, strict=True)])
        better = found.seconds < self.best.seconds
        for index in np.flatnonzero(better).tolist():
            self.best.seconds[index] = found.seconds[index]
            self.best.sizes[index], self.best.sms[index] = found.sizes[index], found.sms[index]

    def _improve(self, found: _Best, steps: list[int]) -> None:
        """Move split points by `steps` tokens, and by half of that, down to one tile."""
        while any(steps):
            moved = [_moved(sizes, step) for sizes, step in zip(found.sizes, steps, strict=True)]
            for sms in dict.fromkeys(found.sms):
                here = [
                    part if budget == sms else part[:0]
                    for part, budget in zip(moved, found.sms, strict=True)
                ]
                self._compare(found, here, (sms,))
            grains = map(granularity, self.lengths)
            steps = [step // 2 // grain * grain for step, grain in zip(steps, grains, strict=True)]
        last = [np.array([sizes], dtype=np.int64).reshape(-1, 3) for sizes in found.sizes]
        self._compare(found, last, self.scenario.sm_budgets)

    def _compare(self, best: _Best, splits: Sequence[Index], budgets: _Budgets) -> None:
        """Time the splits of each length under each budget, and keep the best."""
        owner = np.repeat(np.arange(len(splits)), [len(part) for part in splits])
        sizes = np.concatenate(list(splits))
        lengths = np.array(self.lengths)[owner]
        plan = self.plain.model_copy(update={"strategy": "iso"})
        for first in range(0, len(sizes), SPLITS_AT_ONCE):
            part = slice(first, first + SPLITS_AT_ONCE)
            here = splits_of(self.scenario, lengths[part], sizes[part])
            for sms in budgets:
                asked = plan.model_copy(update={"comm_sms": sms})
                seconds = self._timer.run(Batch(scenario=self.scenario, plan=asked, splits=here))
                best.take(owner[part], sizes[part], seconds, sms)


def splits_of(scenario: Scenario, lengths: Sequence[int] | Index, sizes: Index) -> Splits:
    """Splits of prompts of these lengths [splits] by the rows of `sizes`."""
    here = np.asarray(lengths, dtype=np.int64)
    ones = np.ones_like(here)
    decode = scenario.workload.phase == "decode"
    return Splits(
        batch=scenario.workload.batch * ones,
        tokens=ones if decode else here,
        context=here if decode else 0 * ones,
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
    one, other = np.triu_indices(len(points), 1)
    first, second = points[one], points[other]
    return np.stack([first, second - first, length - second], axis=1)


def _moved(sizes: tuple[int, ...], step: int) -> Index:
    """The three chunks with their split points moved by a step, those that are splits."""
    if not step or not sizes:
        return np.empty((0, 3), dtype=np.int64)
    first, second, last = sizes
    rows = [(first + a * step, second + (b - a) * step, last - b * step) for a, b in _MOVES]
    moved = np.array(rows, dtype=np.int64)
    return moved[(moved > 0).all(axis=1)]
