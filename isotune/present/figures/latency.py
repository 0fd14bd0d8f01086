"""Where the time goes, and what is saved at which prompt length."""

import math
from collections.abc import Mapping, Sequence

from isotune.present.figures.style import (
    BLUE,
    CYCLE,
    DASHES,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PAPER,
    RED,
    SKY,
    SYMBOLS,
    axis,
    rows_axis,
    shown,
    tokens_axis,
    tokens_text,
)
from isotune.present.section import Cell, Column, Figure, Json, Table, View
from isotune.results import Curve, Times

_COMPUTE = {
    "gemm": ("GEMM", BLUE),
    "attention": ("attention", GREEN),
    "elementwise": ("norms and elementwise", SKY),
    "runtime": ("host", GREY),
}
_CONTENTION, _EXPOSED = ("lost to contention", ORANGE), ("exposed communication", RED)


def breakdown_figure(plans: Mapping[str, Times]) -> Figure:
    """A stacked bar per plan that ends at its latency, with its 80 % interval."""
    stacks = {name: _stack(times) for name, times in plans.items()}
    parts = [*_COMPUTE.values(), _CONTENTION, _EXPOSED]
    used = [p for p in parts if any(stack[p[0]] > 0 for stack in stacks.values())]
    labels = [shown(name) for name in plans]
    rows = list(range(len(labels)))
    data: list[Json] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": part,
            "y": rows,
            "x": [stack[part] * 1e3 for stack in stacks.values()],
            "customdata": labels,
            "marker": {"color": colour} | _pattern(part),
            "hovertemplate": f"%{{customdata}}<br>{part}: %{{x:.4~g}} ms<extra></extra>",
        }
        for part, colour in used
    ]
    layout = {
        "barmode": "stack",
        "bargap": 0.35,
        "xaxis": axis("latency (ms)", rangemode="tozero"),
        "yaxis": rows_axis(labels),
    }
    return Figure(
        title="Where the time goes",
        caption=(
            "Every bar ends at the plan's latency; the whisker is its 80 % interval. "
            "Communication that hides under compute takes no time of its own; what it costs the "
            "compute beside it is lost to contention."
        ),
        views=(View(label="", data=[*data, _whiskers(plans, labels)], layout=layout),),
        table=_breakdown_table(stacks, plans),
        height=150 + 44 * len(plans),
    )


def _pattern(part: str) -> Json:
    shape = {_CONTENTION[0]: "/", _EXPOSED[0]: "x"}.get(part)
    return (
        {"pattern": {"shape": shape, "size": 6, "solidity": 0.25, "fillmode": "overlay"}}
        if shape
        else {}
    )


def _stack(times: Times) -> dict[str, float]:
    seconds = dict.fromkeys((name for name, _ in _COMPUTE.values()), 0.0)
    for op, value in times.op_seconds.items():
        part = times.op_sections[op].partition(".")[0]
        if part in _COMPUTE:
            seconds[_COMPUTE[part][0]] += value
    return seconds | {_CONTENTION[0]: times.contention_s, _EXPOSED[0]: times.exposed_comm_s}


def _whiskers(plans: Mapping[str, Times], labels: list[str]) -> Json:
    ends = [(t.latency_interval_s, t.latency_s) for t in plans.values()]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "latency, 80 % interval",
        "y": list(range(len(labels))),
        "x": [latency * 1e3 for _, latency in ends],
        "customdata": labels,
        "marker": {"color": INK, "size": 7, "symbol": "diamond"},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [(high - latency) * 1e3 for (_, high), latency in ends],
            "arrayminus": [(latency - low) * 1e3 for (low, _), latency in ends],
            "color": INK,
            "thickness": 1.5,
        },
        "hovertemplate": "%{customdata}<br>latency %{x:.4~g} ms<extra></extra>",
    }


def _breakdown_table(stacks: Mapping[str, dict[str, float]], plans: Mapping[str, Times]) -> Table:
    parts = list(next(iter(stacks.values())))
    columns = [Column(name="plan"), *(Column(name=p, unit="ms", digits=2) for p in parts)]
    more = ("latency", "interval from", "interval to")
    columns += [Column(name=name, unit="ms", digits=2) for name in more]
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            *(stack[part] * 1e3 for part in parts),
            plans[name].latency_s * 1e3,
            *(end * 1e3 for end in plans[name].latency_interval_s),
        )
        for name, stack in stacks.items()
    ]
    return Table(title="Where the time goes", columns=tuple(columns), rows=tuple(rows))


def lengths_figure(
    curves: Sequence[Curve],
    crossover: int | None,
    here: tuple[int, float, str] | None = None,
    crossover_text: str = "pays from",
) -> Figure:
    """Saving by prompt length with its interval; `here` is (length, saving, name) of a plan."""
    data: list[Json] = []
    for place, curve in enumerate(curves):
        data += _curve(curve, CYCLE[place], DASHES[place], SYMBOLS[place])
    if here is not None:
        data.append(_here(*here))
    lengths = [point.prompt for curve in curves for point in curve.points]
    layout: Json = {
        "xaxis": tokens_axis(lengths),
        "yaxis": axis("saving against serial (%)", zeroline=True, zerolinewidth=1.5),
        "hovermode": "closest",
    }
    if crossover is not None and crossover > min(lengths):
        layout |= _marked(crossover, f"{crossover_text} {tokens_text(crossover)} tokens")
    return Figure(
        title="Saving against prompt length",
        caption="The band is the 80 % interval of the saving. Below zero, serial is faster.",
        views=(View(label="", data=data, layout=layout),),
        table=_lengths_table(curves),
    )


def _curve(curve: Curve, colour: str, dash: str, symbol: str) -> list[Json]:
    x = [point.prompt for point in curve.points]
    low, high = ([p.saving_interval[i] * 100 for p in curve.points] for i in (0, 1))
    band = {
        "type": "scatter",
        "x": x + x[::-1],
        "y": high + low[::-1],
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": colour.replace(")", "-band)"),
        "hoverinfo": "skip",
        "showlegend": False,
    }
    line = {
        "type": "scatter",
        "name": shown(curve.name),
        "x": x,
        "y": [point.saving * 100 for point in curve.points],
        "customdata": [
            f"{p.prompt:,} tokens: saves {p.saving * 100:.1f} %<br>80 % interval "
            f"{p.saving_interval[0] * 100:.1f} to {p.saving_interval[1] * 100:.1f} %<br>"
            f"chunks {' + '.join(map(str, p.chunks)) or 'none'}"
            for p in curve.points
        ],
        "mode": "lines+markers",
        "line": {"color": colour, "width": 2, "dash": dash},
        "marker": {"color": colour, "size": 6, "symbol": symbol},
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    return [band, line]


def _here(prompt: int, saving: float, name: str) -> Json:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": shown(name),
        "x": [prompt],
        "y": [saving * 100],
        "marker": {"color": INK, "size": 13, "symbol": "star"},
        "hovertemplate": f"{shown(name)}<br>%{{x}} tokens: saves %{{y:.1f}} %<extra></extra>",
    }


def _marked(length: int, text: str) -> Json:
    line = {"color": INK, "width": 1.5, "dash": "dot"}
    place = {"x": math.log10(length), "xref": "x", "yref": "paper"}
    return {
        "shapes": [
            {"type": "line", "x0": length, "x1": length, "yref": "paper", "y0": 0, "y1": 1}
            | {"line": line}
        ],
        "annotations": [
            place
            | {"y": 0.02, "yanchor": "bottom", "xanchor": "left", "xshift": 4}
            | {"text": text, "showarrow": False, "bgcolor": PAPER}
        ],
    }


def _lengths_table(curves: Sequence[Curve]) -> Table:
    columns = (
        Column(name="curve"),
        Column(name="prompt", unit="tokens", digits=0),
        Column(name="saving", unit="%", digits=1),
        Column(name="interval from", unit="%", digits=1),
        Column(name="interval to", unit="%", digits=1),
        Column(name="latency", unit="ms", digits=2),
        Column(name="serial latency", unit="ms", digits=2),
        Column(name="chunks"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            curve.name,
            point.prompt,
            point.saving * 100,
            *(end * 100 for end in point.saving_interval),
            point.latency_s * 1e3,
            point.serial_latency_s * 1e3,
            " + ".join(map(str, point.chunks)),
        )
        for curve in curves
        for point in curve.points
    ]
    return Table(title="Savings by prompt length", columns=columns, rows=tuple(rows))
