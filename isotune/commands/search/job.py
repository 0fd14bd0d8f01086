"""A search with its files read, and how it recovers dropped blocks."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from isotune.simulator.files import PlanFile
from isotune.simulator.predict import Prediction, Scenario
from isotune.simulator.schedule import Plan

if TYPE_CHECKING:
    from isotune.tuner.accuracy import RecoveredDrops
    from isotune.tuner.search import Options, Point


@dataclass(frozen=True, kw_only=True)
class Job:
    """A search as it was asked for; `names` are those of hardware and model."""

    scenario: Scenario
    options: "Options"
    names: tuple[str, str]

    def recovered(self, plan: Plan) -> "RecoveredDrops | None":
        """The recoveries of a plan's dropped blocks, within the accuracy budget."""
        if self.options.recovery is None:
            return None
        return self.options.recovery.of(plan, self.options.accuracy_budget)

    def write(self, prediction: Prediction, path: Path) -> "RecoveredDrops | None":
        """Write a plan file; the recoveries that stand in it."""
        drops = self.recovered(prediction.plan)
        treatments = drops.treatments if drops else {}
        PlanFile.of(prediction, *self.names, treatments=treatments).write(path)
        return drops

    def pareto_front(self) -> "tuple[Point, ...] | None":
        """Latency against perplexity of the plans that the options allow."""
        if self.options.recovery is None:
            return None
        from isotune.tuner.exact import most_chunks
        from isotune.tuner.search import accuracy_front

        options = self.options
        return accuracy_front(
            self.scenario,
            self.options.recovery,
            comm_dtypes=options.transfers,
            chunks=min(options.max_chunks, most_chunks(self.scenario.workload.tokens)),
            iso=options.splits_prompt,
        )
