"""The door to seconds: how long plans of one scenario take.

`predict` explains a plan; a `Timer` only times it, some hundred times faster. Kernels whose shapes
occurred before cost nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from isotune.simulator.automaton import (
    DROPPED,
    SYNCED,
    Array,
    Automaton,
    DropSets,
    Index,
    Structure,
    compiled,
    structure,
)
from isotune.simulator.batch.cost_table import ComputeCosts, CostTable, Splits, role_costs
from isotune.simulator.batch.many_plans import Batch, cost_table_of, run, run_with
from isotune.simulator.predict import CostModel, Factors, Scenario
from isotune.simulator.schedule import STRATEGIES, TILE, CommDtype, Plan, check_plan

_NEIGHBOURS = 128
"""Two-chunk splits costed on either side of a new one: one call costs many as fast as one."""
_REMEMBERED = 50_000


class _Key(NamedTuple):
    """What a plan's costs depend on."""

    strategy: str
    chunks: tuple[int, ...]
    comm_dtype: CommDtype
    comm_sms: int | None
    drops: bool


class _Known(NamedTuple):
    """A split with its costs [1, roles] and [1, 2 * pairs]."""

    structure: Structure
    seconds: Array
    slowdowns: Array
    automaton: Automaton


class Timer:
    """Times plans of one scenario.

    Equal to `predict(scenario, plan).latency_s`, without its check that the plan fits in memory.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._known: dict[_Key, _Known] = {}
        self._compute, self._walk = ComputeCosts(), compiled().walk
        self._first, self._one = np.zeros(1, dtype=np.int64), np.empty(1)

    def latency(self, plan: Plan) -> float:
        """Seconds of one plan.

        Raises:
            InputError: the plan does not suit the scenario.
        """
        scenario = self.scenario
        check_plan(plan, scenario.model, scenario.workload)
        key = _Key(plan.strategy, plan.chunks, plan.comm_dtype, plan.comm_sms, bool(plan.dropped))
        known = self._known.get(key) or self._add(key)
        if known is None:
            return float(self.seconds([plan])[0])
        drops = DropSets.repeated(plan.dropped, scenario.model.num_hidden_layers)
        self._walk(
            known.structure.layout,
            known.seconds,
            known.slowdowns,
            scenario.hardware.runtime.event_wait,
            self._first,
            drops.masks,
            drops.periods,
            self._first,
            known.automaton,
            self._one,
        )
        return float(self._one[0])

    def seconds(self, plans: Sequence[Plan]) -> Array:
        """Seconds of each plan [plans]; plans of one shape are timed together.

        Raises:
            InputError: a plan does not suit the scenario.
        """
        alike: dict[tuple[str, int, CommDtype, int | None], list[int]] = {}
        for index, plan in enumerate(plans):
            check_plan(plan, self.scenario.model, self.scenario.workload)
            shape = plan.strategy, len(plan.chunks), plan.comm_dtype, plan.comm_sms
            alike.setdefault(shape, []).append(index)
        seconds = np.empty(len(plans))
        known: dict[tuple[tuple[int, ...], ...], Splits] = {}  # SM budgets share their compute
        for members in alike.values():
            seconds[members] = self._together([plans[index] for index in members], known)
        return seconds

    def compiles(self, plan: Plan) -> bool:
        """Whether the compiled engine runs plans of this shape; else each takes a timeline."""
        scenario = self.scenario
        ranks = scenario.workload.parallelism
        found = structure(scenario.model, ranks, plan.strategy, len(plan.chunks))
        return found is not None

    def run(self, batch: Batch) -> Array:
        """Seconds [plans] of a batch of this scenario."""
        return run(batch, self._compute)

    def run_with(self, batch: Batch, factors: Sequence[Factors | None]) -> Array:
        """Seconds [factors, plans] of a plan per split, if ops and contention took more or less."""
        return run_with(batch, factors, self._compute)

    def costs(self, batch: Batch) -> tuple[Structure, CostTable] | None:
        """The structure of a batch's programs, and the costs of its splits for any drop set.

        None where only the reference timeline runs them.
        """
        return cost_table_of(batch, self._compute)

    def _together(
        self, plans: list[Plan], known: dict[tuple[tuple[int, ...], ...], Splits]
    ) -> Array:
        blocks = self.scenario.model.num_hidden_layers
        splits = tuple(dict.fromkeys(plan.chunks for plan in plans))
        place = {chunks: index for index, chunks in enumerate(splits)}
        if splits not in known:
            sizes = np.array(splits, dtype=np.int64).reshape(len(splits), -1)
            known[splits] = Splits.of(self.scenario.workload, sizes)
        return self.run(
            Batch(
                scenario=self.scenario,
                plan=plans[0],
                splits=known[splits],
                split_of=np.array([place[plan.chunks] for plan in plans]),
                drops=DropSets.named([plan.dropped for plan in plans], blocks),
            )
        )

    def _add(self, key: _Key) -> _Known | None:
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        scenario = self.scenario
        sizes = _neighbours(key)
        repeating = structure(
            scenario.model, scenario.workload.parallelism, key.strategy, sizes.shape[1]
        )
        if repeating is None:
            return None
        beside = STRATEGIES[key.strategy].beside(len(key.chunks))
        cost_model = CostModel(scenario, key.comm_dtype, key.comm_sms, in_line=not beside)
        kinds = frozenset({SYNCED, DROPPED} if key.drops else {SYNCED})
        table = role_costs(
            cost_model, repeating, Splits.of(scenario.workload, sizes), kinds
        ).table()
        automaton = Automaton.empty(repeating.layout)
        for row, chunks in enumerate(sizes.tolist()):
            here = slice(row, row + 1)
            self._known[key._replace(chunks=tuple(chunks))] = _Known(
                repeating, table.seconds[here], table.slowdowns[here], automaton
            )
        return self._known[key]


def _neighbours(key: _Key) -> Index:
    """The split and, if it has two chunks of a prompt, those around it on the same grid."""
    if not STRATEGIES[key.strategy].enumerable or len(key.chunks) != 2:
        return np.array([key.chunks], dtype=np.int64)
    first, total = key.chunks[0], sum(key.chunks)
    step = 1 if first % TILE else TILE
    low = first - step * min(_NEIGHBOURS, (first - 1) // step)
    firsts = np.arange(low, min(total, first + step * _NEIGHBOURS + 1), step, dtype=np.int64)
    return np.stack([firsts, total - firsts], axis=1)
