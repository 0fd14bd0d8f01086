"""A plan's drop set measured as a whole: does the sum of its blocks' costs hold?

A sensitivity table has the cost of each block's drop, and a search adds them up. A drop check
measures the set of a plan, corrects the table by it, and searches again with the corrected one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from isotune.simulator.errors import InputError
from isotune.simulator.files import PlanFile
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import ZERO_SHOT, steps_of
from isotune.tuner.accuracy import Recovery, Sensitivity, corrected, with_check
from isotune.tuner.exact import joint_optimum

Growth = Callable[[Mapping[int, Sequence[str]]], float]
"""Measures the relative growth of perplexity with blocks dropped, each after recovery steps."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """A drop set: its treatments, predicted and measured growth of perplexity, and latency."""

    treatments: dict[int, str]
    predicted: float
    growth: float
    latency_s: float | None


@dataclass(frozen=True, kw_only=True)
class DropCheck:
    """A table and a plan after some rounds; `budget` is the largest growth of perplexity."""

    table: Sensitivity
    file: PlanFile
    budget: float
    rounds: tuple[Round, ...] = ()

    @property
    def within_budget(self) -> bool:
        """Whether the plan keeps to the budget, its transfer's cost included; none dropped does."""
        left = self.table.costs().left(self.budget, self.file.plan.comm_dtype)
        return not self.file.plan.dropped or self.rounds[-1].growth <= left

    def measured(self, growth_of: Growth) -> "DropCheck":
        """The plan's drop set measured as a whole, and the table corrected by it.

        Raises:
            InputError: a treatment that the table does not have, or a loss that is not finite.
        """
        named, costs = self.file.treatments, corrected(self.table)
        treatments = {block: named.get(block, ZERO_SHOT) for block in self.file.plan.dropped}
        unknown = [name for name in treatments.values() if name not in costs]
        if unknown:
            raise InputError(
                f"plan: treatments: {unknown[0]!r:.60} is not in the sensitivity file (allowed: "
                f"{', '.join(costs)})"
            )
        growth = growth_of({block: steps_of(name) for block, name in treatments.items()})
        measured = Round(
            treatments=treatments,
            predicted=sum(costs[name][block] for block, name in treatments.items()),
            growth=growth,
            latency_s=self.file.predicted.latency_s if self.file.predicted else None,
        )
        return replace(
            self,
            table=with_check(self.table, treatments, growth),
            rounds=(*self.rounds, measured),
        )

    def searched_again(self, scenario: Scenario) -> "DropCheck":
        """The best plan of the corrected table."""
        recovery, transfers = Recovery(table=self.table), (self.file.plan.comm_dtype,)
        best = joint_optimum(scenario, recovery.costs, self.budget, comm_dtypes=transfers)
        drops = recovery.of(best.plan, self.budget)
        named = self.file.hardware, self.file.model.name
        prediction = predict(scenario, best.plan)
        return replace(self, file=PlanFile.of(prediction, *named, treatments=drops.treatments))
