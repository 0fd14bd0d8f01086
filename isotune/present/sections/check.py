"""Sections of what was measured: checks, calibrations, validations."""

from isotune.present.figures.errors import errors_figure, fits_figure, fitted, groups_of
from isotune.present.figures.scatter import Point, savings_figure, scatter_figure, title_of
from isotune.present.phrases import percent
from isotune.present.section import Cell, Column, Figure, Section, Table
from isotune.report.saved_measured import Calibration, Check, Checks, Row, Score

_MOST_WORST = 20


def check_section(source: str, done: Check) -> Section:
    """One profile against one table."""
    figures: list[Figure] = []
    if done.rows:
        figures.append(scatter_figure([_point(row) for row in done.rows]))
    savings = savings_figure(done.rows)
    figures += [savings] if savings else []
    if done.scores:
        figures.append(errors_figure(groups_of(done.groups, done.scores)))
    return Section(
        kind="check",
        source=source,
        title=f"{done.hw} against {done.table}",
        verdict=_check_verdict(done),
        command=done.command,
        notes=tuple(f"{count:,} rows not scored: {why}" for why, count in done.unscored.items()),
        figures=tuple(figures),
        tables=(_scores_table({done.hw: done}), _worst_table({done.hw: done})),
    )


def _point(row: Row) -> Point:
    return row.part, row.row, row.predicted_s, row.measured_s


def _check_verdict(done: Check) -> str:
    if not done.scores:
        return f"{done.hw} against {done.table}: no row could be scored."
    parts = [f"{title_of(part)} by {percent(score.mape)}" for part, score in done.scores.items()]
    rows = sum(score.rows for score in done.scores.values())
    within = sum(score.rows * score.coverage for score in done.scores.values()) / rows
    said = f"{done.hw} is off on average: {', '.join(parts)}"
    if done.end_to_end is not None and done.end_to_end.saving_mae_points is not None:
        said += f", savings by {done.end_to_end.saving_mae_points:.1f} percentage points"
    return f"{said}; {percent(within)} of {rows:,} measurements lie in their 80 % interval."


def checks_section(source: str, done: Checks) -> Section:
    """Many profiles, each against its own table."""
    by_name = {f"{check.hw}: {check.table}": check for check in done.checks}
    scores: dict[str, list[tuple[str, Score]]] = {}
    for name, check in by_name.items():
        for part, score in check.scores.items():
            scores.setdefault(part, []).append((name, score))
    every = [(check.hw, row) for check in done.checks for row in check.rows]
    points: list[Point] = [(hw, row.row, row.predicted_s, row.measured_s) for hw, row in every]
    figures = [errors_figure(scores, "Errors by machine")] if scores else []
    if points:
        figures.append(scatter_figure(points))
    means = [
        f"{title_of(part)} by {percent(min(found))} to {percent(max(found))}"
        for part, found in ((p, [score.mape for _, score in s]) for p, s in scores.items())
    ]
    return Section(
        kind="checks",
        source=source,
        title=f"{len(done.checks)} profiles against their measurements",
        verdict=f"{len(done.checks)} profiles are off on average: {', '.join(means)}.",
        command=done.command,
        notes=tuple(f"{name}: not scored - {why}" for name, why in done.refused.items()),
        figures=tuple(figures),
        tables=(_scores_table(by_name), _worst_table(by_name)),
    )


def _scores_table(checks: dict[str, Check]) -> Table:
    columns = (
        Column(name="machine"),
        Column(name="operation"),
        Column(name="rows", digits=0),
        *(
            Column(name=n, unit="%", digits=1)
            for n in ("mean error", "median", "p90", "bias", "in 80 % interval")
        ),
        Column(name="saving off by", unit="points", digits=1),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            title_of(part),
            s.rows,
            *(v * 100 for v in (s.mape, s.median_ape, s.p90_ape, s.bias, s.coverage)),
            s.saving_mae_points,
        )
        for name, check in checks.items()
        for part, s in check.scores.items()
    ]
    return Table(title="Errors", columns=columns, rows=tuple(rows))


def _worst_table(checks: dict[str, Check]) -> Table:
    found = [(name, row) for name, check in checks.items() for row in check.rows]
    found.sort(key=lambda item: -_factor(item[1]))
    columns = (
        Column(name="machine"),
        Column(name="row"),
        Column(name="line", digits=0),
        Column(name="predicted", unit="ms", digits=4),
        Column(name="measured", unit="ms", digits=4),
        Column(name="error", unit="%", digits=0),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            row.row,
            row.line,
            row.predicted_s * 1e3,
            row.measured_s * 1e3,
            (row.predicted_s / row.measured_s - 1) * 100,
        )
        for name, row in found[:_MOST_WORST]
    ]
    return Table(title="Worst rows", columns=columns, rows=tuple(rows))


def _factor(row: Row) -> float:
    ratio = row.predicted_s / row.measured_s
    return max(ratio, 1 / ratio)


def calibration_section(source: str, done: Calibration) -> Section:
    """A fit, and what the rows left open."""
    parts = [
        f"{fitted(s.section)} by {percent(s.error.mape)} (base: {percent(s.base_error.mape)})"
        for s in done.sections
    ]
    columns = (
        Column(name="parameter"),
        Column(name="base, SI", digits=None),
        Column(name="value, SI", digits=None),
        Column(name="the rows tell", unit="%", digits=0),
        Column(name="set by"),
        Column(name="at its limit"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            p.path,
            f"{p.base:.4g}",
            f"{p.value:.4g}",
            p.information * 100,
            "the rows" if p.determined else "the base",
            "yes" if p.at_limit else "no",
        )
        for section in done.sections
        for p in section.parameters
    ]
    return Section(
        kind="calibration",
        source=source,
        title=f"Calibration of {done.name}",
        verdict=f"{done.name} is off on rows held back from its fit: {', '.join(parts)}.",
        command=done.command,
        notes=tuple(f"{count:,} rows unused: {why}" for why, count in done.unused_rows.items()),
        figures=(fits_figure(done),),
        tables=(Table(title="Parameters", columns=columns, rows=tuple(rows)),),
    )
