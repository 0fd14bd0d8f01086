"""Latencies of plans whose blocks come in groups, each group cut in its own way.

Such plans share little with each other, so each is read off its own expansion, condensed to two
blocks per group; all steps of all plans are priced together, and the compiled engine then runs
every plan block by block.
"""

from collections.abc import Sequence

import numpy as np

from simulator.costs import Pricer
from simulator.engine import Array, follow
from simulator.layout import GroupedStructure, grouped_structure
from simulator.plan import CommDtype, Plan
from simulator.prices import price_steps
from simulator.program import Step
from simulator.scenario import Scenario
from simulator.uncertainty import Factors


def grouped_latencies(
    scenario: Scenario, plans: Sequence[Plan], factors: Factors | None = None
) -> Array:
    """Seconds of each plan [plans]; `factors` as in `simulator.batch.Batch`."""
    seconds = np.empty(len(plans))
    alike: dict[tuple[CommDtype, int | None], list[int]] = {}
    for index, plan in enumerate(plans):
        alike.setdefault((plan.comm_dtype, plan.comm_sms), []).append(index)
    for collective, members in alike.items():
        pricer = Pricer(scenario, *collective)
        seconds[members] = _together(pricer, [plans[index] for index in members], factors)
    return seconds


def _together(pricer: Pricer, plans: Sequence[Plan], factors: Factors | None) -> list[float]:
    scenario = pricer.scenario
    found = [grouped_structure(scenario.model, scenario.workload, plan) for plan in plans]
    players: list[Step] = []
    pairs: list[tuple[int, int]] = []
    for one in found:
        pairs += [(len(players) + role, len(players) + sync) for role, sync in one.pairs]
        players += one.players
    prices = price_steps(pricer, players, pairs, factors)
    wait = scenario.hardware.runtime.event_wait
    role = pair = 0
    times: list[float] = []
    for one in found:
        seconds = prices.seconds[0, role : role + len(one.players)]
        slowdowns = prices.slowdowns[0, 2 * pair : 2 * (pair + len(one.pairs))]
        times.append(_follow(one, seconds, slowdowns, wait))
        role, pair = role + len(one.players), pair + len(one.pairs)
    return times


def _follow(one: GroupedStructure, seconds: Array, slowdowns: Array, wait: float) -> float:
    return float(follow(one.layout, one.tails, one.order, seconds, slowdowns, wait))
