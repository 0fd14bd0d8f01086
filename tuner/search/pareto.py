"""Latency against perplexity: the Pareto front of plans, with the paper's rule as a point on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import CommDtype, Plan
from isotune.tuner.accuracy import Recovery, by_class
from isotune.tuner.exact import joint_optimum, undominated
from isotune.tuner.techniques import latency

PAPER = "ISB/SB/ESB rule"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A plan's latency and its predicted relative growth of perplexity, recoveries by block.

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
    recovery: Recovery,
    *,
    comm_dtypes: Sequence[CommDtype] = ("bf16",),
    chunks: int | None = None,
    iso: bool = True,
    most: int = 8,
) -> tuple[Point, ...]:
    """The fastest plan for each of at most `most` budgets, from none to all blocks dropped.

    Where ISO hides a sync the joint optimum keeps it, so fewer blocks than the budget could pay
    for may be dropped. The paper's rule, serial as in the paper, comes last where the table has
    classes.
    """
    costs = recovery.costs
    points: list[Point] = []
    for budget in costs.steps(most):
        best = joint_optimum(
            scenario, costs, budget, comm_dtypes=comm_dtypes, chunks=chunks, iso=iso
        )
        if not best.compared:  # nothing fits in memory
            continue
        drops = recovery.of(best.plan, budget)
        points.append(
            Point(
                plan=best.plan,
                latency_s=best.latency_s,
                growth=drops.cost + costs.of_transfer(best.plan.comm_dtype),
                treatments=drops.treatments,
            )
        )
    ruled = by_class(recovery.table)
    if ruled is not None:
        plan = Plan(dropped=tuple(sorted(ruled.treatments)))
        points.append(
            Point(
                plan=plan,
                latency_s=latency(scenario, plan),
                growth=ruled.cost,
                treatments=ruled.treatments,
                rule=PAPER,
            )
        )
    return _marked(points)


def _marked(points: Sequence[Point]) -> tuple[Point, ...]:
    """The front by growth, and the ruled points that are not on it, marked."""
    if not points:
        return ()
    times, growths = (np.array(column) for column in zip(*map(_values, points), strict=True))
    front = {_values(points[index]) for index in undominated(times, growths)}
    shown: dict[tuple[Plan, float, str], Point] = {}
    for point in sorted(points, key=lambda point: (point.growth, point.latency_s)):
        dominated = _values(point) not in front
        if point.rule or not dominated:
            key = point.plan, point.growth, point.rule
            shown.setdefault(key, replace(point, dominated=dominated))
    return tuple(shown.values())


def _values(point: Point) -> tuple[float, float]:
    return point.latency_s, point.growth
