"""The figures of each kind of result."""

from collections.abc import Callable, Sequence
from typing import Any

from isotune.present.figures.accuracy import front_figure, perplexity_figure
from isotune.present.figures.compare import compare_figure
from isotune.present.figures.deployments import deployments_figure
from isotune.present.figures.errors import errors_figure, fits_figure, groups_of
from isotune.present.figures.latency import breakdown_figure, lengths_figure
from isotune.present.figures.scatter import Point, savings_figure, scatter_figure
from isotune.present.figures.sensitivity import sensitivity_figure
from isotune.present.figures.sweep import heat_figure
from isotune.present.figures.timeline import timeline_figure
from isotune.present.phrases import op_text, plan_text, strategy_text
from isotune.present.section import Figure
from isotune.present.sections import (
    compared,
    crossover_text,
    drop_set,
    named,
    origin,
    overlapped_rows,
)
from isotune.results import (
    Block,
    Check,
    Checks,
    Deployments,
    Errors,
    FoundPolicy,
    MeasuredSearch,
    Predicted,
    Result,
    SearchResult,
    SensitivityScan,
    SharedSearch,
    Sweep,
    Times,
    Traced,
    Validation,
)

_ALIKE = 4.0
"""Factor up to which blocks are drawn on one time axis."""


def figures_of(result: Result, source: str, others: Sequence[Result] = ()) -> tuple[Figure, ...]:
    """The figures of a result; `others` are the results on the same page.

    Raises:
        InputError: its trials do not fit their own ranges.
    """
    whole: Any = result.complete()
    makers: dict[str, Callable[[], Sequence[Figure | None]]] = {
        "prediction": lambda: _predicted(whole),
        "search": lambda: _search(whole, source),
        "deployments": lambda: _deployments(whole, source),
        "shared_search": lambda: _shared(whole),
        "policy": lambda: _policy(whole),
        "sweep": lambda: _sweep(whole),
        "measured": lambda: _measured(whole),
        "check": lambda: _check(whole),
        "checks": lambda: _checks(whole),
        "calibration": lambda: [fits_figure(whole)],
        "validation": lambda: _validation(whole),
        "sensitivity": lambda: [_sensitivity(whole, others)],
        "trace": lambda: _traced(whole),
        "comparison": lambda: [compare_figure(whole)],
    }
    if result.kind not in makers:
        return ()
    return tuple(figure for figure in makers[result.kind]() if figure is not None)


def _unless_serial(result: Times, name: str) -> dict[str, Times]:
    return {} if result.is_serial else {name: result}


def _predicted(result: Predicted) -> list[Figure | None]:
    plans = {"serial": result.baseline} | _unless_serial(result, "this plan")
    return [_timeline(result), breakdown_figure(plans)]


def _timeline(result: Predicted) -> Figure | None:
    """Serial, and the plan under its technique's name."""
    runs = dict(result.timelines)
    if result.is_serial:
        runs.pop("plan", None)
    elif "plan" in runs:
        name = strategy_text(result.plan.strategy) if result.plan.chunks else "this plan"
        runs[name] = runs.pop("plan")
    return timeline_figure({"": runs}) if runs else None


def _search(result: SearchResult, source: str) -> list[Figure | None]:
    from isotune.present.figures.study import study_figures

    alone = {technique.name: technique for technique in result.techniques}
    plans: dict[str, Times] = {"serial": result.baseline, **alone}
    if all(result.plan != technique.plan for technique in result.techniques):
        plans |= _unless_serial(result, "best plan")
    figures = [_timeline(result), breakdown_figure(plans), _lengths(result)]
    figures += [perplexity_figure(result), front_figure(result)]
    if result.sensitivity is not None:
        why = "Marked: the blocks whose all-reduce the best plan drops."
        figures.append(sensitivity_figure(result.sensitivity, result.plan.dropped, why))
    return [*figures, *study_figures(result, source)]


def _lengths(result: SearchResult) -> Figure | None:
    if not any(len(curve.points) > 1 for curve in result.by_length):
        return None
    here = (result.workload.prompt, result.saving, "best plan")
    return lengths_figure(
        [curve for curve in result.by_length if curve.points],
        result.iso_pays_from,
        None if result.is_serial else here,
        "ISO pays off from",
    )


def _deployments(result: Deployments, source: str) -> list[Figure | None]:
    from isotune.present.figures.study import study_figures

    return [deployments_figure(result), *_predicted(result), *study_figures(result, source)]


def _shared(result: SharedSearch) -> list[Figure | None]:
    return [] if result.best is None else _predicted(result.best)


def _policy(result: FoundPolicy) -> list[Figure | None]:
    curves = [curve for curve in result.by_length if curve.points]
    if not curves:
        return []
    first = result.buckets[0].first
    marked = result.serial_below if result.serial_below != first else None
    text = "ISO from" if marked else crossover_text(result)
    return [lengths_figure(curves, marked, crossover_text=text)]


def _sweep(result: Sweep) -> list[Figure | None]:
    rows = overlapped_rows(result)
    return [heat_figure(rows)] if rows else []


def _measured(done: MeasuredSearch) -> list[Figure | None]:
    points = [(origin(t), plan_text(t.plan), t.predicted_s, t.measured_s) for t in done.tried]
    kinds: list[Point] = [
        ("kind of step", op_text(kind), pair.predicted_s, pair.measured_s)
        for kind, pair in done.kinds.items()
        if pair.measured_s and pair.predicted_s > 0
    ]
    plans = scatter_figure(points, "Plans, predicted against measured")
    if not kinds:
        return [plans]
    return [plans, scatter_figure(kinds, "Kinds of step, predicted against measured")]


def _check(done: Check) -> list[Figure | None]:
    points = [(row.part, row.row, row.predicted_s, row.measured_s) for row in done.scored]
    scores = done.scores
    return [
        scatter_figure(points) if points else None,
        savings_figure(done.scored),
        errors_figure(groups_of(done.groups, scores)) if scores else None,
    ]


def _checks(done: Checks) -> list[Figure | None]:
    scores: dict[str, list[tuple[str, Errors]]] = {}
    for name, check in named(done).items():
        for part, score in check.scores.items():
            scores.setdefault(part, []).append((name, score))
    points: list[Point] = [
        (check.hw, row.row, row.predicted_s, row.measured_s)
        for check in done.checks
        for row in check.scored
    ]
    return [
        errors_figure(scores, "Errors by machine") if scores else None,
        scatter_figure(points) if points else None,
    ]


def _traced(done: Traced) -> list[Figure | None]:
    return [timeline_figure({"": done.timelines})] if done.timelines else []


def _validation(done: Validation) -> list[Figure | None]:
    points: list[Point] = [
        (group, what, predicted, measured)
        for group, what, predicted, measured in compared(done)
        if measured is not None and measured > 0 and predicted > 0
    ]
    return [
        timeline_figure(_views(done)) if done.timelines else None,
        scatter_figure(points) if points else None,
    ]


def _views(done: Validation) -> dict[str, dict[str, Block]]:
    """Predicted and measured blocks; together, too, where one time axis suits both."""
    views: dict[str, dict[str, Block]] = {}
    for kind in ("measured", "predicted"):
        found = {name: block for name, block in done.timelines.items() if name.endswith(kind)}
        views |= {kind: found} if found else {}
    lasted = [block.duration_s for block in done.timelines.values()]
    if len(views) > 1 and max(lasted) < _ALIKE * min(lasted):
        views = {"predicted and measured": dict(sorted(done.timelines.items()))} | views
    return views


def _sensitivity(table: SensitivityScan, others: Sequence[Result]) -> Figure:
    for other in others:
        if isinstance(other, Predicted) and _same(other, table):
            why = "Marked: the blocks that the plan above drops."
            return sensitivity_figure(table, other.plan.dropped, why)
    why = "Marked: the blocks whose costs add up to at most 1 %, least sensitive first."
    return sensitivity_figure(table, drop_set(table), why)


def _same(result: Predicted, table: SensitivityScan) -> bool:
    """Whether a plan drops blocks of the model that a table is of."""
    dropped = result.plan.dropped
    named_alike = result.model.lower() == table.model.lower().removesuffix("-hf")
    return bool(dropped) and dropped[-1] < len(table.blocks) and named_alike
