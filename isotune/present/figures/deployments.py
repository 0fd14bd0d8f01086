"""Throughput against latency of deployments: every trial, and the front."""

from collections.abc import Sequence

from isotune.present.figures.style import BLUE, CYCLE, GREY, INK, RED, SYMBOLS, axis, dots
from isotune.present.phrases import milliseconds
from isotune.present.section import Figure, Json
from isotune.present.sections import deployments_table
from isotune.results import Deployments, Trial


def deployments_figure(result: Deployments) -> Figure:
    """Throughput per GPU over latency: every trial by its number of GPUs, and the front."""
    tokens = result.workload.tokens
    tried = [_deployment(trial, result.objectives) for trial in result.trials.history.trials]
    trials = [deployment for deployment in tried if deployment is not None]
    sizes = sorted({tp for tp, *_ in trials} | {item.tp for item in result.front})
    data = []
    for number, tp in enumerate(sizes):
        alike = [(batch, seconds) for size, batch, seconds in trials if size == tp]
        marker = {
            "color": _COLOURS[number % len(_COLOURS)],
            "symbol": SYMBOLS[number % len(SYMBOLS)],
            "size": 7,
            "opacity": 0.6,
        }
        points = [(tp, batch, seconds, batch * tokens / (seconds * tp)) for batch, seconds in alike]
        data.append(_dots(f"tp {tp}", points, marker))
    best = [
        (item.tp, item.batch, item.latency_s, item.tokens_per_s_per_gpu) for item in result.front
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
        caption="Every trial by its tensor-parallel size; the line joins the deployments that no "
        "other beats in both.",
        table=deployments_table(result),
        height=440,
    )


_COLOURS = (*(colour for colour in CYCLE if colour not in (RED, BLUE, GREY)), GREY)
_Point = tuple[int, int, float, float]
"""Tensor-parallel size, batch, seconds, tokens/s per GPU."""


def _dots(name: str, points: Sequence[_Point], marker: Json) -> Json:
    return dots(
        name,
        [seconds * 1e3 for *_, seconds, _ in points],
        [throughput for *_, throughput in points],
        "%{customdata}: %{x:.4~g} ms, %{y:.4~g} tokens/s per GPU",
        marker,
        customdata=[f"tp {tp}, batch {batch}" for tp, batch, *_ in points],
    )


def _latency(point: _Point) -> float:
    return point[2]


def _deployment(trial: Trial, names: tuple[str, ...]) -> tuple[int, int, float] | None:
    """A trial's tensor-parallel size, batch and latency; None if it did not end with one."""
    if "latency" not in names or len(trial.values) != len(names) or not trial.feasible:
        return None
    tp, batch = trial.params.get("tp"), trial.params.get("batch")
    seconds = trial.values[names.index("latency")]
    if not (isinstance(tp, int) and isinstance(batch, int) and tp > 0 and seconds > 0):
        return None
    return tp, batch, seconds


def _limit(seconds: float) -> Json:
    at = seconds * 1e3
    line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": at, "x1": at}
    text = {"yref": "paper", "y": 0, "yanchor": "bottom", "xanchor": "left", "x": at}
    return {
        "shapes": [line | {"line": {"color": INK, "dash": "dot"}}],
        "annotations": [text | {"text": f"limit {milliseconds(seconds)}", "showarrow": False}],
    }
