"""Each kind of result as a section of the page."""

from collections.abc import Callable, Sequence
from typing import Any

from isotune.render import (
    milliseconds,
    percent,
    plan_text,
    strategy_text,
    verdict,
    workload_text,
)
from isotune.report.accuracy import drop_set, front_figure, sensitivity_figure
from isotune.report.latency import breakdown_figure, lengths_figure
from isotune.report.measured import (
    calibration_section,
    check_section,
    checks_section,
    validation_section,
)
from isotune.report.parts import Cell, Column, Figure, Section, Table
from isotune.report.saved import (
    Calibration,
    Check,
    Checks,
    Prediction,
    Saved,
    SavedPolicy,
    SavedSensitivity,
    Search,
    Sweep,
    Times,
    Validation,
)
from isotune.report.study import study_figures
from isotune.report.sweeps import sweep_section
from isotune.report.timeline import timeline_figure
from tuner.accuracy import Sensitivity


def section_of(source: str, result: Saved, others: Sequence[Saved] = ()) -> Section:
    """A result's section; `others` are the results on the same page.

    Raises:
        InputError: what cannot be drawn of it.
    """
    if isinstance(result, SavedSensitivity):
        return _sensitivity(source, result.table, others)
    makers: dict[type[Saved], Callable[[str, Any], Section]] = {
        Search: _search,
        Prediction: _prediction,
        SavedPolicy: _policy,
        Sweep: sweep_section,
        Check: check_section,
        Checks: checks_section,
        Calibration: calibration_section,
        Validation: validation_section,
    }
    return makers[type(result)](source, result)


def _prediction(source: str, result: Prediction) -> Section:
    return Section(
        kind="prediction",
        source=source,
        title=workload_text(result.model, result.hardware, result.workload),
        verdict=verdict(result),
        plan=plan_text(result.plan),
        command=result.command,
        cautions=result.cautions,
        figures=(
            timeline_figure({"": _runs(result)}),
            breakdown_figure({"serial": result.baseline} | _unless_serial(result)),
        ),
        tables=(_times_table({"serial": result.baseline} | _unless_serial(result)),),
    )


def _unless_serial(result: Prediction) -> dict[str, Times]:
    serial = result.plan.strategy == "serial" and not result.plan.lossy
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


def _search(source: str, result: Search) -> Section:
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
    front = front_figure(result)
    figures += [front] if front else []
    if result.sensitivity is not None:
        why = "Marked: the blocks whose sync the best plan drops."
        figures.append(sensitivity_figure(result.sensitivity, result.plan.dropped, why))
    figures += study_figures(result, source)
    return Section(
        kind="search",
        source=source,
        title=workload_text(result.model, result.hardware, result.workload),
        verdict=verdict(result),
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
    if result.iso_pays_from is not None:
        notes.append(f"ISO pays from prompts of about {result.iso_pays_from} tokens on.")
    if result.accuracy_cost is not None and result.accuracy_budget is not None:
        notes.append(
            f"Predicted growth of perplexity: {result.accuracy_cost * 100:.2f} % "
            f"(budget {result.accuracy_budget * 100:g} %)."
        )
    if exact is not None:
        gap = "" if exact.gap is None else f"; Optuna's gap {exact.gap * 100:+.2f} %"
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


def _policy(source: str, result: SavedPolicy) -> Section:
    policy, curves = result.policy, [curve for curve in result.by_length if curve.points]
    points = [point for curve in curves for point in curve.points]
    first, last = policy.buckets[0].first, policy.buckets[-1].last
    crossover = (
        "serial at every length"
        if policy.serial_below is None
        else "ISO at every length"
        if policy.serial_below == first
        else f"serial below {policy.serial_below} tokens"
    )
    count = len(policy.buckets)
    said = (
        f"A policy of {count} bucket{'' if count == 1 else 's'} saves "
        f"{percent(policy.expected_saving)} over prompts of {first} to {last} tokens"
    )
    if points:
        middle = points[len(points) // 2]
        low, high = (end * 100 for end in middle.saving_interval)
        said += (
            f", {percent(middle.saving)} at {middle.prompt} tokens (80 % interval: {low:.1f} to "
            f"{high:.1f} %)"
        )
    marked = policy.serial_below if policy.serial_below != first else None
    figures = [lengths_figure(curves, marked, crossover_text="ISO from")] if points else []
    return Section(
        kind="policy",
        source=source,
        title=workload_text(policy.model.name, policy.hardware, policy.workload),
        verdict=f"{said}; {crossover}.",
        plan=f"{count} plan{'' if count == 1 else 's'} by prompt length, in the table below",
        command=result.command,
        figures=tuple(figures),
        tables=(_buckets_table(result),),
    )


def _buckets_table(result: SavedPolicy) -> Table:
    columns = (
        Column(name="from", unit="tokens", digits=0),
        Column(name="to", unit="tokens", digits=0),
        Column(name="run as"),
        Column(name="chunks", unit="% of the prompt"),
        Column(name="transfer"),
        Column(name="collective", unit="SMs"),
        Column(name="syncs dropped", digits=0),
        Column(name="loss up to", unit="%", digits=2),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            bucket.first,
            bucket.last,
            strategy_text(bucket.rule.strategy),
            " + ".join(f"{share * 100:.1f}" for share in bucket.rule.shares) or "-",
            bucket.rule.comm_dtype,
            "-" if bucket.rule.strategy == "serial" else str(bucket.rule.comm_sms or "default"),
            len(bucket.rule.dropped),
            bucket.loss * 100,
        )
        for bucket in result.policy.buckets
    ]
    return Table(
        title="Plans by prompt length",
        columns=columns,
        rows=tuple(rows),
        note="Loss: how far above the best plan of its own length the rule lies at most.",
    )


def _sensitivity(source: str, table: Sensitivity, others: Sequence[Saved]) -> Section:
    plans = [o for o in others if isinstance(o, Prediction) and _same(o, table)]
    if plans:
        dropped, why = plans[0].plan.dropped, "Marked: the blocks that the plan above drops."
    else:
        dropped = drop_set(table, None)
        why = "Marked: the blocks whose costs add up to at most 1 %, least sensitive first."
    order = table.order()
    worst = order[-1]
    cheap = drop_set(table, None)
    return Section(
        kind="sensitivity",
        source=source,
        title=f"Sensitivity of {table.model}",
        verdict=(
            f"{len(cheap)} of {len(table.blocks)} attention all-reduces can be dropped for a "
            f"predicted growth of perplexity of {table.cost(cheap) * 100:.2f} % (budget 1 %); "
            f"the most sensitive is block {worst} ({table.blocks[worst] * 100:+.2f} %)."
        ),
        notes=("That the costs of blocks add up is an assumption.",),
        figures=(sensitivity_figure(table, dropped, why),),
    )


def _same(result: Prediction, table: Sensitivity) -> bool:
    blocks = len(table.blocks)
    return (
        bool(result.plan.dropped)
        and result.plan.dropped[-1] < blocks
        and (result.model.lower() == table.model.lower().removesuffix("-hf"))
    )
