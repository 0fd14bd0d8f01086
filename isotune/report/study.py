"""Optuna's own figures of a search: history, Pareto front, importances."""

import json
from collections.abc import Callable
from typing import Any

import optuna

from isotune.report.parts import Cell, Column, Figure, Json, Table, View
from isotune.report.saved import Search
from isotune.report.style import BLUE, GREY, ORANGE, RED
from simulator.errors import InputError
from tuner.history import History, Tried, study_of

_SCALE = {"latency": (1e3, "latency (ms)"), "accuracy_cost": (1e2, "growth of perplexity (%)")}
_FEW = 4
"""Trials below which Optuna has nothing to show."""


def study_figures(search: Search, source: str) -> list[Figure]:
    """What can be drawn of the search's trials.

    Raises:
        InputError: its trials do not fit their own ranges.
    """
    done = [trial for trial in search.trials.history.trials if trial.state == "COMPLETE"]
    if len(done) < _FEW:
        return []
    try:
        study = _study(search)
        figures = [_history(study, search)]
        if len(search.objectives) > 1:
            figures.append(_pareto(study, search))
        importances = _importances(study, search)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{source}: trials.history: Optuna refuses it ({reason:.120})") from error
    return [*figures, *([importances] if importances else [])]


def _study(search: Search) -> optuna.Study:
    saved = search.trials.history
    history = History(
        distributions={n: r.model_dump(mode="json") for n, r in saved.distributions.items()},
        trials=tuple(Tried(**trial.model_dump()) for trial in saved.trials),
    )
    return study_of(history, len(search.objectives))


def _scaled(search: Search, place: int) -> tuple[Callable[[Any], float], str]:
    """What a trial has of an objective in human units, and its name."""
    name = search.objectives[place]
    scale, title = _SCALE.get(name, (1.0, name.replace("_", " ")))
    return lambda trial: float(trial.values[place]) * scale, title


def _plain(figure: Any) -> tuple[list[Json], Json]:
    """Optuna's figure without its template, so that the page's own colours hold."""
    figure.layout.template = None
    found = json.loads(figure.to_json())
    layout = {
        name: part for name, part in found["layout"].items() if name not in ("title", "template")
    }
    return found["data"], layout


def _history(study: optuna.Study, search: Search) -> Figure:
    from optuna.visualization import plot_optimization_history

    target, title = _scaled(search, 0)
    data, layout = _plain(plot_optimization_history(study, target=target, target_name=title))
    colours = (BLUE, ORANGE, GREY)
    for trace, colour in zip(data, colours, strict=False):
        trace["marker"] = {"color": colour, "size": 6}
        trace["line"] = {"color": colour, "width": 2}
        trace["hovertemplate"] = f"trial %{{x}}: %{{y:.5~g}}<extra></extra>"
    layout["xaxis"] = {"title": {"text": "trial"}}
    return Figure(
        title="History of the search",
        caption=f"Optuna's trials in their order; the line is the best so far (seed {search.trials.seed}).",
        views=(View(label="", data=data, layout=layout),),
        table=_trials_table(search),
    )


def _pareto(study: optuna.Study, search: Search) -> Figure:
    from optuna.visualization import plot_pareto_front

    parts = [_scaled(search, place) for place in range(len(search.objectives))]
    figure = plot_pareto_front(
        study,
        targets=lambda trial: [target(trial) for target, _ in parts],
        target_names=[title for _, title in parts],
    )
    data, layout = _plain(figure)
    for trace, colour in zip(data, (GREY, RED, ORANGE), strict=False):
        trace["marker"] = {"color": colour, "size": 7}
        trace["hovertemplate"] = "%{x:.5~g}, %{y:.4~g}<extra></extra>"
    return Figure(
        title="Pareto front of the study",
        caption="Optuna's trials by their objectives; those on the front stand out.",
        views=(View(label="", data=data, layout=layout),),
        table=_trials_table(search),
    )


def _importances(study: optuna.Study, search: Search) -> Figure | None:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.visualization import plot_param_importances

    target, title = _scaled(search, 0)
    evaluator = PedAnovaImportanceEvaluator()
    try:
        shares = get_param_importances(study, evaluator=evaluator, target=target)
    except (ValueError, RuntimeError):
        return None
    figure = plot_param_importances(study, evaluator=evaluator, target=target, target_name=title)
    data, layout = _plain(figure)
    for trace in data:
        trace["marker"] = {"color": BLUE}
        trace["hovertemplate"] = "%{y}: %{x:.3f}<extra></extra>"
    layout["showlegend"] = False
    rows: list[tuple[Cell, ...]] = [(name, share * 100) for name, share in shares.items()]
    columns = (Column(name="parameter"), Column(name="share", unit="%", digits=1))
    return Figure(
        title="What mattered in the search",
        caption=f"Share of each parameter in the variation of the {title} (PED-ANOVA).",
        views=(View(label="", data=data, layout=layout),),
        table=Table(title="Importances", columns=columns, rows=tuple(rows)),
        height=300,
    )


def _trials_table(search: Search) -> Table:
    names = list(search.trials.history.distributions)
    scales = [_SCALE.get(name, (1.0, name.replace("_", " "))) for name in search.objectives]
    rows: list[tuple[Cell, ...]] = [
        (
            number,
            trial.state.lower(),
            *(value * scale for value, (scale, _) in zip(trial.values, scales, strict=False)),
            *[None] * (len(scales) - len(trial.values)),
            *(trial.params.get(name) for name in names),
        )
        for number, trial in enumerate(search.trials.history.trials)
    ]
    columns = (
        Column(name="trial", digits=0),
        Column(name="state"),
        *(Column(name=title, digits=4) for _, title in scales),
        *(Column(name=name, digits=3 if "share" in name else 0) for name in names),
    )
    return Table(title="Trials", columns=columns, rows=tuple(rows))
