"""Sections of what was measured: checks, calibrations, validations."""

from isotune.render import percent, plan_text, workload_text
from isotune.report.errors import (
    Point,
    errors_figure,
    fits_figure,
    fitted,
    groups_of,
    savings_figure,
    scatter_figure,
    title_of,
)
from isotune.report.parts import Cell, Column, Figure, Section, Table
from isotune.report.saved import (
    Block,
    Calibration,
    Check,
    Checks,
    Row,
    Score,
    Validation,
)
from isotune.report.timeline import timeline_figure

_MOST_WORST = 20
_ALIKE = 4.0
"""Factor up to which blocks are drawn on one time axis."""


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


def validation_section(source: str, done: Validation) -> Section:
    """A real run beside its prediction."""
    points = _validation_points(done)
    figures = [timeline_figure(_timelines(done))] if done.timelines else []
    if points:
        figures.append(scatter_figure(points))
    weights = "random weights" if done.weights == "random" else f"weights of {done.weights}"
    notes = [f"Ran on {done.workload.tp} ranks of {done.device}, {weights}.", *done.notes]
    if done.numbers is not None:
        notes.append(
            f"Numbers: error {done.numbers.max_rel_error:.1e} of the largest logit in "
            f"{done.numbers.dtype} (allowed {done.numbers.tolerance:.0e}), against "
            f"{done.numbers.reference}."
        )
    return Section(
        kind="validation",
        source=source,
        title=workload_text(done.model, done.hardware, done.workload),
        verdict=_validation_verdict(done),
        plan=plan_text(done.plan),
        command=done.command,
        notes=tuple(notes),
        figures=tuple(figures),
        tables=(_validation_table(done),),
    )


def _validation_verdict(done: Validation) -> str:
    if done.failure is not None:
        return f"The run ended early: {done.failure}."
    checked = (
        "not checked" if done.numbers is None else "the model's" if done.numbers.ok else "WRONG"
    )
    time = done.time
    if time.measured_s is None or time.measured_saving is None:
        return f"The numbers are {checked}; no time was measured."
    low, high = (end * 100 for end in time.predicted_saving_interval)
    return (
        f"The numbers are {checked}; the predicted time is off by "
        f"{(time.predicted_s / time.measured_s - 1) * 100:+.1f} %; measured saving "
        f"{percent(time.measured_saving)}, predicted {percent(time.predicted_saving)} "
        f"(80 % interval: {low:.1f} to {high:.1f} %)."
    )


def _timelines(done: Validation) -> dict[str, dict[str, Block]]:
    """Predicted and measured blocks; together, too, where one time axis suits both."""
    views: dict[str, dict[str, Block]] = {}
    for kind in ("measured", "predicted"):
        found = {name: block for name, block in done.timelines.items() if name.endswith(kind)}
        views |= {kind: found} if found else {}
    lasted = [block.duration_s for block in done.timelines.values()]
    if len(views) > 1 and max(lasted) < _ALIKE * min(lasted):
        views = {"predicted and measured": dict(sorted(done.timelines.items()))} | views
    return views


def _pairs(done: Validation) -> list[tuple[str, str, float, float | None]]:
    time = done.time
    pairs: list[tuple[str, str, float, float | None]] = [
        ("whole pass", "serial run", time.serial_predicted_s, time.serial_measured_s),
        ("whole pass", "this plan", time.predicted_s, time.measured_s),
        (
            "whole pass",
            "exposed communication of the plan",
            time.predicted_exposed_comm_s,
            time.measured_exposed_comm_s,
        ),
    ]
    for run, kinds in (("serial run", time.serial_kinds), ("this plan", time.kinds)):
        for kind, pair in kinds.items():
            pairs.append((run, kind.replace("_", " "), pair.predicted_s, pair.measured_s))
    return pairs


def _validation_points(done: Validation) -> list[Point]:
    return [
        (group, what, predicted, measured)
        for group, what, predicted, measured in _pairs(done)
        if measured is not None and measured > 0 and predicted > 0
    ]


def _validation_table(done: Validation) -> Table:
    columns = (
        Column(name="of"),
        Column(name="what"),
        Column(name="predicted", unit="ms", digits=3),
        Column(name="measured", unit="ms", digits=3),
        Column(name="error", unit="%", digits=1),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            group,
            what,
            predicted * 1e3,
            None if measured is None else measured * 1e3,
            None if not measured else (predicted / measured - 1) * 100,
        )
        for group, what, predicted, measured in _pairs(done)
    ]
    return Table(title="Predicted beside measured", columns=columns, rows=tuple(rows))
