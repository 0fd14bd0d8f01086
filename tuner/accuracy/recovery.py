"""How each dropped block is treated, and what drop sets measured whole teach about the costs.

A sensitivity table has what a block's drop costs as it is (zero-shot) and after recovery steps.
That costs of blocks add up is an assumption. A `Check` is a set measured whole; the costs are
then changed as little as possible so that every checked set has the growth it was measured
with. The change is a least-squares one of two parts, one share common to all blocks (growth
beyond the sum grows with the number of drops) and one of each block and treatment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isotune.simulator.errors import InputError
from isotune.simulator.schedule import ZERO_SHOT, steps_of
from isotune.tuner.accuracy.sensitivity import Check, Sensitivity

Costs = dict[str, tuple[float, ...]]
"""Treatment to the cost of each block."""


@dataclass(frozen=True, kw_only=True)
class Treated:
    """The treatment of each dropped block, and what all cost together."""

    treatments: Mapping[int, str]
    cost: float


def names_of(table: Sensitivity) -> tuple[str, ...]:
    """The treatments that a table tells of, the least effort first."""
    return tuple(sorted((ZERO_SHOT, *table.treatments), key=effort))


def effort(name: str) -> tuple[bool, int]:
    """What a treatment takes: training above all, then the number of steps."""
    steps = steps_of(name)
    return "distil" in steps, len(steps)


def corrected(table: Sensitivity) -> Costs:
    """Costs by treatment, such that each checked set costs what was measured.

    Raises:
        InputError: a check of a block or treatment that the table does not have.
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
    missing = np.array([check.growth for check in table.checks]) - rows @ flat.ravel()
    known = np.hstack([rows, rows.sum(1, keepdims=True)])
    change = np.linalg.lstsq(known, missing, rcond=None)[0]
    fitted = flat + change[:-1].reshape(flat.shape) + change[-1]
    return {name: tuple(map(float, row)) for name, row in zip(names, fitted, strict=True)}


def effective(table: Sensitivity, names: Sequence[str] | None = None) -> Sensitivity:
    """The table that a search uses: each block at its best treatment, checks taken into account.

    `names` limits the treatments.

    Raises:
        InputError: a treatment that the table does not have.
    """
    costs = _allowed(table, names)
    best = tuple(map(min, zip(*costs.values(), strict=True)))
    return Sensitivity(model=table.model, blocks=best, transfer=table.transfer)


def treat(
    table: Sensitivity,
    dropped: Sequence[int],
    budget: float,
    names: Sequence[str] | None = None,
) -> Treated:
    """The treatments of a drop set: as little effort as the budget (a growth) allows.

    Every block begins at its best treatment; what the budget leaves is spent on blocks that can
    do with less, those that lose least by it first.
    """
    costs = _allowed(table, names)
    order = sorted(costs, key=effort)
    chosen = {block: min(order, key=lambda name: costs[name][block]) for block in dropped}
    total = sum(costs[name][block] for block, name in chosen.items())
    loss = {block: costs[order[0]][block] - costs[name][block] for block, name in chosen.items()}
    for block in sorted(dropped, key=lambda block: loss[block]):
        now = costs[chosen[block]][block]
        for name in order[: order.index(chosen[block])]:
            if total - now + costs[name][block] <= budget:
                total += costs[name][block] - now
                chosen[block] = name
                break
    return Treated(treatments=dict(sorted(chosen.items())), cost=total)


def with_check(table: Sensitivity, treatments: Mapping[int, str], growth: float) -> Sensitivity:
    """The table with one more measured set; an earlier measurement of the same set is replaced."""
    new = Check(treatments=dict(treatments), growth=growth)
    kept = tuple(check for check in table.checks if check.treatments != new.treatments)
    return table.model_copy(update={"checks": (*kept, new)})


def by_class(table: Sensitivity) -> Treated | None:
    """The paper's rule: ISB dropped as they are, SB distilled, ESB distilled after head grouping.

    Blocks whose treatment was not measured keep their sync. None without classes.
    """
    if not table.classes:
        return None
    costs = corrected(table)
    wanted = {
        "ISB": (ZERO_SHOT,),
        "SB": ("distil", "bias+distil"),
        "ESB": ("heads+distil", "bias+heads+distil", "bias+heads+neurons+distil"),
    }
    chosen = {}
    for block, kind in enumerate(table.classes):
        name = next((name for name in wanted[kind] if name in costs), None)
        if name is not None:
            chosen[block] = name
    cost = sum(costs[name][block] for block, name in chosen.items())
    return Treated(treatments=chosen, cost=cost)


def _allowed(table: Sensitivity, names: Sequence[str] | None) -> Costs:
    costs = corrected(table)
    unknown = [name for name in names or () if name not in costs]
    if unknown:
        raise InputError(
            f"treatments: {unknown[0]!r:.60} is not in the sensitivity file (allowed: "
            f"{', '.join(sorted(costs, key=effort))})"
        )
    return {name: row for name, row in costs.items() if names is None or name in names}
