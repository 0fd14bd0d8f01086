"""What a search says of dropped blocks: each one's treatment, and latency against perplexity."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.text import Text

from isotune.commands.options import read
from isotune.commands.output import show
from isotune.present.phrases import milliseconds, plan_text, treatments_text
from isotune.render import new_table
from isotune.simulator.architecture import Model
from isotune.simulator.schedule import Plan

if TYPE_CHECKING:
    from isotune.simulator.predict import Scenario
    from isotune.tuner.accuracy import Sensitivity, Treated
    from isotune.tuner.search import Options, Point


@dataclass(frozen=True, kw_only=True)
class Repair:
    """A sensitivity file as it stands, and as the search uses it; `names` limits treatments."""

    table: "Sensitivity"
    searched: "Sensitivity"
    names: tuple[str, ...] | None

    @classmethod
    def read(
        cls, path: Path | None, model: Model, tps: Collection[int], names: str | None
    ) -> Self | None:
        """The file, to be used at these tensor-parallel sizes; None if none was given.

        Raises:
            InputError: a malformed file, one for another model or tp, or an unknown treatment.
        """
        from isotune.simulator.errors import InputError
        from isotune.tuner.accuracy import read_sensitivity

        if path is None:
            if names is not None:
                raise InputError("--treatments needs --sensitivity, which says what each costs")
            return None
        table = read_sensitivity(path, model, tps)
        return cls.of(table, read(_names, "--treatments", names))

    @classmethod
    def of(cls, table: "Sensitivity", names: tuple[str, ...] | None) -> Self:
        """A table, limited to some treatments.

        Raises:
            InputError: an unknown treatment.
        """
        from isotune.tuner.accuracy import effective

        return cls(table=table, searched=effective(table, names), names=names)

    def treated(self, plan: Plan, options: "Options") -> "Treated":
        """The treatments of a plan's dropped blocks, within what its transfer leaves."""
        from isotune.tuner.accuracy import treat

        left = options.accuracy_budget - self.table.transfer.get(plan.comm_dtype, 0.0)
        return treat(self.table, plan.dropped, left, self.names)

    def front(self, scenario: "Scenario", options: "Options") -> "tuple[Point, ...]":
        """Latency against perplexity of the plans that the options allow."""
        from isotune.tuner.exact import most_chunks
        from isotune.tuner.search import accuracy_front

        return accuracy_front(
            scenario,
            self.table,
            comm_dtypes=options.transfers,
            chunks=min(options.max_chunks, most_chunks(scenario.workload.tokens)),
            iso=options.splits_prompt,
            names=self.names,
        )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def repair_dict(
    treated: "Treated | None", front: "Sequence[Point] | None" = None
) -> dict[str, dict[str, Any]]:
    """Treatments by block, and the points of the front; latency in seconds."""
    found: dict[str, Any] = {}
    if treated is not None:
        found["treatments"] = dict(treated.treatments)
        found["treated_growth"] = treated.cost
    if front is not None:
        found["accuracy_front"] = [
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
    return found


def show_repair(treated: "Treated | None", front: "Sequence[Point] | None" = None) -> None:
    """Print both, where there is something to say."""
    if treated is not None and treated.treatments:
        show(
            f"treatments: {treatments_text(treated.treatments)}; together "
            f"{treated.cost * 100:+.2f} % perplexity if costs add up (isotune remeasure checks)"
        )
    if front is None:
        return
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
    show(table)
