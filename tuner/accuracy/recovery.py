"""How each dropped block is recovered, and what measured drop sets teach about the costs.

A sensitivity table has what a block's drop costs as it is (zero-shot) and after recovery steps
(SPD, arXiv 2502.20727). That costs of blocks add up is an assumption. A `Check` is a drop set
whose growth was measured; the costs are then changed as little as possible so that every checked
set has the growth it was measured with. The change is a least-squares one of two parts, one share
common to all blocks (growth beyond the sum grows with the number of drops) and one of each block
and recovery.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from isotune.simulator.errors import InputError
from isotune.simulator.schedule import ZERO_SHOT, Plan, steps_of
from isotune.tuner.accuracy.budget import DropCosts
from isotune.tuner.accuracy.sensitivity import Check, Sensitivity

Costs = dict[str, tuple[float, ...]]
"""The cost of each block by recovery: `zero-shot`, or steps such as `bias+distil`."""


@dataclass(frozen=True, kw_only=True)
class RecoveredDrops:
    """The recovery of each dropped block, and what all cost together (growth of perplexity)."""

    treatments: Mapping[int, str]
    cost: float


def names_of(table: Sensitivity) -> tuple[str, ...]:
    """The recoveries that a table tells of, the least effort first."""
    return tuple(sorted((ZERO_SHOT, *table.treatments), key=effort))


def effort(name: str) -> tuple[bool, int]:
    """What a recovery takes: training above all, then the number of steps."""
    steps = steps_of(name)
    return "distil" in steps, len(steps)


def corrected(table: Sensitivity) -> Costs:
    """Costs by recovery, such that each checked set costs what was measured.

    Raises:
        InputError: a check of a block or recovery that the table does not have.
    """
    costs = {ZERO_SHOT: table.blocks} | table.treatments
    if not table.checks:
        return costs
    names = list(costs)
    flat = np.array([costs[name] for name in names])
    rows = np.zeros((len(table.checks), flat.size))
    for row, check in zip(rows, table.checks, strict=True):
        for block, name in check.treatments.items():
            if name not in costs or not 0 <= block < len(table.blocks):
                raise InputError(
                    f"sensitivity: checks: block {block} as {name!r:.60} is not in the table "
                    f"(allowed: blocks 0 to {len(table.blocks) - 1}, {', '.join(names)})"
                )
            row[names.index(name) * len(table.blocks) + block] = 1.0
    difference = np.array([check.growth for check in table.checks]) - rows @ flat.ravel()
    known = np.hstack([rows, rows.sum(1, keepdims=True)])
    change = np.linalg.lstsq(known, difference, rcond=None)[0]
    fitted = flat + change[:-1].reshape(flat.shape) + change[-1]
    return {name: tuple(map(float, row)) for name, row in zip(names, fitted, strict=True)}


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """A sensitivity table as a search uses it: `names` limits the recoveries.

    Raises:
        InputError: a recovery that the table does not have.
    """

    table: Sensitivity
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _ = self.by_name

    @cached_property
    def by_name(self) -> Costs:
        """The costs of the allowed recoveries, checks taken into account."""
        costs = corrected(self.table)
        unknown = [name for name in self.names or () if name not in costs]
        if unknown:
            raise InputError(
                f"treatments: {unknown[0]!r:.60} is not in the sensitivity file (allowed: "
                f"{', '.join(sorted(costs, key=effort))})"
            )
        return {
            name: row for name, row in costs.items() if self.names is None or name in self.names
        }

    @cached_property
    def costs(self) -> DropCosts:
        """What a search goes by: each block at its best recovery."""
        best = tuple(map(min, zip(*self.by_name.values(), strict=True)))
        return DropCosts(blocks=best, transfer=self.table.transfer)

    @property
    def searched(self) -> Sensitivity:
        """The costs that a search goes by, as a table of their own."""
        costs = self.costs
        return Sensitivity(
            model=self.table.model, blocks=costs.blocks, transfer=dict(costs.transfer)
        )

    def of(self, plan: Plan, budget: float) -> RecoveredDrops:
        """The recoveries of a plan's drop set: as little effort as the budget allows.

        Every block begins at its best recovery; what the plan's transfer and those leave of the
        budget is spent on blocks that can do with less, those that lose least by it first.
        """
        left = self.costs.left(budget, plan.comm_dtype)
        costs, dropped = self.by_name, plan.dropped
        order = sorted(costs, key=effort)
        chosen = {block: min(order, key=lambda name: costs[name][block]) for block in dropped}
        total = sum(costs[name][block] for block, name in chosen.items())
        loss = {b: costs[order[0]][b] - costs[name][b] for b, name in chosen.items()}
        for block in sorted(dropped, key=lambda block: loss[block]):
            now = costs[chosen[block]][block]
            for name in order[: order.index(chosen[block])]:
                if total - now + costs[name][block] <= left:
                    total += costs[name][block] - now
                    chosen[block] = name
                    break
        return RecoveredDrops(treatments=dict(sorted(chosen.items())), cost=total)


def with_check(table: Sensitivity, treatments: Mapping[int, str], growth: float) -> Sensitivity:
    """The table with one more measured set; an earlier measurement of the same set is replaced."""
    new = Check(treatments=dict(treatments), growth=growth)
    kept = tuple(check for check in table.checks if check.treatments != new.treatments)
    return table.model_copy(update={"checks": (*kept, new)})


def by_class(table: Sensitivity) -> RecoveredDrops | None:
    """The paper's rule: ISB dropped as they are, SB distilled, ESB distilled after head grouping.

    Blocks whose recovery was not measured keep their sync. None without classes.
    """
    if not table.classes:
        return None
    costs = corrected(table)
    recoveries = {
        "ISB": (ZERO_SHOT,),
        "SB": ("distil", "bias+distil"),
        "ESB": ("heads+distil", "bias+heads+distil", "bias+heads+neurons+distil"),
    }
    chosen = {}
    for block, kind in enumerate(table.classes):
        name = next((name for name in recoveries[kind] if name in costs), None)
        if name is not None:
            chosen[block] = name
    cost = sum(costs[name][block] for block, name in chosen.items())
    return RecoveredDrops(treatments=chosen, cost=cost)
