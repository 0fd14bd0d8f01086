"""The joint optimum of split and drop set under an accuracy budget, with its proof.

A dropped all-reduce that was already hidden saves nothing, so which blocks to drop and how to split
the prompt belong together. For one split, blocks lead from state to state of a small automaton (see
`isotune.simulator.automaton`), and a drop set is a path through it:

- *upper bound*: the least sensitive blocks, any number of them, on every split;
- *lower bound* of a split: the fastest path with at most as many drops as the budget can pay for
  at all, whichever blocks they are (dynamic programming over block, state and number of drops);
- a split whose lower bound beats the best plan is *closed*: the fastest path within the budget,
  by dynamic programming over paths that no other beats in both time and cost.

What remains open, if anything, is the gap.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from isotune.simulator.batch import (
    DROPPED,
    END,
    HEAD,
    SYNCED,
    Array,
    Batch,
    CostTable,
    DropSets,
    Index,
    Layout,
    Timer,
    Transitions,
    part_of,
    transitions,
)
from isotune.simulator.predict import GpuMemory, Scenario
from isotune.simulator.schedule import CommDtype, Plan
from isotune.tuner.accuracy import DropCosts
from isotune.tuner.exact.enumeration import (
    Best,
    batch_of,
    chosen_plan,
    crossed,
    most_chunks,
    spaces,
)
from isotune.tuner.exact.pareto import undominated

_CLOSED = 64
"""Splits closed at most; the bound counts what is left."""
_LABELS = 20_000
"""Paths kept at most while a split is closed."""


_Settled = tuple[float, tuple[int, ...], bool]


@dataclass(frozen=True, kw_only=True)
class _Budget:
    """What each block's drop costs [blocks], and how much may be spent on drops."""

    costs: DropCosts
    left: float

    @cached_property
    def affordable(self) -> list[tuple[int, ...]]:
        """The affordable drop sets of the least costly blocks, each sorted.

        Where nothing is left even before a drop, only drops that lower the perplexity help.
        """
        sets = self.costs.affordable(self.left)
        return [tuple(sorted(dropped)) for dropped in sets if dropped or self.left >= 0.0]

    @property
    def most(self) -> int:
        """Size of the largest affordable drop set."""
        return len(self.affordable[-1])


@dataclass(frozen=True, kw_only=True)
class _Open:
    """A split whose bound lies below the best plan so far."""

    bound: float
    batch: Batch
    split: int
    automaton: Transitions | None
    budget: _Budget


def joint_optimum(
    scenario: Scenario,
    costs: DropCosts,
    budget: float,
    *,
    comm_dtypes: Sequence[CommDtype] = ("bf16",),
    chunks: int | None = None,
    iso: bool = True,
) -> Best:
    """The best of serial and (with `iso`) all ISO splits with the best drop set within the budget.

    A quantised transfer spends its own share of the budget first.
    """
    blocks = scenario.model.num_hidden_layers
    best = Best(plan=Plan(), latency_s=float("inf"), compared=0, bound_s=float("inf"))
    timer = Timer(scenario)
    opened: list[_Open] = []
    for comm_dtype in comm_dtypes:
        paid = _Budget(costs=costs, left=costs.left(budget, comm_dtype))
        if not paid.affordable:
            continue
        for batch in _all(scenario, comm_dtype, chunks, iso):
            named = paid.affordable
            times = timer.run(crossed(batch, DropSets.named(named, blocks)))
            at = int(times.argmin())
            best = replace(best, compared=best.compared + len(times))
            if times[at] < best.latency_s:
                plan = chosen_plan(batch, at // len(named), named[at % len(named)])
                best = replace(best, plan=plan, latency_s=float(times[at]))
            opened += _unproven(timer, batch, paid, best.latency_s)
    return _close(best, opened)


def _all(scenario: Scenario, comm_dtype: CommDtype, chunks: int | None, iso: bool) -> list[Batch]:
    serial = Plan(comm_dtype=comm_dtype)
    batches = [batch_of(scenario, serial)] if GpuMemory(scenario).of(serial).fits else []
    if iso and scenario.workload.parallelism.communicates:
        batches += spaces(scenario, chunks or most_chunks(scenario.workload.tokens), (comm_dtype,))
    return batches


def _unproven(timer: Timer, batch: Batch, budget: _Budget, best: float) -> list[_Open]:
    """The splits of a batch that might still beat `best`, with their lower bounds."""
    known = timer.costs(batch)
    if known is None:  # without an automaton there is no bound
        return [
            _Open(bound=0.0, batch=batch, split=split, automaton=None, budget=budget)
            for split in range(len(batch.splits))
        ]
    repeating, costs = known
    wait = batch.scenario.hardware.runtime.event_wait
    unproven: list[_Open] = []
    floor = _floor(repeating.layout, costs, budget.most)
    for split in np.flatnonzero(floor < best).tolist():
        row = costs.seconds[split], costs.slowdowns[split]
        automaton = transitions(repeating.layout, *row, wait)
        bound = _fastest(automaton, budget.most) if automaton else float(floor[split])
        if bound < best * (1.0 - 1e-9):
            unproven.append(
                _Open(bound=bound, batch=batch, split=split, automaton=automaton, budget=budget)
            )
    return unproven


def _floor(layout: Layout, costs: CostTable, most: int) -> Array:
    """What either lane of a split takes at least [splits] with at most `most` drops."""

    def total(roles: Index) -> Array:
        return np.asarray(costs.seconds[:, roles[roles >= 0]].sum(axis=1))

    def fewest(parts: Sequence[Array]) -> Array:
        """All blocks synced, but `most` times the saving of the kind where a drop saves most."""
        counts = np.bincount(layout.pattern).tolist()
        whole = sum(
            count * parts[part_of(kind, SYNCED)] for kind, count in enumerate(counts) if count
        )
        saved = [
            parts[part_of(kind, SYNCED)] - parts[part_of(kind, DROPPED)]
            for kind in range(len(counts))
        ]
        return np.asarray(whole - most * np.maximum(np.max(saved, axis=0), 0.0))

    compute = [total(roles) for roles in layout.compute]
    syncs = [total(roles[layout.tail :]) for roles in layout.syncs]
    return np.maximum(fewest(compute) + compute[HEAD] + compute[END], fewest(syncs))


def _fastest(automaton: Transitions, most: int) -> float:
    """Seconds of the fastest path with at most `most` drops."""
    return float(_to_go(automaton, most)[0][0, most] + automaton.head)


def _to_go(automaton: Transitions, most: int) -> list[Array]:
    """For each block, seconds from its start to the end by state and drops left [states, drops]."""
    after = np.repeat(automaton.finish[:, None], most + 1, axis=1)
    levels = [after]
    for kind in automaton.pattern[::-1].tolist():
        following, elapsed = automaton.following[kind], automaton.elapsed[kind]
        keep = elapsed[:, :1] + after[following[:, 0]]
        drop = elapsed[:, 1:] + after[following[:, 1], :-1]
        keep[:, 1:] = np.minimum(keep[:, 1:], drop)
        after = keep
        levels.append(after)
    return levels[::-1]


def _close(best: Best, opened: list[_Open]) -> Best:
    """Settle the open splits, the most promising first, until none can beat the best plan."""
    opened = sorted(opened, key=lambda split: split.bound)
    bound = float("inf")
    for number, split in enumerate(opened):
        if split.bound >= best.latency_s * (1.0 - 1e-9):
            break
        if number == _CLOSED:
            bound = min(bound, split.bound)
            break
        settled: _Settled = float("inf"), (), False
        if split.automaton is not None:
            settled = _settle(split.automaton, split.budget, best.latency_s)
        latency, dropped, proven = settled
        if not proven:
            bound = min(bound, split.bound)
        if latency < best.latency_s:
            plan = chosen_plan(split.batch, split.split, dropped)
            best = replace(best, plan=plan, latency_s=latency)
    return replace(best, bound_s=min(bound, best.latency_s))


def _settle(automaton: Transitions, budget: _Budget, best: float) -> _Settled:
    """A split's fastest affordable path below `best`: seconds, drop set, and whether proven.

    Paths are rows (seconds, cost, state, drops, parent); one is dropped when it cannot beat
    `best`, cannot be paid, or another in its state is neither slower nor costlier.
    """
    following, elapsed, head, finish, pattern = automaton
    costs, most = np.array(budget.costs.blocks), budget.most
    to_go = _to_go(automaton, most)
    cheapest = np.append(np.cumsum(np.minimum(costs, 0.0)[::-1])[::-1], 0.0)
    grid = best * 1e-13
    time, cost = np.array([head]), np.zeros(1)
    state, drops = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    parents: list[Index] = []
    proven = True
    for block in range(len(costs)):
        parent = np.tile(np.arange(len(time)), 2)
        kind = np.repeat([0, 1], len(time))
        time = time[parent] + elapsed[pattern[block], state[parent], kind]
        cost, drops = cost[parent] + kind * costs[block], drops[parent] + kind
        state = following[pattern[block], state[parent], kind]
        rest = to_go[block + 1][state, np.maximum(most - drops, 0)]
        kept = (drops <= most) & (cost + cheapest[block + 1] <= budget.left + 1e-15)
        kept &= time + rest < best * (1.0 - 1e-9)
        keep = np.flatnonzero(kept)
        keep = keep[undominated(np.rint(time[keep] / grid), cost[keep], state[keep])]
        if len(keep) > _LABELS:
            proven = False
            bound = (time + to_go[block + 1][state, np.maximum(most - drops, 0)])[keep]
            keep = keep[np.argsort(bound, kind="stable")[:_LABELS]]
        parents.append(2 * parent[keep] + kind[keep])
        time, cost, state, drops = time[keep], cost[keep], state[keep], drops[keep]
        if not len(time):
            return float("inf"), (), proven
    total = time + finish[state]
    at = int(total.argmin())
    latency, dropped = float(total[at]), []
    for block in range(len(costs) - 1, -1, -1):
        at, is_dropped = divmod(int(parents[block][at]), 2)
        if is_dropped:
            dropped.append(block)
    return latency, tuple(reversed(dropped)), proven
