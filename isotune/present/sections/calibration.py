"""The section of a calibration: errors before and after, every parameter and what set it."""

from isotune.present.phrases import count, fitted_text, percent
from isotune.present.section import Section, Table, number, share, table, text
from isotune.results import Calibration, FittedSection, Parameter


def calibration_section(done: Calibration) -> Section:
    """A fit, and what the rows left open."""
    parts = [
        f"{fitted_text(s.section)} by {percent(s.error.mape)} (base: {percent(s.base_error.mape)})"
        for s in done.sections
    ]
    undetermined = ", ".join(done.undetermined) or "none"
    return Section(
        kind="calibration",
        title=f"Calibration of {done.name}",
        verdict=f"{done.name} is off on rows held back from its fit: {', '.join(parts)}.",
        command=done.command,
        tables=(_errors_table(done), *map(_parameters_table, done.sections)),
        notes=(
            f"Not determined by the rows, kept from the base: {undetermined}",
            *(f"{count(n, 'row')} not used: {why}" for why, n in done.unused_rows.items()),
        ),
    )


def _errors_table(done: Calibration) -> Table:
    return table(
        "Errors",
        done.sections,
        text("section", lambda fit: fitted_text(fit.section)),
        number("fitted", lambda fit: fit.error.rows),
        number("held back", lambda fit: fit.error.held_back or "0 (of the fit)"),
        share("base off by", lambda fit: fit.base_error.mape),
        share("off by", lambda fit: fit.error.mape),
        share("median", lambda fit: fit.error.median),
        share("p90", lambda fit: fit.error.p90),
        share("bias", lambda fit: fit.error.bias, signed=True),
    )


def _parameters_table(section: FittedSection) -> Table:
    title = fitted_text(section.section)
    return table(
        f"Parameters, {title}",
        section.parameters,
        text("parameter", lambda p: p.path.removeprefix(f"{section.section}."), short=title),
        text("base", lambda p: p.base_text or f"{p.base:.4g}"),
        text("fitted", lambda p: p.value_text or f"{p.value:.4g}"),
        share("set by rows", lambda p: p.information),
        text("note", _parameter_note, short=" "),
    )


def _parameter_note(parameter: Parameter) -> str:
    if parameter.at_limit:
        return "at the end of its range"
    return "" if parameter.determined else "not determined, kept"
