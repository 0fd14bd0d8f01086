"""The reference timeline's answer for many plans at once.

Plans of one batch share a program's shape (strategy, number of chunks, transfer type, SM budget)
and differ in the sizes of their chunks and in their drop set. Each distinct cut is priced once
with numpy; the compiled engine then runs every plan, all cores sharing the plans. Whatever
their number, only `PLANS_AT_ONCE` of them are in flight.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from isotune.simulator.automaton import (
    Array,
    Automaton,
    DropSets,
    Index,
    Structure,
    compiled,
    structure,
)
from isotune.simulator.batch.cost_table import ComputeCosts, Cuts, Prices, RoleCosts, role_costs
from isotune.simulator.predict import Factors, PricedRun, Pricer, Scenario
from isotune.simulator.schedule import Plan

CUTS_AT_ONCE = 4096
PLANS_AT_ONCE = 1 << 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Plans of one shape.

    `plan` gives strategy, transfer type and SM budget; plan i cuts the work as `cuts` says in row
    `cut_of[i]` (row i if absent) and drops the syncs of `drops[i]` (`plan.dropped` if absent).
    Cuts may belong to any workloads that agree with the scenario's in tp and number types.
    """

    scenario: Scenario
    plan: Plan
    cuts: Cuts
    cut_of: Index | None = None
    drops: DropSets | None = None


def run(batch: Batch, known: ComputeCosts | None = None) -> Array:
    """Latencies in seconds [plans]; `known` are compute costs of the scenario to use again."""
    cut_of = batch.cut_of
    if cut_of is None or not batch.plan.how.uniform:
        seconds = run_with(batch, (None,), known).reshape(-1)
        return seconds if cut_of is None else seconds[cut_of]
    whole, drops = _structure(batch.scenario, batch.plan, batch.cuts), _drops(batch)
    prices = _costs(batch, whole, drops, batch.cuts, known).prices()
    latency = np.empty(len(cut_of))

    def work(first: int) -> None:
        part = slice(first, first + PLANS_AT_ONCE)
        _walk(batch.scenario, whole, prices, cut_of[part], drops.part(part), latency[part])

    firsts = range(0, len(latency), PLANS_AT_ONCE)
    list((_threads().map if len(firsts) > 1 else map)(work, firsts))
    return latency


def _drops(batch: Batch) -> DropSets:
    if batch.drops is not None:
        return batch.drops
    return DropSets.repeated(batch.plan.dropped, batch.scenario.model.num_hidden_layers)


def _one_by_one(batch: Batch, factors: Sequence[Factors | None]) -> Array:
    """By the reference timeline, where a strategy does not run all blocks alike."""
    decode = batch.scenario.workload.phase == "decode"
    prompts = batch.cuts.context if decode else batch.cuts.tokens
    latency = np.empty((len(factors), len(batch.cuts)))
    for column, chunks in enumerate(batch.cuts.sizes.tolist()):
        scenario = batch.scenario.with_workload(
            batch=int(batch.cuts.batch[column]), prompt=int(prompts[column])
        )
        plan = batch.plan.model_copy(update={"chunks": tuple(chunks)})
        run = PricedRun.of(scenario, plan)
        latency[:, column] = [run.under(some) if some else run.latency for some in factors]
    return latency


def prices_of(batch: Batch, known: ComputeCosts | None = None) -> tuple[Structure, Prices]:
    """The structure of a batch's programs, and the costs of its cuts for any drop set."""
    whole = _structure(batch.scenario, batch.plan, batch.cuts)
    both = DropSets(masks=np.ones((1, 1), np.int64), periods=np.full(1, 2))
    return whole, _costs(batch, whole, both, batch.cuts, known).prices()


def run_with(
    batch: Batch, factors: Sequence[Factors | None], known: ComputeCosts | None = None
) -> Array:
    """Seconds [factors, plans] of a plan per cut, if ops and contention took more or less.

    Cuts are priced and forgotten part by part; the costs are those of every factor.
    """
    if not batch.plan.how.uniform:
        return _one_by_one(batch, factors)
    whole, drops = _structure(batch.scenario, batch.plan, batch.cuts), _drops(batch)
    latency = np.empty((len(factors), len(batch.cuts)))
    for first in range(0, len(batch.cuts), CUTS_AT_ONCE):
        part = slice(first, first + CUTS_AT_ONCE)
        some = drops.part(part)
        cuts = batch.cuts if len(batch.cuts) <= CUTS_AT_ONCE else batch.cuts.part(part)
        costs = _costs(batch, whole, some, cuts, known)
        for row, factor in enumerate(factors):
            rows = np.arange(len(cuts))
            _walk(batch.scenario, whole, costs.prices(factor), rows, some, latency[row, part])
    return latency


def _structure(scenario: Scenario, plan: Plan, cuts: Cuts) -> Structure:
    return structure(scenario.model, scenario.workload.tp, plan.strategy, cuts.sizes.shape[1])


def _costs(
    batch: Batch, whole: Structure, drops: DropSets, cuts: Cuts, known: ComputeCosts | None
) -> RoleCosts:
    pricer = Pricer(batch.scenario, batch.plan.comm_dtype, batch.plan.comm_sms)
    return role_costs(pricer, whole, cuts, drops.kinds(), known)


def _walk(
    scenario: Scenario,
    whole: Structure,
    prices: Prices,
    cut_of: Index,
    drops: DropSets,
    latency: Array,
) -> None:
    compiled().walk(
        whole.layout,
        scenario.model.num_hidden_layers,
        prices.seconds,
        prices.slowdowns,
        scenario.hardware.runtime.event_wait,
        cut_of,
        drops.masks,
        drops.periods,
        _in_runs(cut_of),
        Automaton.empty(whole.layout.tail),
        latency,
    )


def _in_runs(cut_of: Index) -> Index:
    """An order of plans in which those of one cut follow each other."""
    if np.all(cut_of[1:] >= cut_of[:-1]):
        return np.arange(len(cut_of))
    few = cut_of.max() <= np.iinfo(np.uint16).max  # 16 bits are sorted by radix
    return np.argsort(cut_of.astype(np.uint16) if few else cut_of, kind="stable")


@cache
def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_cores())
