"""Where the time goes, and what is saved at which prompt length."""

import math
from collections.abc import Callable, Mapping, Sequence

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
    dots,
    rows_axis,
    shown,
    tokens_axis,
    tokens_text,
    whiskers,
)
from isotune.present.section import Figure, Json, Table, ms, number, share, table, text
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
    return Figure.single(
        "Where the time goes",
        [*data, _whiskers(plans, labels)],
        layout,
        caption=(
            "Every bar ends at the plan's latency; the whisker is its 80 % interval. "
            "Communication that hides under compute takes no time of its own; what it costs the "
            "compute beside it is lost to contention."
        ),
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
    interval = whiskers(
        ((high - latency) * 1e3 for (_, high), latency in ends),
        ((latency - low) * 1e3 for (low, _), latency in ends),
        INK,
        thickness=1.5,
    )
    return dots(
        "latency, 80 % interval",
        (latency * 1e3 for _, latency in ends),
        range(len(labels)),
        "%{customdata}<br>latency %{x:.4~g} ms",
        {"color": INK, "size": 7, "symbol": "diamond"},
        customdata=labels,
        error_x=interval,
    )


def _breakdown_table(stacks: Mapping[str, dict[str, float]], plans: Mapping[str, Times]) -> Table:
    return table(
        "Where the time goes",
        [(name, stack, plans[name]) for name, stack in stacks.items()],
        text("plan", lambda name, *_: name),
        *(ms(part, _seconds_of(part)) for part in next(iter(stacks.values()))),
        ms("latency", lambda *plan: plan[2].latency_s),
        ms("interval from", lambda *plan: plan[2].latency_interval_s[0]),
        ms("interval to", lambda *plan: plan[2].latency_interval_s[1]),
    )


def _seconds_of(part: str) -> Callable[..., float]:
    return lambda _, stack, __: float(stack[part])


def lengths_figure(
    curves: Sequence[Curve],
    crossover: int | None,
    plan: tuple[int, float, str] | None = None,
    crossover_text: str = "pays off from",
) -> Figure:
    """Saving by prompt length with its interval; `plan` is (length, saving, name)."""
    data: list[Json] = []
    for place, curve in enumerate(curves):
        data += _curve(
            curve,
            CYCLE[place % len(CYCLE)],
            DASHES[place % len(DASHES)],
            SYMBOLS[place % len(SYMBOLS)],
        )
    if plan is not None:
        data.append(_star(*plan))
    lengths = [point.prompt for curve in curves for point in curve.points]
    layout: Json = {
        "xaxis": tokens_axis(lengths),
        "yaxis": axis("saving against serial (%)", zeroline=True, zerolinewidth=1.5),
        "hovermode": "closest",
    }
    if crossover is not None and crossover > min(lengths):
        layout |= _marked(crossover, f"{crossover_text} {tokens_text(crossover)} tokens")
    return Figure.single(
        "Saving against prompt length",
        data,
        layout,
        caption="The band is the 80 % interval of the saving. Below zero, serial is faster.",
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
    hovers = [
        f"{p.prompt:,} tokens: saves {p.saving * 100:.1f} %<br>80 % interval "
        f"{p.saving_interval[0] * 100:.1f} to {p.saving_interval[1] * 100:.1f} %<br>"
        f"chunks {' + '.join(map(str, p.chunks)) or 'none'}"
        for p in curve.points
    ]
    line = dots(
        shown(curve.name),
        x,
        (point.saving * 100 for point in curve.points),
        "%{customdata}",
        {"color": colour, "size": 6, "symbol": symbol},
        customdata=hovers,
        mode="lines+markers",
        line={"color": colour, "width": 2, "dash": dash},
    )
    return [band, line]


def _star(prompt: int, saving: float, name: str) -> Json:
    hover = f"{shown(name)}<br>%{{x}} tokens: saves %{{y:.1f}} %"
    marker = {"color": INK, "size": 13, "symbol": "star"}
    return dots(shown(name), [prompt], [saving * 100], hover, marker)


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
    return table(
        "Savings by prompt length",
        [(curve.name, point) for curve in curves for point in curve.points],
        text("curve", lambda name, _: name),
        number("prompt", lambda _, point: point.prompt, unit="tokens"),
        share("saving", lambda _, point: point.saving),
        share("interval from", lambda _, point: point.saving_interval[0]),
        share("interval to", lambda _, point: point.saving_interval[1]),
        ms("latency", lambda _, point: point.latency_s),
        ms("serial latency", lambda _, point: point.serial_latency_s),
        text("chunks", lambda _, point: " + ".join(map(str, point.chunks))),
    )
