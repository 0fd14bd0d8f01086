"""The sections of a search and of a single prediction."""

from typing import Any

from isotune.present.figures.accuracy import front_figure, perplexity_figure
from isotune.present.figures.latency import breakdown_figure, lengths_figure
from isotune.present.figures.sensitivity import sensitivity_figure
from isotune.present.figures.study import study_figures
from isotune.present.figures.timeline import timeline_figure
from isotune.present.phrases import (
    gap_text,
    milliseconds,
    pays_text,
    percent,
    plan_text,
    strategy_text,
    verdict,
    workload_text,
)
from isotune.present.section import Cell, Column, Figure, Section, Table
from isotune.report.saved import Prediction, Search, Times


def prediction_section(source: str, result: Prediction) -> Section:
    """One plan beside the serial run."""
    return Section(
        kind="prediction",
        source=source,
        title=workload_text(result.model, result.hardware, result.workload),
        verdict=_verdict(result),
        plan=plan_text(result.plan),
        command=result.command,
        cautions=result.cautions,
        figures=(
            timeline_figure({"": _runs(result)}),
            breakdown_figure({"serial": result.baseline} | _unless_serial(result)),
        ),
        tables=(_times_table({"serial": result.baseline} | _unless_serial(result)),),
    )


def _verdict(result: Prediction) -> str:
    """The verdict; a serial run, which saves nothing, has the interval of its latency."""
    said = verdict(result)
    if _unless_serial(result):
        return said
    low, high = map(milliseconds, result.latency_interval_s)
    return f"{said.removesuffix('.')} (80 % interval: {low.removesuffix(' ms')} to {high})."


def _unless_serial(result: Prediction) -> dict[str, Times]:
    serial = not (result.plan.overlaps or result.plan.lossy)
    return {} if serial else {"this plan": result}


def _runs(result: Prediction) -> dict[str, Any]:
    """The timelines to draw: serial, and the plan's under its technique's name."""
    runs = dict(result.timelines)
    if not _unless_serial(result):
        runs.pop("plan", None)
    elif "plan" in runs:
        name = strategy_text(result.plan.strategy) if result.plan.chunks else "this plan"
        runs[name] = runs.pop("plan")
    return runs


def search_section(source: str, result: Search) -> Section:
    """The best plan beside serial, each technique and what was tried."""
    alone = {technique.name: technique for technique in result.techniques}
    plans: dict[str, Times] = {"serial": result.baseline, **alone}
    if all(result.plan != technique.plan for technique in result.techniques):
        plans |= {"best plan": result} if _unless_serial(result) else {}
    figures: list[Figure] = [timeline_figure({"": _runs(result)}), breakdown_figure(plans)]
    if any(len(curve.points) > 1 for curve in result.by_length):
        here = (result.workload.prompt, result.saving, "best plan")
        shown = here if _unless_serial(result) else None
        figures.append(
            lengths_figure(
                [curve for curve in result.by_length if curve.points],
                result.iso_pays_from,
                shown,
                "ISO pays from",
            )
        )
    fronts = (perplexity_figure(result), front_figure(result))
    figures += [front for front in fronts if front]
    if result.sensitivity is not None:
        why = "Marked: the blocks whose sync the best plan drops."
        figures.append(sensitivity_figure(result.sensitivity, result.plan.dropped, why))
    figures += study_figures(result, source)
    return Section(
        kind="search",
        source=source,
        title=workload_text(result.model, result.hardware, result.workload),
        verdict=_verdict(result),
        plan=plan_text(result.plan),
        command=result.command,
        notes=tuple(_search_notes(result)),
        cautions=result.cautions,
        figures=tuple(figures),
        tables=(_techniques_table(result), *_robust_tables(result), *_front_tables(result)),
    )


def _search_notes(result: Search) -> list[str]:
    trials, exact = result.trials, result.exact
    notes = [
        f"The best plan ends {percent(result.latency_s / result.bound_s - 1)} above its lower "
        "bound max(C, M)."
    ]
    if not result.baseline.fits:
        notes.append("Serial does not fit in memory; its times are predicted all the same.")
    if result.iso_pays_from is not None:
        notes.append(pays_text(result.iso_pays_from, result.iso_surely_pays_from))
    if result.accuracy_cost is not None and result.accuracy_budget is not None:
        notes.append(
            f"Predicted growth of perplexity: {result.accuracy_cost * 100:.2f} % "
            f"(budget {result.accuracy_budget * 100:g} %)."
        )
    if exact is not None:
        gap = "" if exact.gap is None else f"; {gap_text(exact.gap)}"
        notes.append(
            f"Exact optimum over {exact.compared:,} plans: {milliseconds(exact.latency_s)} "
            f"(proven to {(exact.latency_s / exact.bound_s - 1) * 100:.2f} %){gap}."
        )
    ended = " It was interrupted." if trials.interrupted else ""
    notes.append(
        f"Optuna ran {trials.run} trials (seed {trials.seed}); {trials.pruned} did not fit, "
        f"{trials.failed} failed.{ended}"
    )
    if result.robust is not None:
        low, high = (percent(end) for end in result.robust.saving_interval)
        notes.append(
            f"Robust choice ({result.robust.mode}): saves {low} to {high} (5-95 %), the best plan "
            f"in {percent(result.robust.best_in)} of the draws of the profile's errors."
        )
    return notes


_TIMES = (
    Column(name="latency", unit="ms", digits=2),
    Column(name="saving", unit="%", digits=1),
    Column(name="interval from", unit="%", digits=1),
    Column(name="interval to", unit="%", digits=1),
    Column(name="exposed", unit="ms", digits=2),
    Column(name="compute C", unit="ms", digits=2),
    Column(name="communication M", unit="ms", digits=2),
)


def _times(times: Times) -> tuple[Cell, ...]:
    return (
        times.latency_s * 1e3,
        times.saving * 100,
        *(end * 100 for end in times.saving_interval),
        times.exposed_comm_s * 1e3,
        times.compute_s * 1e3,
        times.comm_s * 1e3,
    )


def _times_table(plans: dict[str, Times]) -> Table:
    rows = tuple((name, *_times(times)) for name, times in plans.items())
    return Table(title="Times", columns=(Column(name="plan"), *_TIMES), rows=rows)


def _techniques_table(result: Search) -> Table:
    columns = (Column(name="technique"), *_TIMES, Column(name="numbers"), Column(name="plan"))
    rows: list[tuple[Cell, ...]] = [
        ("serial", *_times(result.baseline), "same", plan_text(result.baseline.plan))
    ]
    for one in result.techniques:
        kind = ("changed" if one.lossy else "same") + (" (assumed)" if one.assumed else "")
        rows.append((one.name, *_times(one), kind, plan_text(one.plan)))
    return Table(
        title="Each technique alone",
        columns=columns,
        rows=tuple(rows),
        note="C and M: compute and communication with the GPU to themselves. Assumed: no "
        "sensitivity file says what it costs.",
    )


def _robust_tables(result: Search) -> list[Table]:
    if result.robust is None:
        return []
    rows = tuple((plan_text(w.plan), w.share * 100) for w in result.robust.winners)
    columns = (Column(name="plan"), Column(name="best in", unit="% of draws", digits=1))
    return [Table(title="Best plans under the profile's errors", columns=columns, rows=rows)]


def _front_tables(result: Search) -> list[Table]:
    if len(result.objectives) < 2 or not result.front:
        return []
    units = {"latency": ("ms", 1e3, 2), "accuracy_cost": ("%", 1e2, 3)}
    parts = [(name, *units.get(name, ("", 1.0, 4))) for name in result.objectives]
    columns = tuple(
        Column(name=name.replace("_", " "), unit=unit, digits=digits)
        for name, unit, _, digits in parts
    )
    rows: list[tuple[Cell, ...]] = [
        (
            *(item.values[n] * scale for n, (_, _, scale, _) in enumerate(parts)),
            plan_text(item.plan),
        )
        for item in result.front
        if len(item.values) == len(parts)
    ]
    return [Table(title="Pareto set", columns=(*columns, Column(name="plan")), rows=tuple(rows))]
