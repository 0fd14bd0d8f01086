"""The space Optuna searches, and the way from a trial to a plan."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
import optuna

from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import STRATEGIES, CommDtype, Plan
from isotune.tuner.exact import even_sizes
from isotune.tuner.space.neighbours import Sizes, coarse, fine
from isotune.tuner.space.parameters import share_name

MAX_CHUNKS = 4


@dataclass(frozen=True, kw_only=True)
class Space:
    """Strategies, transfer types and drop counts that a search may use.

    `drop_order` lists the blocks that may be dropped, least costly first; a trial chooses how
    many. It is empty where no sync may be dropped.
    """

    scenario: Scenario
    strategies: tuple[str, ...]
    comm_dtypes: tuple[CommDtype, ...] = ("bf16",)
    drop_order: tuple[int, ...] = ()
    most_chunks: int = MAX_CHUNKS

    def plan(self, trial: optuna.trial.BaseTrial) -> Plan:
        """The plan a trial's parameters stand for.

        Every trial suggests every parameter, used by its strategy or not: one fixed set of
        dimensions is what Optuna's samplers learn from best, and fastest.
        """
        comm_dtype = _choice(trial, "comm_dtype", self.comm_dtypes)
        drops = trial.suggest_int("drops", 0, len(self.drop_order)) if self.drop_order else 0
        strategy = _choice(trial, "strategy", self.strategies)
        count = trial.suggest_int("chunks", 2, self.most_chunks)
        names = [share_name(index) for index in range(self.most_chunks - 1)]
        shares = [trial.suggest_float(name, 0.0, 1.0) for name in names]
        budgets = self.scenario.sm_budgets
        comm_sms = budgets[trial.suggest_int("comm_sms", 0, len(budgets) - 1)]
        serial = not STRATEGIES[strategy].chunked
        return Plan(
            strategy=strategy,
            chunks=() if serial else self._chunks(strategy, count, shares),
            comm_dtype=comm_dtype,
            comm_sms=None if serial else comm_sms,
            dropped=tuple(sorted(self.drop_order[:drops])),
        )

    def parameters(self, plan: Plan) -> dict[str, object]:
        """The trial parameters that stand for a plan, to start a search from it."""
        parameters: dict[str, object] = {
            "comm_dtype": plan.comm_dtype,
            "drops": len(plan.dropped),
            "comm_sms": self.scenario.sm_budgets.index(plan.comm_sms),
            "strategy": plan.strategy,
            "chunks": max(2, len(plan.chunks)),
        }
        left = sum(plan.chunks)
        for index in range(self.most_chunks - 1):
            size = plan.chunks[index] if index < len(plan.chunks) - 1 else 0
            parameters[share_name(index)] = size / left if size else 0.5
            left -= size
        return parameters

    def neighbours(self, plan: Plan) -> Iterator[Plan]:
        """Plans one step away, the nearest first: drops, split points, SM budget, type."""
        return (other for other in self._near(plan) if other != plan)

    def _near(self, plan: Plan) -> Iterator[Plan]:
        if not plan.overlaps:
            return
        yield from self._fewer_and_more_drops(plan)
        grain = plan.how.grain(sum(plan.chunks))
        near = fine(plan.chunks, grain)
        yield from _with_chunks(plan, near)
        budgets = self.scenario.sm_budgets
        at = budgets.index(plan.comm_sms)
        beside = [budgets[at - 1], budgets[(at + 1) % len(budgets)]]
        others = [plan.model_copy(update={"comm_sms": sms}) for sms in (*beside, *budgets)]
        yield from others[:2]
        yield from _with_chunks(plan, coarse(plan.chunks, grain, self.most_chunks))
        yield from others[2:]
        for kind in self.comm_dtypes:
            yield plan.model_copy(update={"comm_dtype": kind})
        for other in others[:2]:
            yield from _with_chunks(other, near)

    def _fewer_and_more_drops(self, plan: Plan) -> list[Plan]:
        count, most = len(plan.dropped), len(self.drop_order)
        counts = {max(0, count - 1), min(most, count + 1), min(most, count + 8)}
        sets = [tuple(sorted(self.drop_order[:number])) for number in sorted(counts)]
        return [plan.model_copy(update={"dropped": dropped}) for dropped in sets]

    def _chunks(self, strategy: str, count: int, shares: list[float]) -> tuple[int, ...]:
        """Break chunks off the total, each a share of what is left, rounded to the grain."""
        how = STRATEGIES[strategy]
        left = how.total(self.scenario.workload.share)
        grain = how.grain(left)
        count = min(count, -(-left // grain))
        sizes: list[int] = []
        for index in range(count - 1):
            room = (left - 1) // grain - (count - 2 - index)
            sizes.append(grain * max(1, min(room, round(shares[index] * left / grain))))
            left -= sizes[-1]
        return (*sizes, left)


def even_plan(scenario: Scenario, strategy: str, count: int) -> Plan | None:
    """The plan with `count` chunks as even as the grain allows; None if they are too many."""
    how = STRATEGIES[strategy]
    sizes = even_sizes(how, np.array([how.total(scenario.workload.share)]), count)[0].tolist()
    return Plan(strategy=strategy, chunks=tuple(sizes)) if min(sizes, default=1) > 0 else None


def _with_chunks(plan: Plan, splits: Iterable[Sizes]) -> Iterator[Plan]:
    return (plan.model_copy(update={"chunks": chunks}) for chunks in splits)


Choice = TypeVar("Choice", bound=str)


def _choice(trial: optuna.trial.BaseTrial, name: str, options: tuple[Choice, ...]) -> Choice:
    """Suggest one of `options`; with a single option nothing is suggested."""
    if len(options) == 1:
        return options[0]
    return cast(Choice, trial.suggest_categorical(name, options))
