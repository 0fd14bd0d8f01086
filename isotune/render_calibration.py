"""A calibration for people: errors before and after, then every parameter and what set it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from isotune.present.phrases import count as plural
from isotune.present.phrases import figure, percent
from isotune.render import new_table
from isotune.validation.calibrate import figure_at

if TYPE_CHECKING:
    from isotune.validation.calibrate import Calibrated, SectionReport


def calibration_view(done: "Calibrated") -> RenderableType:
    """Errors by section, parameters, and what the rows left open."""
    return Group(*_parts(done))


def _parts(done: "Calibrated") -> Iterator[RenderableType]:
    yield Text(
        f"{done.profile.name}: fitted {plural(len(done.sections), 'section')} of the profile",
        style="bold",
    )
    yield Text()
    yield _errors(done)
    for section in done.sections:
        yield Text()
        yield _parameters(done, section)
    open_ones = done.undetermined
    yield Text()
    yield Text(
        "Not determined by the rows, kept from the base: "
        + (", ".join(open_ones) if open_ones else "none")
    )
    for reason, count in done.unused.items():
        yield Text(f"{count} rows not used: {reason}")


def _errors(done: "Calibrated") -> RenderableType:
    errors = new_table(
        "section", "fitted", "held back", "base off by", "off by", "median", "p90", "bias"
    )
    for section in done.sections:
        error = section.error
        errors.add_row(
            _short(section.key),
            str(error.rows),
            str(error.held_back) if error.held_back else "0 (of the fit)",
            percent(section.before.mape),
            percent(error.mape),
            percent(error.median),
            percent(error.p90),
            f"{error.bias * 100:+.1f} %",
        )
    return errors


def _parameters(done: "Calibrated", section: "SectionReport") -> RenderableType:
    before = done.base.model_dump(mode="json")
    after = done.profile.model_dump(mode="json")
    rows = new_table(_short(section.key), "base", "fitted", "set by rows", "")
    rows.columns[-1].justify = "left"
    for parameter in section.parameters:
        note = "" if parameter.determined else "not determined, kept"
        if parameter.determined and parameter.at_limit:
            note = "at the end of its range"
        rows.add_row(
            parameter.path.removeprefix(section.key + "."),
            figure(figure_at(before, parameter.path)),
            figure(figure_at(after, parameter.path)),
            percent(parameter.information),
            note,
        )
    return rows


def _short(key: str) -> str:
    return key.removeprefix("collectives.algorithms.").removesuffix(".protocols")
