"""The space Optuna searches, and the way from a trial to a plan."""

from dataclasses import dataclass
from typing import TypeVar, cast

import optuna

from simulator.plan import CommDtype, Plan, Strategy, chunked_total
from simulator.policy import granularity
from simulator.scenario import Scenario
from tuner.exact import sm_budgets

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

    def plan(self, trial: optuna.trial.BaseTrial) -> Plan:
        """The plan a trial's parameters stand for.

        Every trial suggests every parameter, used by its strategy or not: one fixed set of
        dimensions is what Optuna's samplers learn from best, and fastest.
        """
        strategy = _choice(trial, "strategy", self.strategies)
        comm_dtype = _choice(trial, "comm_dtype", self.comm_dtypes)
        drops = trial.suggest_int("drops", 0, len(self.drop_order)) if self.drop_order else 0
        count = trial.suggest_int("chunks", 2, self.most_chunks)
        shares = [trial.suggest_float(f"share_{i}", 0.0, 1.0) for i in range(self.most_chunks - 1)]
        budgets = sm_budgets(self.scenario)
        comm_sms = budgets[trial.suggest_int("comm_sms", 0, len(budgets) - 1)]
        serial = strategy == "serial"
        return Plan(
            strategy=strategy,
            chunks=() if serial else self._chunks(strategy, count, shares),
            comm_dtype=comm_dtype,
            comm_sms=None if serial else comm_sms,
            dropped=tuple(sorted(self.drop_order[:drops])),
        )

    def parameters(self, plan: Plan) -> dict[str, object]:
        """The trial parameters that stand for a plan, to start a search from it."""
        left, shares = sum(plan.chunks), [0.5] * (self.most_chunks - 1)
        for index, size in enumerate(plan.chunks[:-1]):
            shares[index] = size / left
            left -= size
        return {
            "strategy": plan.strategy,
            "comm_dtype": plan.comm_dtype,
            "drops": len(plan.dropped),
            "chunks": max(2, len(plan.chunks)),
            "comm_sms": sm_budgets(self.scenario).index(plan.comm_sms),
        } | {f"share_{index}": share for index, share in enumerate(shares)}

    def neighbours(self, plan: Plan) -> list[Plan]:
        """Plans one step away: more or fewer drops, another split point, SM budget or type."""
        if plan.strategy == "serial":
            return []
        budgets = [plan.model_copy(update={"comm_sms": sms}) for sms in sm_budgets(self.scenario)]
        near = [plan.model_copy(update={"chunks": sizes}) for sizes in self._moved(plan)]
        count, most = len(plan.dropped), len(self.drop_order)
        counts = {max(0, count - 1), min(most, count + 1), min(most, count + 8)}
        sets = [tuple(sorted(self.drop_order[:number])) for number in sorted(counts)]
        drops = [plan.model_copy(update={"dropped": dropped}) for dropped in sets]
        transfers = [plan.model_copy(update={"comm_dtype": kind}) for kind in self.comm_dtypes]
        return [other for other in (*drops, *near, *budgets, *transfers) if other != plan]

    def _moved(self, plan: Plan) -> list[tuple[int, ...]]:
        """The plan's chunks with one split point moved by a grain, or by several."""
        grain = self._grain(plan.strategy, sum(plan.chunks))
        found: list[tuple[int, ...]] = []
        for steps in (1, -1, 2, -2, 4, -4):
            for index in range(len(plan.chunks) - 1):
                sizes = list(plan.chunks)
                sizes[index] += steps * grain
                sizes[index + 1] -= steps * grain
                if min(sizes) > 0:
                    found.append(tuple(sizes))
        return found

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


Choice = TypeVar("Choice", bound=str)


def _choice(trial: optuna.trial.BaseTrial, name: str, options: tuple[Choice, ...]) -> Choice:
    """One of the options; where there is but one, it is no dimension of the search."""
    if len(options) == 1:
        return options[0]
    return cast(Choice, trial.suggest_categorical(name, options))
