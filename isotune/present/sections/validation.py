"""The section of a validation: a real run beside its prediction."""

from isotune.present.figures.scatter import Point, scatter_figure
from isotune.present.figures.timeline import timeline_figure
from isotune.present.phrases import percent, plan_text, workload_text
from isotune.present.section import Cell, Column, Section, Table
from isotune.report.saved import Block
from isotune.report.saved_measured import Validation

_ALIKE = 4.0
"""Factor up to which blocks are drawn on one time axis."""


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
