"""Throughput against latency of deployments: every trial, and the front."""

from isotune.present.figures.style import BLUE, CYCLE, GREY, INK, RED, SYMBOLS, axis
from isotune.present.phrases import milliseconds
from isotune.present.section import Figure, Json, View
from isotune.present.sections.search import deployments_table
from isotune.results import Deployed, Deployments, Trial


def deployments_figure(result: Deployments) -> Figure:
    """Throughput per GPU over latency: every trial by its number of GPUs, and the front."""
    tokens = result.workload.tokens
    places = [_place(trial, result.objectives) for trial in result.trials.history.trials]
    trials = [place for place in places if place is not None]
    sizes = sorted({tp for tp, *_ in trials} | {item.tp for item in result.front})
    data = []
    for place, tp in enumerate(sizes):
        here = [(seconds, batch) for at, batch, seconds in trials if at == tp]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"tp {tp}",
                "x": [seconds * 1e3 for seconds, _ in here],
                "y": [batch * tokens / (seconds * tp) for seconds, batch in here],
                "customdata": [f"tp {tp}, batch {batch}" for _, batch in here],
                "marker": {
                    "color": _COLOURS[place % len(_COLOURS)],
                    "symbol": SYMBOLS[place % len(SYMBOLS)],
                    "size": 7,
                    "opacity": 0.6,
                },
                "hovertemplate": _HOVER,
            }
        )
    data += [_line(result.front), _star(result.front[0])]
    layout: Json = {"xaxis": axis("latency (ms)"), "yaxis": axis("tokens/s per GPU")}
    if result.latency_limit_s is not None:
        layout |= _limit(result.latency_limit_s)
    return Figure(
        title="Throughput and latency",
        caption="Every trial by its tensor-parallel size; the line joins the deployments that no "
        "other beats in both.",
        views=(View(label="", data=data, layout=layout),),
        table=deployments_table(result),
        height=440,
    )


_HOVER = "%{customdata}: %{x:.4~g} ms, %{y:.4~g} tokens/s per GPU<extra></extra>"
_COLOURS = (*(colour for colour in CYCLE if colour not in (RED, BLUE, GREY)), GREY)


def _place(trial: Trial, names: tuple[str, ...]) -> tuple[int, int, float] | None:
    """A trial's tensor-parallel size, batch and latency; None if it did not end with one."""
    if "latency" not in names or len(trial.values) != len(names) or not trial.feasible:
        return None
    tp, batch = trial.params.get("tp"), trial.params.get("batch")
    seconds = trial.values[names.index("latency")]
    if not (isinstance(tp, int) and isinstance(batch, int) and tp > 0 and seconds > 0):
        return None
    return tp, batch, seconds


def _line(front: tuple[Deployed, ...]) -> Json:
    ordered = sorted(front, key=lambda item: item.latency_s)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "no other is better in both",
        "x": [item.latency_s * 1e3 for item in ordered],
        "y": [item.tokens_per_s_per_gpu for item in ordered],
        "customdata": [f"tp {item.tp}, batch {item.batch}" for item in ordered],
        "marker": {"color": BLUE, "size": 9},
        "line": {"color": BLUE, "width": 2, "shape": "hv"},
        "hovertemplate": _HOVER,
    }


def _star(chosen: Deployed) -> Json:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "chosen",
        "x": [chosen.latency_s * 1e3],
        "y": [chosen.tokens_per_s_per_gpu],
        "customdata": [f"tp {chosen.tp}, batch {chosen.batch}"],
        "marker": {"color": RED, "size": 14, "symbol": "star"},
        "hovertemplate": _HOVER,
    }


def _limit(seconds: float) -> Json:
    at = seconds * 1e3
    line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": at, "x1": at}
    text = {"yref": "paper", "y": 0, "yanchor": "bottom", "xanchor": "left", "x": at}
    return {
        "shapes": [line | {"line": {"color": INK, "dash": "dot"}}],
        "annotations": [text | {"text": f"limit {milliseconds(seconds)}", "showarrow": False}],
    }
