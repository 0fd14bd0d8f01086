"""The space Optuna searches, and the way from a trial to a plan.

With several groups of blocks every group has a strategy and split points of its own, from a block
that is a share of those left. A plan with fewer groups is one whose last groups are alike, so
that the search can start from uniform plans.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import optuna

from simulator.plan import CommDtype, Group, Plan, Strategy, chunked_total
from simulator.policy import granularity
from simulator.scenario import Scenario
from tuner.exact import sm_budgets
from tuner.moves import Sizes, coarse, fine

MAX_CHUNKS = 4


@dataclass(frozen=True, kw_only=True)
class Space:
    """Strategies, transfer types and drop counts that a search may use.

    `drop_order` lists the blocks that may be dropped, least costly first; a trial chooses how
    many. It is empty where no sync may be dropped.
    """

    scenario: Scenario
    strategies: tuple[Strategy, ...]
    comm_dtypes: tuple[CommDtype, ...] = ("bf16",)
    drop_order: tuple[int, ...] = ()
    most_chunks: int = MAX_CHUNKS
    most_groups: int = 1

    @property
    def _blocks(self) -> int:
        return self.scenario.model.num_hidden_layers

    def plan(self, trial: optuna.trial.BaseTrial) -> Plan:
        """The plan a trial's parameters stand for.

        Every trial suggests every parameter, used by its strategy or not: one fixed set of
        dimensions is what Optuna's samplers learn from best, and fastest.
        """
        comm_dtype = _choice(trial, "comm_dtype", self.comm_dtypes)
        drops = trial.suggest_int("drops", 0, len(self.drop_order)) if self.drop_order else 0
        groups = [self._group(trial, 0, 0)]
        for number in range(1, self.most_groups):
            share, first = trial.suggest_float(f"from_{number}", 0.0, 1.0), groups[-1].first
            groups.append(self._group(trial, number, first + round(share * (self._blocks - first))))
        budgets = sm_budgets(self.scenario)
        comm_sms = budgets[trial.suggest_int("comm_sms", 0, len(budgets) - 1)]
        common = Plan(
            comm_dtype=comm_dtype,
            comm_sms=comm_sms,
            dropped=tuple(sorted(self.drop_order[:drops])),
        )
        return self._grouped(common, groups)

    def _group(self, trial: optuna.trial.BaseTrial, number: int, first: int) -> Group:
        """The group a trial suggests, from block `first` on."""
        mark = f"_{number}" if number else ""
        strategy = _choice(trial, f"strategy{mark}", self.strategies)
        count = trial.suggest_int(f"chunks{mark}", 2, self.most_chunks)
        names = [f"share{mark}_{index}" for index in range(self.most_chunks - 1)]
        shares = [trial.suggest_float(name, 0.0, 1.0) for name in names]
        chunks = () if strategy == "serial" else self._chunks(strategy, count, shares)
        return Group(first=first, strategy=strategy, chunks=chunks)

    def _grouped(self, plan: Plan, groups: Sequence[Group]) -> Plan:
        """A plan with other groups: each from its first block on, those without blocks left out."""
        kept: list[Group] = []
        for group in groups:
            if group.first >= self._blocks:
                continue
            if kept and kept[-1].first == group.first:
                kept.pop()
            if not kept or not _alike(kept[-1], group):
                kept.append(group)
        overlaps = any(group.strategy != "serial" for group in kept)
        changes = {
            "strategy": kept[0].strategy,
            "chunks": kept[0].chunks,
            "groups": tuple(kept[1:]),
            "comm_sms": plan.comm_sms if overlaps else None,
        }
        return plan.model_copy(update=changes)

    def parameters(self, plan: Plan) -> dict[str, object]:
        """The trial parameters that stand for a plan, to start a search from it."""
        found: dict[str, object] = {
            "comm_dtype": plan.comm_dtype,
            "drops": len(plan.dropped),
            "comm_sms": sm_budgets(self.scenario).index(plan.comm_sms),
        }
        groups = plan.all_groups
        before = 0
        for number in range(self.most_groups):
            # Groups that a plan lacks follow its last one, and are like it.
            group = groups[min(number, len(groups) - 1)]
            mark = f"_{number}" if number else ""
            first = group.first if number < len(groups) else (before + self._blocks) // 2
            if number:
                found[f"from_{number}"] = (first - before) / (self._blocks - before)
            left, before = sum(group.chunks), first
            found |= {
                f"strategy{mark}": group.strategy,
                f"chunks{mark}": max(2, len(group.chunks)),
            }
            for index in range(self.most_chunks - 1):
                size = group.chunks[index] if index < len(group.chunks) - 1 else 0
                found[f"share{mark}_{index}"] = size / left if size else 0.5
                left -= size
        return found

    def neighbours(self, plan: Plan) -> Iterator[Plan]:
        """Plans one step away, the nearest first: drops, split points, SM budget, groups, type."""
        return (other for other in self._near(plan) if other != plan)

    def _near(self, plan: Plan) -> Iterator[Plan]:
        if not plan.overlaps:
            yield from self._regrouped(plan)
            return
        yield from self._fewer_and_more_drops(plan)
        yield from self._recut(plan, self._finely)
        budgets = sm_budgets(self.scenario)
        at = budgets.index(plan.comm_sms)
        beside = [budgets[at - 1], budgets[(at + 1) % len(budgets)]]
        others = [plan.model_copy(update={"comm_sms": sms}) for sms in (*beside, *budgets)]
        yield from others[:2]
        yield from self._regrouped(plan)
        yield from self._recut(plan, self._coarsely)
        yield from others[2:]
        for kind in self.comm_dtypes:
            yield plan.model_copy(update={"comm_dtype": kind})
        for other in others[:2]:
            yield from self._recut(other, self._finely)

    def _fewer_and_more_drops(self, plan: Plan) -> list[Plan]:
        count, most = len(plan.dropped), len(self.drop_order)
        counts = {max(0, count - 1), min(most, count + 1), min(most, count + 8)}
        sets = [tuple(sorted(self.drop_order[:number])) for number in sorted(counts)]
        return [plan.model_copy(update={"dropped": dropped}) for dropped in sets]

    def _recut(self, plan: Plan, moves: Callable[[Group], Iterable[Sizes]]) -> Iterator[Plan]:
        """The plans with one group's chunks moved."""
        groups = plan.all_groups
        for number, group in enumerate(groups):
            for chunks in moves(group):
                changed = group.model_copy(update={"chunks": chunks})
                yield self._grouped(plan, [*groups[:number], changed, *groups[number + 1 :]])

    def _finely(self, group: Group) -> Iterable[Sizes]:
        return fine(group.chunks, self._group_grain(group)) if group.chunks else ()

    def _coarsely(self, group: Group) -> Iterable[Sizes]:
        if not group.chunks:
            return ()
        return coarse(group.chunks, self._group_grain(group), self.most_chunks)

    def _group_grain(self, group: Group) -> int:
        return self._grain(group.strategy, sum(group.chunks))

    def _regrouped(self, plan: Plan) -> Iterator[Plan]:
        """One group beginning earlier, later, or not at all; one more."""
        groups = plan.all_groups
        for number, group in enumerate(groups[1:], 1):
            before, after = groups[:number], groups[number + 1 :]
            low = before[-1].first
            high = after[0].first if after else self._blocks
            firsts = [group.first + step for step in (1, -1, 4, -4)]
            moved = [group.model_copy(update={"first": f}) for f in firsts if low <= f <= high]
            for other in moved:
                yield self._grouped(plan, [*before, other, *after])
            yield self._grouped(plan, [*before, *after])
        if len(groups) < self.most_groups:
            for split in self._split(plan):
                yield self._grouped(plan, split)

    def _split(self, plan: Plan) -> Iterator[list[Group]]:
        """The groups with one more: from a half of one on, or where dropping begins or ends."""
        groups, dropped = plan.all_groups, set(plan.dropped)
        edges = [b for b in range(1, self._blocks) if (b in dropped) != (b - 1 in dropped)]
        for number, group in enumerate(groups):
            end = groups[number + 1].first if number + 1 < len(groups) else self._blocks
            firsts = {(group.first + end) // 2, end - 1, *edges[:1], *edges[-1:]}
            for first in sorted(first for first in firsts if group.first < first < end):
                for chunks in self._finely(group):
                    other = group.model_copy(update={"first": first, "chunks": chunks})
                    yield [*groups[: number + 1], other, *groups[number + 1 :]]

    def even(self, strategy: Strategy, count: int) -> Plan | None:
        """The plan with `count` chunks as even as the grain allows; None if they are too many."""
        total = chunked_total(strategy, self.scenario.workload)
        grain = self._grain(strategy, total)
        if count > -(-total // grain):
            return None
        edges = [min(total, round(total * part / count / grain) * grain) for part in range(count)]
        sizes = tuple(b - a for a, b in zip(edges, [*edges[1:], total], strict=True))
        return Plan(strategy=strategy, chunks=sizes) if min(sizes) > 0 else None

    def _grain(self, strategy: Strategy, total: int) -> int:
        return 1 if strategy == "request_overlap" else granularity(total)

    def _chunks(self, strategy: Strategy, count: int, shares: list[float]) -> tuple[int, ...]:
        """Break chunks off the whole, each a share of what is left, rounded to the grain."""
        left = chunked_total(strategy, self.scenario.workload)
        grain = self._grain(strategy, left)
        count = min(count, -(-left // grain))
        sizes: list[int] = []
        for index in range(count - 1):
            room = (left - 1) // grain - (count - 2 - index)
            sizes.append(grain * max(1, min(room, round(shares[index] * left / grain))))
            left -= sizes[-1]
        return (*sizes, left)


def _alike(one: Group, other: Group) -> bool:
    return (one.strategy, one.chunks) == (other.strategy, other.chunks)


Choice = TypeVar("Choice", bound=str)


def _choice(trial: optuna.trial.BaseTrial, name: str, options: tuple[Choice, ...]) -> Choice:
    """One of the options; where there is but one, it is no dimension of the search."""
    if len(options) == 1:
        return options[0]
    return cast(Choice, trial.suggest_categorical(name, options))
