"""Latency against perplexity: the Pareto front of plans, with the paper's rule as a point on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import CommDtype, Plan
from isotune.tuner.accuracy import Sensitivity, by_class, effective, treat
from isotune.tuner.exact import Budget, joint_optimum
from isotune.tuner.techniques import latency

PAPER = "ISB/SB/ESB rule"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A plan's latency and its predicted relative growth of perplexity, treatments by block.

    `rule` names the rule that made it, if no search did; `dominated`: another point is neither
    slower nor costlier.
    """

    plan: Plan
    latency_s: float
    growth: float
    treatments: Mapping[int, str]
    rule: str = ""
    dominated: bool = False


def accuracy_front(
    scenario: Scenario,
    table: Sensitivity,
    *,
    comm_dtypes: Sequence[CommDtype] = ("bf16",),
    chunks: int | None = None,
    iso: bool = True,
    names: Sequence[str] | None = None,
    points: int = 8,
) -> tuple[Point, ...]:
    """The fastest plan for each of some budgets, from none to all blocks dropped, ISO included.

    Where ISO hides a sync the joint optimum keeps it, so fewer blocks than the budget could pay
    for may be dropped. The paper's rule, serial as in the paper, comes last where the table has
    classes.
    """
    searched = effective(table, names)
    found: list[Point] = []
    for budget in _budgets(searched, points):
        best = joint_optimum(
            scenario, searched, budget, comm_dtypes=comm_dtypes, chunks=chunks, iso=iso
        )
        if not best.compared:  # nothing fits in memory
            continue
        transfer = searched.transfer.get(best.plan.comm_dtype, 0.0)
        treated = treat(table, best.plan.dropped, budget - transfer, names)
        found.append(
            Point(
                plan=best.plan,
                latency_s=best.latency_s,
                growth=treated.cost + transfer,
                treatments=treated.treatments,
            )
        )
    ruled = by_class(table)
    if ruled is not None:
        plan = Plan(dropped=tuple(sorted(ruled.treatments)))
        found.append(
            Point(
                plan=plan,
                latency_s=latency(scenario, plan),
                growth=ruled.cost,
                treatments=ruled.treatments,
                rule=PAPER,
            )
        )
    return _marked(found)


def _budgets(table: Sensitivity, points: int) -> list[float]:
    """Growths at which one more stretch of blocks becomes affordable."""
    order = Budget(costs=table.blocks, amount=0.0).order
    sums = np.cumsum([0.0, *(table.blocks[block] for block in order)])
    sums = np.maximum.accumulate(np.maximum(sums, 0.0))
    at = np.linspace(0, len(sums) - 1, min(points, len(sums))).round().astype(int)
    return sorted(set(sums[at].tolist()))


def _marked(points: Sequence[Point]) -> tuple[Point, ...]:
    """The front by latency, and the ruled points that are not on it, marked."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.growth, point.latency_s)):
        beaten = any(
            other is not point
            and other.latency_s <= point.latency_s
            and other.growth <= point.growth
            and (other.latency_s, other.growth) != (point.latency_s, point.growth)
            for other in points
        )
        same = any((k.plan, k.growth) == (point.plan, point.growth) for k in kept)
        if (beaten or same) and not point.rule:
            continue
        kept.append(
            Point(
                plan=point.plan,
                latency_s=point.latency_s,
                growth=point.growth,
                treatments=point.treatments,
                rule=point.rule,
                dominated=beaten,
            )
        )
    return tuple(kept)
