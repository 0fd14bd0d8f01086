"""What `isotune sensitivity`, `recover` and `remeasure` print: the cost of dropped all-reduces."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import ConfigDict

from isotune.results._result import Part, Result
from isotune.tuner.accuracy import Sensitivity
from isotune.validation.spd.checkpoint import Record

if TYPE_CHECKING:
    from isotune.tuner import drop_check
    from isotune.validation.spd.model import Scan


class SensitivityScan(Result, Sensitivity):
    """A sensitivity table, the file it is in, and what the scan took.

    `block_passes` blocks were run; running every evaluation from the start would have taken
    `whole_evaluation_passes`.
    """

    model_config = ConfigDict(**Part.model_config)
    TIDY: ClassVar = (
        "model",
        "tp",
        "block",
        "class",
        "dropped",
        "treatment",
        "perplexity",
        "growth",
    )

    kind: Literal["sensitivity"] = "sensitivity"
    file: str | None = None
    block_passes: int | None = None
    whole_evaluation_passes: int | None = None

    @classmethod
    def of(cls, table: Sensitivity, file: str | None = None, scan: "Scan | None" = None) -> Self:
        """A table as it was measured, or as it was read from its file."""
        return cls(
            **dict(table),
            file=file,
            block_passes=None if scan is None else scan.passes,
            whole_evaluation_passes=None if scan is None else scan.whole_passes,
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row per block."""
        return [
            {"block": block, "growth": cost}
            | {name: costs[block] for name, costs in self.treatments.items()}
            | ({"class": self.classes[block]} if self.classes else {})
            for block, cost in enumerate(self.blocks)
        ]

    def tidy(self) -> list[dict[str, Any]]:
        """One row per block, drop and repair, under the columns of `TIDY`.

        `dropped` is the block `alone`, or it and `all after` it, as measured; or `summed`: the
        costs that a search adds up, without a repair and with each one. `growth` is of the
        perplexity.
        """
        table, told = [], self.measured
        for block, cost in enumerate(self.blocks):
            same = {"model": self.model, "block": block}
            same |= {"class": self.classes[block]} if self.classes else {}
            if told is not None:
                same |= {"tp": told.tp}
                for dropped, found in (("alone", told.single), ("all after", told.cumulative)):
                    growth = found[block] / told.perplexity - 1
                    about = {"dropped": dropped, "treatment": "none", "growth": growth}
                    table.append({**same, **about, "perplexity": found[block]})
            repaired = {name: costs[block] for name, costs in self.treatments.items()}
            table += [
                {**same, "dropped": "summed", "treatment": name, "growth": growth}
                for name, growth in ({"none": cost} | repaired).items()
            ]
        return table


class Recovery(Result, Record):
    """What became of each dropped block of a model, and the perplexities before and after."""

    model_config = ConfigDict(**Part.model_config)

    kind: Literal["recovery"] = "recovery"
    folder: str

    @classmethod
    def of(cls, record: Record, folder: str) -> Self:
        """A recovery whose weights are in `folder`."""
        return cls(**dict(record), folder=folder)

    def rows(self) -> list[dict[str, Any]]:
        """One row per step of a block."""
        return [
            {"block": block.block} | step.model_dump()
            for block in self.blocks
            for step in block.steps
        ]


class Round(Part):
    """A drop set: its treatments, predicted and measured growth of perplexity, and latency."""

    treatments: dict[int, str]
    predicted_growth: float
    measured_growth: float
    latency_s: float | None


class DropCheck(Result):
    """A plan's drop set measured together, once or after searching again."""

    kind: Literal["drop_check"] = "drop_check"
    rounds: tuple[Round, ...]
    budget: float
    within_budget: bool
    dropped: int = 0
    sensitivity_file: str | None = None
    plan_file: str | None = None

    @classmethod
    def of(cls, check: "drop_check.DropCheck", **more: Any) -> Self:
        """The rounds that were measured."""
        rounds = tuple(
            Round.like(
                measured, predicted_growth=measured.predicted, measured_growth=measured.growth
            )
            for measured in check.rounds
        )
        return cls.like(
            check,
            rounds=rounds,
            dropped=len(check.file.plan.dropped),
            **more,
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row per round."""
        return [
            {"dropped": len(measured.treatments)} | measured.model_dump(exclude={"treatments"})
            for measured in self.rounds
        ]
