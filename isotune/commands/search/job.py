"""A search with its files read, and what it says of dropped blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from isotune.present.phrases import milliseconds, plan_text, treatments_text
from isotune.render import new_table
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


def recovery_dict(
    drops: "RecoveredDrops | None", front: "Sequence[Point] | None" = None
) -> dict[str, Any]:
    """Treatments by block, and the points of the front; latency in seconds."""
    data: dict[str, Any] = {}
    if drops is not None:
        data["treatments"] = dict(drops.treatments)
        data["treated_growth"] = drops.cost
    if front is not None:
        data["accuracy_front"] = [
            {
                "latency_s": point.latency_s,
                "perplexity_growth": point.growth,
                "plan": point.plan.model_dump(mode="json"),
                "treatments": dict(point.treatments),
                "rule": point.rule or None,
                "dominated": point.dominated,
            }
            for point in front
        ]
    return data


def recovery_views(
    drops: "RecoveredDrops | None", front: "Sequence[Point] | None" = None
) -> list[RenderableType]:
    """Both for people, where there is something to say."""
    views: list[RenderableType] = []
    if drops is not None and drops.treatments:
        views.append(
            f"treatments: {treatments_text(drops.treatments)}; together "
            f"{drops.cost * 100:+.2f} % perplexity if costs add up (isotune remeasure checks)"
        )
    if front is not None:
        views.append(_front_table(front))
    return views


def _front_table(front: "Sequence[Point]") -> RenderableType:
    table = new_table("latency", "perplexity", "dropped", "plan", "treatments")
    for column in table.columns[3:]:
        column.justify, column.no_wrap = "left", False
    for point in front:
        plan = point.plan.model_copy(update={"dropped": ()})
        note = f"{point.rule}{' (dominated)' if point.dominated else ''}: " if point.rule else ""
        table.add_row(
            milliseconds(point.latency_s),
            f"{point.growth * 100:+.2f} %",
            str(len(point.plan.dropped)),
            Text(note + plan_text(plan)),
            Text(treatments_text(point.treatments)),
        )
    return table
