"""The section of a calibration: errors before and after, every parameter and what set it."""

from isotune.present.phrases import count, fitted_text, percent
from isotune.present.section import Cell, Column, Section, Table
from isotune.results import Calibration, FittedSection


def calibration_section(done: Calibration) -> Section:
    """A fit, and what the rows left open."""
    parts = [
        f"{fitted_text(s.section)} by {percent(s.error.mape)} (base: {percent(s.base_error.mape)})"
        for s in done.sections
    ]
    open_ones = ", ".join(done.undetermined) or "none"
    return Section(
        kind="calibration",
        title=f"Calibration of {done.name}",
        verdict=f"{done.name} is off on rows held back from its fit: {', '.join(parts)}.",
        command=done.command,
        tables=(_errors_table(done), *map(_parameters_table, done.sections)),
        notes=(
            f"Not determined by the rows, kept from the base: {open_ones}",
            *(f"{count(n, 'row')} not used: {why}" for why, n in done.unused_rows.items()),
        ),
    )


def _errors_table(done: Calibration) -> Table:
    columns = (
        Column(name="section"),
        Column(name="fitted", digits=0),
        Column(name="held back", digits=0),
        *(
            Column(name=name, unit="%", digits=1)
            for name in ("base off by", "off by", "median", "p90")
        ),
        Column(name="bias", unit="%", digits=1, signed=True),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            fitted_text(section.section),
            section.error.rows,
            section.error.held_back or "0 (of the fit)",
            section.base_error.mape * 100,
            *(v * 100 for v in (section.error.mape, section.error.median, section.error.p90)),
            section.error.bias * 100,
        )
        for section in done.sections
    ]
    return Table(title="Errors", columns=columns, rows=tuple(rows))


def _parameters_table(section: FittedSection) -> Table:
    title = fitted_text(section.section)
    columns = (
        Column(name="parameter", short=title),
        Column(name="base"),
        Column(name="fitted"),
        Column(name="set by rows", unit="%", digits=1),
        Column(name="note", short=" "),
    )
    rows: list[tuple[Cell, ...]] = []
    for one in section.parameters:
        note = "" if one.determined else "not determined, kept"
        rows.append(
            (
                one.path.removeprefix(f"{section.section}."),
                one.base_text or f"{one.base:.4g}",
                one.value_text or f"{one.value:.4g}",
                one.information * 100,
                "at the end of its range" if one.at_limit else note,
            )
        )
    return Table(title=f"Parameters, {title}", columns=columns, rows=tuple(rows))
