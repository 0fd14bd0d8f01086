"""Throughput against latency of deployments: every trial, and the front."""

from collections.abc import Sequence

from isotune.present.figures.style import BLUE, CYCLE, GREY, INK, RED, SYMBOLS, axis, dots
from isotune.present.phrases import milliseconds
from isotune.present.section import Figure, Json
from isotune.present.sections import deployments_table
from isotune.results import Deployments, Trial
from isotune.simulator.architecture import Parallelism


def deployments_figure(result: Deployments) -> Figure:
    """Throughput per GPU over latency: every trial by its number of GPUs, and the front."""
    tokens = result.workload.tokens
    tried = [_deployment(trial, result.objectives) for trial in result.trials.history.trials]
    trials = [deployment for deployment in tried if deployment is not None]
    layouts = {ranks for ranks, *_ in trials} | {item.ranks for item in result.front}
    data = []
    for number, ranks in enumerate(sorted(layouts, key=_size)):
        alike = [(batch, seconds) for one, batch, seconds in trials if one == ranks]
        marker = {
            "color": _COLOURS[number % len(_COLOURS)],
            "symbol": SYMBOLS[number % len(SYMBOLS)],
            "size": 7,
            "opacity": 0.6,
        }
        gpus = ranks.gpus
        points = [
            (ranks, batch, seconds, batch * tokens / (seconds * gpus)) for batch, seconds in alike
        ]
        data.append(_dots(ranks.text, points, marker))
    best = [
        (item.ranks, item.batch, item.latency_s, item.tokens_per_s_per_gpu) for item in result.front
    ]
    front = _dots(
        "no other is better in both", sorted(best, key=_latency), {"color": BLUE, "size": 9}
    )
    front |= {"mode": "lines+markers", "line": {"color": BLUE, "width": 2, "shape": "hv"}}
    star = {"color": RED, "size": 14, "symbol": "star"}
    data += [front, _dots("chosen", best[:1], star)]
    layout: Json = {"xaxis": axis("latency (ms)"), "yaxis": axis("tokens/s per GPU")}
    if result.latency_limit_s is not None:
        layout |= _limit(result.latency_limit_s)
    return Figure.single(
        "Throughput and latency",
        data,
        layout,
        caption="Every trial by its layout; the line joins the deployments that no "
        "other beats in both.",
        table=deployments_table(result),
        height=440,
    )


_COLOURS = (*(colour for colour in CYCLE if colour not in (RED, BLUE, GREY)), GREY)
_Point = tuple[Parallelism, int, float, float]
"""Layout, batch, seconds, tokens/s per GPU."""


def _dots(name: str, points: Sequence[_Point], marker: Json) -> Json:
    return dots(
        name,
        [seconds * 1e3 for *_, seconds, _ in points],
        [throughput for *_, throughput in points],
        "%{customdata}: %{x:.4~g} ms, %{y:.4~g} tokens/s per GPU",
        marker,
        customdata=[f"{ranks.text}, batch {batch}" for ranks, batch, *_ in points],
    )


def _latency(point: _Point) -> float:
    return point[2]


def _size(ranks: Parallelism) -> tuple[int, ...]:
    return ranks.gpus, ranks.tp, ranks.cp, ranks.dp, ranks.ep


def _deployment(trial: Trial, names: tuple[str, ...]) -> tuple[Parallelism, int, float] | None:
    """A trial's layout, batch and latency; None if it did not end with one."""
    if "latency" not in names or len(trial.values) != len(names) or not trial.feasible:
        return None
    layout, batch = trial.params.get("layout"), trial.params.get("batch")
    seconds = trial.values[names.index("latency")]
    if not (isinstance(layout, str) and isinstance(batch, int) and seconds > 0):
        return None
    try:
        return Parallelism.read(layout), batch, seconds
    except ValueError:  # a file from outside
        return None


def _limit(seconds: float) -> Json:
    at = seconds * 1e3
    line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": at, "x1": at}
    text = {"yref": "paper", "y": 0, "yanchor": "bottom", "xanchor": "left", "x": at}
    return {
        "shapes": [line | {"line": {"color": INK, "dash": "dot"}}],
        "annotations": [text | {"text": f"limit {milliseconds(seconds)}", "showarrow": False}],
    }
