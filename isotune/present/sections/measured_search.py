"""The section of a measured search: every plan that ran, predicted beside measured."""

from isotune.present.figures.scatter import Point, scatter_figure
from isotune.present.phrases import loss_text, milliseconds, percent, plan_text, workload_text
from isotune.present.section import Cell, Column, Section, Table
from isotune.report.saved_measured import MeasuredSearch, Tried
from isotune.simulator.predict import SERIAL


def measured_section(source: str, done: MeasuredSearch) -> Section:
    """The best measured plan, and where the simulator erred."""
    points = [(_origin(t), plan_text(t.plan), t.predicted_s, t.measured_s) for t in done.tried]
    kinds: list[Point] = [
        ("kind of step", kind.replace("_", " "), pair.predicted_s, pair.measured_s)
        for kind, pair in done.kinds.items()
        if pair.measured_s and pair.predicted_s > 0
    ]
    figures = [scatter_figure(points, "Plans, predicted against measured")]
    figures += [scatter_figure(kinds, "Kinds of step, predicted against measured")] if kinds else []
    title = "Measured search"
    if done.workload is not None:
        title = workload_text(done.model, done.hardware, done.workload)
    return Section(
        kind="measured search",
        source=source,
        title=title,
        verdict=_verdict(done),
        plan=plan_text(done.plan),
        command=done.command,
        notes=tuple(_notes(done)),
        figures=tuple(figures),
        tables=(_table(done),),
    )


def _verdict(done: MeasuredSearch) -> str:
    took = milliseconds(done.measured_s)
    if done.measured_saving is None or done.serial_measured_s is None:
        return f"The best plan that ran takes {took} measured; no serial run to compare it with."
    best = next((one for one in done.tried if one.plan == done.plan), None)
    runs = "" if best is None or len(best.measured_all_s) < 2 else f", runs {_spread(best)}"
    change = "saves" if done.measured_saving >= 0 else "loses"
    return (
        f"The best plan that ran takes {took} instead of {milliseconds(done.serial_measured_s)}: "
        f"{change} {percent(abs(done.measured_saving))} measured, "
        f"{percent(done.predicted_saving)} predicted ({len(done.tried)} plans ran{runs})"
        f"{loss_text(done.plan)}."
    )


def _spread(best: Tried) -> str:
    low, high = min(best.measured_all_s), max(best.measured_all_s)
    return f"from {milliseconds(low).removesuffix(' ms')} to {milliseconds(high)}"


def _notes(done: MeasuredSearch) -> list[str]:
    notes = [] if done.failure is None else [f"It ended early: {done.failure}."]
    notes.append(
        "The best plans were compared in turns, so that drift of the machine hits all alike."
        if done.compared_in_turns
        else "The best plans were not compared in turns: drift of the machine may have decided."
    )
    if done.rank_correlation is not None:
        notes.append(f"Rank correlation of predicted and measured: {done.rank_correlation:.2f}.")
    return notes


def _origin(one: Tried) -> str:
    if one.plan == SERIAL:
        return "serial"
    return "proposed by the simulator" if one.proposed else "tried by Optuna"


def _table(done: MeasuredSearch) -> Table:
    columns = (
        Column(name="plan"),
        Column(name="from"),
        Column(name="predicted", unit="ms", digits=3),
        Column(name="measured", unit="ms", digits=3),
        Column(name="error", unit="%", digits=1),
        Column(name="runs", digits=0),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            plan_text(one.plan),
            _origin(one),
            one.predicted_s * 1e3,
            one.measured_s * 1e3,
            (one.predicted_s / one.measured_s - 1) * 100,
            len(one.measured_all_s),
        )
        for one in done.tried
    ]
    return Table(title="Plans that ran, fastest first", columns=columns, rows=tuple(rows))
