"""What `isotune calibrate` prints: a fitted profile's errors and parameters."""

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from isotune.results._result import Part, Result
from isotune.simulator.machine import OpError

if TYPE_CHECKING:
    from isotune.validation import calibrate


class Parameter(Part):
    """A fitted number in SI units, and as the profile writes it.

    `information` is the share of it that the rows tell; one that is not `determined` is the
    base's.
    """

    path: str
    base: float
    value: float
    base_text: str = ""
    value_text: str = ""
    determined: bool
    information: float
    at_limit: bool


class FittedSection(Part):
    """A section of a profile that was fitted: errors on rows held back, and the base's on them."""

    section: str
    op: str
    error: OpError
    base_error: OpError
    parameters: tuple[Parameter, ...]


class Calibration(Result):
    """A profile fitted to measurements, and what the rows left open."""

    kind: Literal["calibration"] = "calibration"
    name: str
    sections: tuple[FittedSection, ...] = Field(min_length=1)
    undetermined: tuple[str, ...] = ()
    unused_rows: dict[str, int]
    profile_file: str | None = None

    @classmethod
    def of(cls, done: "calibrate.Calibrated", profile_file: str) -> Self:
        """A calibration as it was done, its profile written to a file."""
        before, after = (p.model_dump(mode="json") for p in (done.base, done.profile))
        return cls(
            name=done.profile.name,
            sections=tuple(
                FittedSection.like(
                    section,
                    section=section.key,
                    base_error=section.before,
                    parameters=tuple(
                        Parameter.like(
                            parameter,
                            base_text=_figure(before, parameter.path),
                            value_text=_figure(after, parameter.path),
                            information=round(parameter.information, 4),
                            at_limit=parameter.determined and parameter.at_limit,
                        )
                        for parameter in section.parameters
                    ),
                )
                for section in done.sections
            ),
            undetermined=tuple(done.undetermined),
            unused_rows=done.unused,
            profile_file=profile_file,
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row per parameter."""
        return [
            {"section": section.section} | parameter.model_dump()
            for section in self.sections
            for parameter in section.parameters
        ]


def _figure(profile: dict[str, Any], path: str) -> str:
    """A figure of a profile as its file has it; quantities carry their unit."""
    from isotune.validation.calibrate import figure_at

    value = figure_at(profile, path)
    return f"{value:g}" if isinstance(value, float) else str(value)
