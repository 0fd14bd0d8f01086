"""Prices of every role of a program for many cuts at once: what the compiled engine reads.

A *cut* is one way to cut one pass: its requests, tokens and context, and the chunk sizes. Roles
that run the same ops are priced in one call, whatever their number.
"""

from dataclasses import dataclass
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np

from isotune.simulator.architecture import Collective, Op
from isotune.simulator.automaton import DROPPED, SYNCED, Array, Index, Structure
from isotune.simulator.predict import Factors, Pricer, Rows, StepCost, rows_of
from isotune.simulator.schedule import Step, Workload


@dataclass(frozen=True, kw_only=True, eq=False)
class Cuts:
    """Requests, tokens each puts through, and tokens each holds [cuts]; `sizes` [cuts, chunks]."""

    batch: Index
    tokens: Index
    context: Index
    sizes: Index

    @classmethod
    def of(cls, workload: Workload, sizes: Index) -> Self:
        """Cuts of one workload by the rows of `sizes`."""
        ones = np.ones(len(sizes), dtype=np.int64)
        return cls(
            batch=workload.batch * ones,
            tokens=workload.tokens * ones,
            context=workload.context * ones,
            sizes=sizes,
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def part(self, rows: slice) -> "Cuts":
        """Some of the cuts."""
        return Cuts(
            batch=self.batch[rows],
            tokens=self.tokens[rows],
            context=self.context[rows],
            sizes=self.sizes[rows],
        )


class ComputeCosts:
    """What compute takes in the splits of one scenario, whatever the transfer type and SM budget.

    Each is priced once, and forgotten with its splits.
    """

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[Cuts, dict[tuple[Any, ...], StepCost]] = WeakKeyDictionary()

    def step(self, pricer: Pricer, cuts: Cuts, key: tuple[Any, ...], rows: Rows) -> StepCost:
        """Cost of compute ops, the last of `key`, on rows [cuts, roles] of some roles."""
        known = self._of.setdefault(cuts, {})
        if key not in known:
            known[key] = pricer.step(key[-1], rows)
        return known[key]


@dataclass(frozen=True, eq=False)
class Prices:
    """Seconds [cuts, roles] alone, and slowdowns [cuts, 2 * pairs] of the pairs that can meet."""

    seconds: Array
    slowdowns: Array

    @classmethod
    def unknown(cls, cuts: int, roles: int, pairs: int) -> Self:
        """Nothing is priced yet."""
        return cls(np.full((cuts, roles), np.nan), np.full((cuts, 2 * pairs), np.nan))


def price(
    pricer: Pricer,
    structure: Structure,
    cuts: Cuts,
    kinds: frozenset[int],
    factors: Factors | None = None,
    known: ComputeCosts | None = None,
) -> Prices:
    """Costs of the roles that occur where only blocks of the given `kinds` do.

    `factors` asks what if ops and contention took more or less; `known` are costs to use again.
    Roles of the other kind stay NaN, so that an engine that used them would show it.
    """
    unused = {SYNCED, DROPPED} - kinds
    used = frozenset().union(
        *(roles for part, roles in enumerate(structure.roles_of) if part not in unused)
    )
    steps = structure.steps(cuts, cuts.sizes)
    known = known or ComputeCosts()
    alike: dict[tuple[Op, ...], list[int]] = {}
    for role in sorted(used):
        alike.setdefault(steps[role].ops, []).append(role)
    prices = Prices.unknown(len(cuts), len(steps), len(structure.pairs))
    costs: dict[tuple[Op, ...], StepCost] = {}
    for ops, roles in alike.items():
        rows = _rows([steps[role] for role in roles], len(cuts))
        if isinstance(ops[0], Collective):
            costs[ops] = pricer.step(ops, rows)
        else:
            costs[ops] = known.step(pricer, cuts, (structure.how, tuple(roles), ops), rows)
        prices.seconds[:, roles] = _seconds(costs[ops], factors)
    place = {role: index for roles in alike.values() for index, role in enumerate(roles)}
    share = factors.contention if factors else 1.0
    for (ops, sync_ops), columns in _meetings(structure, used).items():
        pairs = [structure.pairs[column] for column in columns]
        compute = _take(costs[ops], [place[role] for role, _ in pairs])
        sync = _take(costs[sync_ops], [place[sync] for _, sync in pairs])
        slower, slower_sync = pricer.slowdowns(compute, sync)
        prices.slowdowns[:, [2 * column for column in columns]] = 1.0 + share * (slower - 1.0)
        prices.slowdowns[:, [2 * column + 1 for column in columns]] = 1.0 + share * (
            slower_sync - 1.0
        )
    return prices


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
    """A step's price with the columns of some roles, in every array it holds."""
    if isinstance(cost, np.ndarray):
        return cost[:, roles] if cost.ndim == 2 and cost.shape[1] > 1 else cost
    if isinstance(cost, tuple):
        taken = [_take(field, roles) for field in cost]
        return type(cost)(*taken) if hasattr(cost, "_fields") else tuple(taken)
    return cost


def _rows(steps: list[Step], cuts: int) -> Rows:
    """The rows of some steps in every split [cuts, steps]."""
    shapes = zip(*map(rows_of, steps), strict=True)
    return Rows(
        *(np.stack([np.broadcast_to(size, cuts) for size in sizes], axis=-1) for sizes in shapes)
    )
