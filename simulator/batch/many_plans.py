"""The reference timeline's answer for many plans at once.

Plans of one batch share a program's shape (strategy, number of chunks, transfer type, SM budget)
and differ in the sizes of their chunks and in their drop set. Each distinct split is costed once
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
from isotune.simulator.batch.cost_table import (
    ComputeCosts,
    CostTable,
    RoleCosts,
    Splits,
    role_costs,
)
from isotune.simulator.predict import CostModel, Factors, Scenario, SimulatedRun
from isotune.simulator.schedule import Plan

SPLITS_AT_ONCE = 4096
PLANS_AT_ONCE = 1 << 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Plans of one shape.

    `plan` gives strategy, transfer type and SM budget; plan i splits the work as row
    `split_of[i]` of `splits` says (row i if absent) and drops the syncs of `drops[i]`
    (`plan.dropped` if absent). Splits may belong to any workloads that agree with the scenario's
    in tp and number types.
    """

    scenario: Scenario
    plan: Plan
    splits: Splits
    split_of: Index | None = None
    drops: DropSets | None = None


def run(batch: Batch, known: ComputeCosts | None = None) -> Array:
    """Latencies in seconds [plans]; `known` are compute costs of the scenario to use again."""
    split_of = batch.split_of
    repeating = _structure(batch.scenario, batch.plan, batch.splits)
    if split_of is None:
        return run_with(batch, (None,), known).reshape(-1)
    drops = _drops(batch)
    if repeating is None:
        return _one_by_one(batch, (None,), split_of, drops).reshape(-1)
    table = _costs(batch, repeating, drops, batch.splits, known).table()
    latency = np.empty(len(split_of))

    def work(first: int) -> None:
        part = slice(first, first + PLANS_AT_ONCE)
        _walk(batch.scenario, repeating, table, split_of[part], drops.part(part), latency[part])

    firsts = range(0, len(latency), PLANS_AT_ONCE)
    list((_threads().map if len(firsts) > 1 else map)(work, firsts))
    return latency


def _drops(batch: Batch) -> DropSets:
    if batch.drops is not None:
        return batch.drops
    return DropSets.repeated(batch.plan.dropped, batch.scenario.model.num_hidden_layers)


def _one_by_one(
    batch: Batch, factors: Sequence[Factors | None], split_of: Index, drops: DropSets
) -> Array:
    """Seconds [factors, plans] by the reference timeline, where the automaton cannot run a plan."""
    decode = batch.scenario.workload.phase == "decode"
    prompts = batch.splits.context if decode else batch.splits.tokens
    blocks = batch.scenario.model.num_hidden_layers

    @cache
    def seconds(split: int, dropped: tuple[int, ...]) -> list[float]:
        scenario = batch.scenario.with_workload(
            batch=int(batch.splits.batch[split]) * batch.scenario.workload.dp,
            prompt=int(prompts[split]),
        )
        chunks = tuple(batch.splits.sizes[split].tolist())
        plan = batch.plan.model_copy(update={"chunks": chunks, "dropped": dropped})
        run = SimulatedRun.of(scenario, plan)
        return [run.under(some) if some else run.latency for some in factors]

    plans = enumerate(split_of.tolist())
    return np.array([seconds(split, drops.of_plan(plan, blocks)) for plan, split in plans]).T


def cost_table_of(
    batch: Batch, known: ComputeCosts | None = None
) -> tuple[Structure, CostTable] | None:
    """The structure of a batch's programs, and the costs of its splits for any drop set.

    None where the automaton cannot run them.
    """
    repeating = _structure(batch.scenario, batch.plan, batch.splits)
    if repeating is None:
        return None
    both = DropSets(masks=np.ones((1, 1), np.int64), periods=np.full(1, 2))
    return repeating, _costs(batch, repeating, both, batch.splits, known).table()


def run_with(
    batch: Batch, factors: Sequence[Factors | None], known: ComputeCosts | None = None
) -> Array:
    """Seconds [factors, plans] of a plan per split, if ops and contention took more or less.

    Splits are costed and forgotten part by part; the costs are those of every factor.
    """
    repeating, drops = _structure(batch.scenario, batch.plan, batch.splits), _drops(batch)
    if repeating is None:
        return _one_by_one(batch, factors, np.arange(len(batch.splits)), drops)
    latency = np.empty((len(factors), len(batch.splits)))
    for first in range(0, len(batch.splits), SPLITS_AT_ONCE):
        part = slice(first, first + SPLITS_AT_ONCE)
        some = drops.part(part)
        splits = batch.splits if len(batch.splits) <= SPLITS_AT_ONCE else batch.splits.part(part)
        costs = _costs(batch, repeating, some, splits, known)
        for row, factor in enumerate(factors):
            rows = np.arange(len(splits))
            _walk(batch.scenario, repeating, costs.table(factor), rows, some, latency[row, part])
    return latency


def _structure(scenario: Scenario, plan: Plan, splits: Splits) -> Structure | None:
    ranks, parts = scenario.workload.parallelism, splits.sizes.shape[1]
    return structure(scenario.model, ranks, plan.strategy, parts)


def _costs(
    batch: Batch, repeating: Structure, drops: DropSets, splits: Splits, known: ComputeCosts | None
) -> RoleCosts:
    cost_model = CostModel.of(batch.scenario, batch.plan)
    return role_costs(cost_model, repeating, splits, drops.kinds(), known)


def _walk(
    scenario: Scenario,
    repeating: Structure,
    table: CostTable,
    split_of: Index,
    drops: DropSets,
    latency: Array,
) -> None:
    compiled().walk(
        repeating.layout,
        table.seconds,
        table.slowdowns,
        scenario.hardware.runtime.event_wait,
        split_of,
        drops.masks,
        drops.periods,
        _in_runs(split_of),
        Automaton.empty(repeating.layout),
        latency,
    )


def _in_runs(split_of: Index) -> Index:
    """An order of plans in which those of one split follow each other."""
    if np.all(split_of[1:] >= split_of[:-1]):
        return np.arange(len(split_of))
    few = split_of.max() <= np.iinfo(np.uint16).max  # 16 bits are sorted by radix
    return np.argsort(split_of.astype(np.uint16) if few else split_of, kind="stable")


@cache
def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_cores())
