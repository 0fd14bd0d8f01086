"""What `isotune check` prints: a profile's errors against measurements."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from isotune.results._result import MOST, Interval, Part, Result, Seconds

if TYPE_CHECKING:
    from isotune.validation import check as checked


class Errors(Part):
    """Errors of a set of rows, as fractions of the measurement."""

    rows: int = Field(ge=1)
    mape: float
    median_ape: float
    p90_ape: float
    bias: float


class Score(Errors):
    """Errors and their intervals' coverage; savings are off by percentage points."""

    coverage: float = 0.0
    saving_mae_points: float | None = None
    saving_coverage: float | None = None

    @classmethod
    def of(cls, part: "checked.Part") -> Self:
        """The errors of one operation, or of whole passes."""
        return cls.like(
            part.score,
            coverage=part.coverage,
            saving_mae_points=part.saving_mae_points,
            saving_coverage=part.saving_coverage,
        )


class Group(Errors):
    """Errors of the rows that have something in common."""

    part: str
    by: str
    group: str


class Saving(Part):
    """A saving against serial, predicted and measured."""

    predicted: float
    measured: float
    interval: Interval


class CheckedRow(Part):
    """One measurement and its prediction; `within` says whether its interval holds it."""

    part: str = ""
    row: str
    line: int
    predicted_s: Seconds
    measured_s: Seconds
    within: bool | None = None
    saving: Saving | None = None

    @classmethod
    def of(cls, part: str, row: "checked.Scored") -> Self:
        """A scored row, four digits of each time: enough for a picture."""
        return cls.like(
            row,
            part=part,
            row=row.what,
            predicted_s=float(f"{row.predicted_s:.4g}"),
            measured_s=float(f"{row.measured_s:.4g}"),
        )

    @property
    def error(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted_s / self.measured_s - 1

    @property
    def factor(self) -> float:
        """How many times too long or too short the prediction is."""
        return max(self.predicted_s / self.measured_s, self.measured_s / self.predicted_s)


class Scores(Part):
    """One profile against one table; `worst` are the worst rows of each part."""

    hw: str
    table: str
    ops: dict[str, Score]
    end_to_end: Score | None
    groups: tuple[Group, ...]
    worst: tuple[CheckedRow, ...] = ()
    scored: tuple[CheckedRow, ...] = Field(max_length=MOST, alias="rows")
    unscored: dict[str, int]

    @property
    def scores(self) -> dict[str, Score]:
        """Errors by part: operations, then whole passes."""
        passes = {} if self.end_to_end is None else {"end_to_end": self.end_to_end}
        return self.ops | passes


def _fields(done: "checked.Check", worst: int) -> dict[str, Any]:
    parts = [*done.ops, *([] if done.end_to_end is None else [done.end_to_end])]
    return {
        "hw": done.hw,
        "table": done.table,
        "ops": {part.name: Score.of(part) for part in done.ops},
        "end_to_end": None if done.end_to_end is None else Score.of(done.end_to_end),
        "groups": tuple(
            Group.like(score, part=part.name, by=by, group=label)
            for part in parts
            for (by, label), score in part.groups().items()
        ),
        "worst": tuple(
            CheckedRow.like(row, part=part.name, row=row.what, saving=None)
            for part in parts
            for row in part.worst(worst)
        ),
        "rows": tuple(CheckedRow.of(part.name, row) for part in parts for row in part.rows),
        "unscored": done.unscored,
    }


class Check(Scores, Result):
    """A profile against a table of measurements."""

    kind: Literal["check"] = "check"

    @classmethod
    def of(cls, done: "checked.Check", worst: int) -> Self:
        """A check as it was scored, with so many of the worst rows of each part."""
        return cls(**_fields(done, worst))

    def rows(self) -> list[dict[str, Any]]:
        """One row per measurement."""
        return [row.model_dump() for row in self.scored]


class Checks(Result):
    """Every table of a folder, each against the machine it names; `refused` could not be read."""

    kind: Literal["checks"] = "checks"
    checks: tuple[Scores, ...] = Field(min_length=1)
    refused: dict[str, str]

    @classmethod
    def of(cls, done: "Sequence[checked.Check]", refused: dict[str, str], worst: int) -> Self:
        """The checks of a folder."""
        checks = tuple(Scores(**_fields(item, worst)) for item in done)
        return cls(checks=checks, refused=refused)

    def rows(self) -> list[dict[str, Any]]:
        """One row per table and operation."""
        return [
            {"hw": check.hw, "table": check.table, "part": part} | score.model_dump()
            for check in self.checks
            for part, score in check.scores.items()
        ]
