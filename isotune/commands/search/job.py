"""A search with its files read, and what it says of dropped blocks."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import RenderableType
from rich.text import Text

from isotune.present.phrases import milliseconds, plan_text, treatments_text
from isotune.render import new_table
from isotune.simulator.architecture import Model
from isotune.simulator.files import PlanFile
from isotune.simulator.predict import Prediction, Scenario
from isotune.simulator.schedule import Plan

if TYPE_CHECKING:
    from isotune.tuner.accuracy import Sensitivity, Treated
    from isotune.tuner.search import Options, Point


@dataclass(frozen=True, kw_only=True)
class DropCosts:
    """A sensitivity file as it stands, and as the search uses it; `names` limits treatments."""

    table: "Sensitivity"
    searched: "Sensitivity"
    names: tuple[str, ...] | None

    @classmethod
    def read(
        cls, path: Path, model: Model, tps: Collection[int], names: tuple[str, ...] | None
    ) -> Self:
        """The file, to be used at these tensor-parallel sizes.

        Raises:
            InputError: a malformed file, one for another model or tp, or an unknown treatment.
        """
        from isotune.tuner.accuracy import read_sensitivity

        return cls.of(read_sensitivity(path, model, tps), names)

    @classmethod
    def of(cls, table: "Sensitivity", names: tuple[str, ...] | None) -> Self:
        """A table, limited to some treatments.

        Raises:
            InputError: an unknown treatment.
        """
        from isotune.tuner.accuracy import effective

        return cls(table=table, searched=effective(table, names), names=names)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A search as it was asked for; `names` are those of hardware and model."""

    scenario: Scenario
    options: "Options"
    names: tuple[str, str]
    costs: DropCosts | None = None

    def treated(self, plan: Plan) -> "Treated | None":
        """The treatments of a plan's dropped blocks, within what its transfer leaves."""
        if self.costs is None:
            return None
        from isotune.tuner.accuracy import treat

        table = self.costs.table
        left = self.options.accuracy_budget - table.transfer.get(plan.comm_dtype, 0.0)
        return treat(table, plan.dropped, left, self.costs.names)

    def write(self, prediction: Prediction, path: Path) -> "Treated | None":
        """Write a plan file; the treatments that stand in it."""
        treated = self.treated(prediction.plan)
        treatments = treated.treatments if treated else {}
        PlanFile.of(prediction, *self.names, treatments=treatments).write(path)
        return treated

    def pareto_front(self) -> "tuple[Point, ...] | None":
        """Latency against perplexity of the plans that the options allow."""
        if self.costs is None:
            return None
        from isotune.tuner.exact import most_chunks
        from isotune.tuner.search import accuracy_front

        options = self.options
        return accuracy_front(
            self.scenario,
            self.costs.table,
            comm_dtypes=options.transfers,
            chunks=min(options.max_chunks, most_chunks(self.scenario.workload.tokens)),
            iso=options.splits_prompt,
            names=self.costs.names,
        )


def recovery_dict(
    treated: "Treated | None", front: "Sequence[Point] | None" = None
) -> dict[str, Any]:
    """Treatments by block, and the points of the front; latency in seconds."""
    data: dict[str, Any] = {}
    if treated is not None:
        data["treatments"] = dict(treated.treatments)
        data["treated_growth"] = treated.cost
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
    treated: "Treated | None", front: "Sequence[Point] | None" = None
) -> list[RenderableType]:
    """Both for people, where there is something to say."""
    views: list[RenderableType] = []
    if treated is not None and treated.treatments:
        views.append(
            f"treatments: {treatments_text(treated.treatments)}; together "
            f"{treated.cost * 100:+.2f} % perplexity if costs add up (isotune remeasure checks)"
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
