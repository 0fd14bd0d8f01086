"""Optuna's own figures of a search: history, Pareto front, importances."""

import json
import warnings
from collections.abc import Callable
from itertools import starmap
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from isotune.present.figures.style import BLUE, GREY, ON_BLUE, RED
from isotune.present.section import Field, Figure, Json, Table, View, number, share, table, text
from isotune.results import SearchResult, Studied
from isotune.simulator.errors import InputError
from isotune.tuner.search import study_of
from isotune.tuner.space import label_of

_SCALE = {
    "latency": (1e3, "latency (ms)"),
    "throughput": (1e3, "GPU time per token (ms)"),
    "accuracy_cost": (1e2, "growth of perplexity (%)"),
}
_FEW = 4
"""Trials below which Optuna has nothing to show."""


def study_figures(search: Studied, source: str) -> list[Figure]:
    """What can be drawn of the search's trials.

    Raises:
        InputError: its trials do not fit their own ranges.
    """
    done = [trial for trial in search.trials.history.trials if trial.state == "COMPLETE"]
    if len(done) < _FEW:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = _study(search)
            front = _pareto(search) if isinstance(search, SearchResult) else None
            figures = [_history(study, search), front, _importances(search)]
    except (ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{source}: trials.history: Optuna refuses it ({reason:.120})") from error
    return [figure for figure in figures if figure is not None]


def _scales(search: Studied) -> list[tuple[float, str]]:
    """The factor to human units of each objective, and its name with the unit."""
    return [_SCALE.get(name, (1.0, name.replace("_", " "))) for name in search.objectives]


def _study(search: Studied, *, feasible: bool = False) -> optuna.Study:
    """The search's study again, its objectives in human units; maybe its feasible trials only."""
    saved, scales = search.trials.history, _scales(search)
    tried = []
    for trial in (one for one in saved.trials if one.feasible or not feasible):
        pairs = zip(trial.values, scales, strict=trial.state == "COMPLETE")
        values = tuple(value * scale for value, (scale, _) in pairs)
        tried.append(trial.model_copy(update={"values": values}))
    ranges = {name: found.model_dump(mode="json") for name, found in saved.distributions.items()}
    return study_of(ranges, tried, len(scales))


def _first(search: Studied) -> Callable[[FrozenTrial], float] | None:
    """The first objective where there are several, as Optuna's figures of one ask for it."""
    return None if len(search.objectives) == 1 else lambda trial: float(trial.values[0])


def _plain(figure: Any) -> tuple[list[Json], Json]:
    """Optuna's figure without its template, so that the page's own colours hold."""
    figure.layout.template = None
    found = json.loads(figure.to_json())
    layout = {name: part for name, part in found["layout"].items() if name.endswith("axis")}
    return found["data"], layout


def _history(study: optuna.Study, search: Studied) -> Figure:
    from optuna.visualization import plot_optimization_history

    title = _scales(search)[0][1]
    figure = plot_optimization_history(study, target=_first(search), target_name=title)
    data, layout = _plain(figure)
    for trace, colour, name in zip(data, (BLUE, RED), ("trial", "best so far"), strict=False):
        trace["marker"] = {"color": colour, "size": 6}
        trace["line"] = {"color": colour, "width": 2, "shape": "hv"}
        trace["name"] = name
        trace["hovertemplate"] = "trial %{x}: %{y:.5~g}<extra></extra>"
    layout["xaxis"] = {"title": {"text": "trial"}}
    views = [View(label="all trials", data=data, layout=layout)]
    done = sorted(trial.values[0] for trial in study.get_trials() if trial.values)
    low, usual, high = done[0], done[int(0.9 * (len(done) - 1))], done[-1]
    if high - low > 4 * (usual - low) > 0:
        room = (usual - low) * 0.15
        near = layout | {"yaxis": layout["yaxis"] | {"range": [low - room, usual + room]}}
        views.insert(0, View(label="the best nine tenths", data=data, layout=near))
    return Figure(
        title="History of the search",
        caption=f"Optuna's trials in their order (seed {search.trials.seed}).",
        views=tuple(views),
        table=_trials_table(search),
    )


def _pareto(search: SearchResult) -> Figure | None:
    from optuna.visualization import plot_pareto_front

    if len(search.objectives) == 1:
        return None
    study, names = _study(search, feasible=True), [name for _, name in _scales(search)][:2]
    if not study.get_trials():
        return None
    figure = plot_pareto_front(study, targets=lambda trial: trial.values[:2], target_names=names)
    data, layout = _plain(figure)
    for trace, colour in zip(data, (GREY, RED), strict=False):
        trace["marker"] = {"color": colour, "size": 7}
        trace["hovertemplate"] = "%{x:.5~g}, %{y:.4~g}<extra></extra>"
    return Figure.single(
        "Pareto front of the study",
        data,
        layout,
        caption="Optuna's trials within the limits by their first two objectives; the front "
        "stands out.",
        table=_trials_table(search),
    )


def _importances(search: Studied) -> Figure | None:
    shares = sorted(search.trials.importances.items(), key=lambda item: item[1])
    if not shares:
        return None
    trace: Json = {
        "type": "bar",
        "orientation": "h",
        "x": [part for _, part in shares],
        "y": [name for name, _ in shares],
        "marker": {"color": BLUE},
        "insidetextfont": {"color": ON_BLUE},
        "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
        "showlegend": False,
        "text": [f"{part:.2f}" for _, part in shares],
        "textposition": "auto",
    }
    layout: Json = {
        "xaxis": {"title": {"text": "share of the variation"}},
        "yaxis": {"type": "category"},
    }
    title = _scales(search)[0][1]
    return Figure.single(
        "What mattered in the search",
        [trace],
        layout,
        caption=f"Share of each parameter in the variation of the {title} (PED-ANOVA).",
        table=table(
            "Importances",
            reversed(shares),
            text("parameter", lambda name, _: name),
            share("share", lambda _, part: part),
        ),
        height=300,
    )


def _trials_table(search: Studied) -> Table:
    return table(
        "Trials",
        enumerate(search.trials.history.trials),
        number("trial", lambda place, _: place),
        text("state", lambda _, trial: trial.state.lower()),
        *starmap(_objective, enumerate(_scales(search))),
        *map(_parameter, search.trials.history.distributions),
    )


def _objective(index: int, scale: tuple[float, str]) -> Field:
    factor, title = scale
    return number(
        title,
        lambda _, trial: trial.values[index] * factor if index < len(trial.values) else None,
        4,
    )


def _parameter(name: str) -> Field:
    digits = 3 if "share" in name else 0
    return number(label_of(name), lambda _, trial: trial.params.get(name), digits)
