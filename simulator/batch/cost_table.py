"""Costs of every role of a program for many splits at once: what the compiled engine reads.

A *split* is one way to split one pass: its requests, tokens and context, and the chunk sizes. Roles
that run the same ops are costed in one call, whatever their number.
"""

from dataclasses import dataclass
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np

from isotune.simulator.architecture import Collective, Op
from isotune.simulator.automaton import BLOCK, DROPPED, SYNCED, Array, Index, Structure
from isotune.simulator.predict import CostModel, Factors, Rows, StepCost, rows_of
from isotune.simulator.schedule import OneGroup, Step, Workload


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits(OneGroup):
    """Requests of one group of ranks, tokens each puts through and holds [splits].

    `sizes` [splits, chunks] are those of the chunks.
    """

    batch: Index
    tokens: Index
    context: Index
    sizes: Index

    @classmethod
    def of(cls, workload: Workload, sizes: Index) -> Self:
        """Splits of one workload by the rows of `sizes`."""
        ones = np.ones(len(sizes), dtype=np.int64)
        return cls(
            batch=workload.share.batch * ones,
            tokens=workload.tokens * ones,
            context=workload.context * ones,
            sizes=sizes,
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def part(self, rows: slice | Index) -> "Splits":
        """Some of the splits."""
        return Splits(
            batch=self.batch[rows],
            tokens=self.tokens[rows],
            context=self.context[rows],
            sizes=self.sizes[rows],
        )


class ComputeCosts:
    """What compute takes in the splits of one scenario, whatever the transfer type and SM budget.

    Each is worked out once, and forgotten with its splits.
    """

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[Splits, dict[tuple[Any, ...], StepCost]] = WeakKeyDictionary()

    def step(
        self, cost_model: CostModel, splits: Splits, key: tuple[Any, ...], rows: Rows
    ) -> StepCost:
        """Cost of compute ops, the last of `key`, on rows [splits, roles] of some roles."""
        known = self._of.setdefault(splits, {})
        if key not in known:
            known[key] = cost_model.step(key[-1], rows)
        return known[key]


@dataclass(frozen=True, eq=False)
class CostTable:
    """Seconds [splits, roles] alone, and slowdowns [splits, 2 * pairs] of pairs that can meet."""

    seconds: Array
    slowdowns: Array

    @classmethod
    def unknown(cls, splits: int, roles: int, pairs: int) -> Self:
        """Nothing is known yet."""
        return cls(np.full((splits, roles), np.nan), np.full((splits, 2 * pairs), np.nan))


@dataclass(frozen=True, kw_only=True, eq=False)
class RoleCosts:
    """Costs of the roles that occur, and how much slower each pair that can meet becomes.

    `alike` are roles by their ops, which share one cost [splits, roles]; `slower` are columns of
    pairs with the slowdowns of compute and communication [splits, columns].
    """

    structure: Structure
    splits: int
    alike: dict[tuple[Op, ...], list[int]]
    costs: dict[tuple[Op, ...], StepCost]
    slower: list[tuple[list[int], Array, Array]]

    def table(self, factors: Factors | None = None) -> CostTable:
        """Seconds and slowdowns; `factors` asks what if ops and contention took more or less.

        Roles that do not occur stay NaN, so that an engine that used them would show it.
        """
        structure = self.structure
        table = CostTable.unknown(self.splits, len(structure.roles), len(structure.pairs))
        for ops, roles in self.alike.items():
            table.seconds[:, roles] = _seconds(self.costs[ops], factors)
        share = factors.contention if factors else 1.0
        for columns, compute, sync in self.slower:
            first = [2 * column for column in columns]
            second = [2 * column + 1 for column in columns]
            table.slowdowns[:, first] = 1.0 + share * (compute - 1.0)
            table.slowdowns[:, second] = 1.0 + share * (sync - 1.0)
        return table


def role_costs(
    cost_model: CostModel,
    structure: Structure,
    splits: Splits,
    kinds: frozenset[int],
    known: ComputeCosts | None = None,
) -> RoleCosts:
    """Costs of the roles that occur where only blocks of the given `kinds` do.

    `known` are costs to use again.
    """
    unused = {SYNCED, DROPPED} - kinds
    used = frozenset().union(
        *(
            roles
            for part, roles in enumerate(structure.roles_of)
            if part < BLOCK or (part - BLOCK) % 2 not in unused
        )
    )
    steps = structure.steps(splits, tuple(np.ascontiguousarray(splits.sizes.T)))
    known = known or ComputeCosts()
    alike: dict[tuple[Op, ...], list[int]] = {}
    for role in sorted(used):
        alike.setdefault(steps[role].ops, []).append(role)
    costs: dict[tuple[Op, ...], StepCost] = {}
    for ops, roles in alike.items():
        rows = _rows([steps[role] for role in roles], len(splits))
        if isinstance(ops[0], Collective):
            costs[ops] = cost_model.step(ops, rows)
        else:
            costs[ops] = known.step(cost_model, splits, (structure.how, tuple(roles), ops), rows)
    place = {role: index for roles in alike.values() for index, role in enumerate(roles)}
    slower: list[tuple[list[int], Array, Array]] = []
    for (ops, sync_ops), columns in _meetings(structure, used).items():
        pairs = [structure.pairs[column] for column in columns]
        compute = _take(costs[ops], [place[role] for role, _ in pairs])
        sync = _take(costs[sync_ops], [place[sync] for _, sync in pairs])
        slower.append((columns, *cost_model.slowdowns(compute, sync)))
    return RoleCosts(
        structure=structure, splits=len(splits), alike=alike, costs=costs, slower=slower
    )


def _meetings(
    structure: Structure, used: frozenset[int]
) -> dict[tuple[tuple[Op, ...], tuple[Op, ...]], list[int]]:
    """The pairs of roles in `used`, those of the same ops together."""
    found: dict[tuple[tuple[Op, ...], tuple[Op, ...]], list[int]] = {}
    for column, (role, sync) in enumerate(structure.pairs):
        if role in used and sync in used:
            key = structure.roles[role][0], structure.roles[sync][0]
            found.setdefault(key, []).append(column)
    return found


def _seconds(cost: StepCost, factors: Factors | None) -> Array:
    if factors is None:
        return cost.seconds
    parts = [factors.of(op) * part.seconds for op, part in cost.parts]
    return np.asarray(sum(parts), dtype=np.float64)


def _take(cost: Any, roles: list[int]) -> Any:
    """A step's cost with the columns of some roles, in every array it holds."""
    if isinstance(cost, np.ndarray):
        return cost[:, roles] if cost.ndim == 2 and cost.shape[1] > 1 else cost
    if isinstance(cost, tuple):
        taken = [_take(field, roles) for field in cost]
        return type(cost)(*taken) if hasattr(cost, "_fields") else tuple(taken)
    return cost


def _rows(steps: list[Step], splits: int) -> Rows:
    """The rows of some steps in every split [splits, steps]."""
    shapes = np.empty((4, splits, len(steps)), dtype=np.int64)
    for column, step in enumerate(steps):
        # Splits of one workload: its requests are alike, so no step has several slices.
        for row, size in enumerate(rows_of(step)[:4]):
            shapes[row, :, column] = size
    return Rows(*shapes)
