"""Predicted against measured: times and savings."""

from collections.abc import Iterable, Sequence

from isotune.present.figures.style import BLUE, CYCLE, GREY, INK, SYMBOLS, axis, shown, time_text
from isotune.present.phrases import title_of
from isotune.present.section import Cell, Column, Figure, Json, Table, View
from isotune.results import CheckedRow

_MOST_DRAWN = 1500
_DECADES = 30.0
"""Below this factor between largest and smallest, powers of ten would be too few ticks."""
Point = tuple[str, str, float, float]
"""Group, what it is, predicted seconds, measured seconds."""


def scatter_figure(points: Sequence[Point], title: str = "Predicted against measured") -> Figure:
    """Predicted over measured seconds with the identity line; logarithmic where they span much."""
    drawn = thinned(points)
    groups = list(dict.fromkeys(group for group, *_ in drawn))
    data = [*_lines(drawn), *(_dots(group, place, drawn) for place, group in enumerate(groups))]
    few = "" if len(drawn) == len(points) else f" {len(drawn):,} of {len(points):,} rows are drawn:"
    more = f"{few} the worst tenth, and every so many of the others." if few else ""
    ends = [value for *_, predicted, measured in drawn for value in (predicted, measured)]
    wide = max(ends) > _DECADES * min(ends)
    scale = {"type": "log", "dtick": 1, "tickformat": "~g"} if wide else {"type": "linear"}
    layout = {
        "xaxis": axis("measured (ms)", **scale),
        "yaxis": axis("predicted (ms)", **scale),
    }
    rows: list[tuple[Cell, ...]] = [
        (group, what, predicted * 1e3, measured * 1e3, (predicted / measured - 1) * 100)
        for group, what, predicted, measured in drawn
    ]
    columns = (
        Column(name="group"),
        Column(name="row"),
        Column(name="predicted", unit="ms", digits=4),
        Column(name="measured", unit="ms", digits=4),
        Column(name="error", unit="%", digits=1),
    )
    return Figure(
        title=title,
        caption=f"Above the solid line the prediction is too slow, below it too fast.{more}",
        views=(View(label="", data=data, layout=layout),),
        table=Table(title=title, columns=columns, rows=tuple(rows)),
        height=460,
    )


def thinned(points: Sequence[Point], most: int = _MOST_DRAWN) -> list[Point]:
    """At most `most` points: the worst tenth and an even sample of the others, in their order."""
    if len(points) <= most:
        return list(points)
    ranked = sorted(range(len(points)), key=lambda i: -_factor(points[i]))
    worst, others = ranked[: most // 10], sorted(ranked[most // 10 :])
    wanted = most - len(worst)
    kept = {others[i * len(others) // wanted] for i in range(wanted)} | set(worst)
    return [points[i] for i in sorted(kept)]


def _factor(point: Point) -> float:
    ratio = point[2] / point[3]
    return max(ratio, 1 / ratio)


def _lines(points: Sequence[Point]) -> list[Json]:
    """The identity, and 20 % on either side of it."""
    values = [value * 1e3 for *_, predicted, measured in points for value in (predicted, measured)]
    low, high = min(values) / 1.3, max(values) * 1.3
    lines = [("predicted = measured", 1.0, "solid"), ("20 % off", 1.2, "dot"), ("", 1 / 1.2, "dot")]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": [low, high],
            "y": [low * factor, high * factor],
            "line": {"color": INK, "width": 1.5 if factor == 1.0 else 1, "dash": dash},
            "hoverinfo": "skip",
            "showlegend": bool(name),
        }
        for name, factor, dash in lines
    ]


def _dots(group: str, place: int, points: Iterable[Point]) -> Json:
    here = [point for point in points if point[0] == group]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": shown(title_of(group)),
        "x": [measured * 1e3 for *_, measured in here],
        "y": [predicted * 1e3 for *_, predicted, _ in here],
        "customdata": [
            f"{shown(what, 90)}<br>predicted {time_text(predicted)}<br>"
            f"measured {time_text(measured)}<br>off by {(predicted / measured - 1) * 100:+.1f} %"
            for _, what, predicted, measured in here
        ],
        "marker": {
            "color": CYCLE[place % len(CYCLE)],
            "symbol": SYMBOLS[place % len(SYMBOLS)],
            "size": 6 if len(here) > 100 else 9,
            "opacity": 0.75,
        },
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def savings_figure(rows: Sequence[CheckedRow]) -> Figure | None:
    """Predicted against measured savings of whole passes."""
    pairs = [(row.row, row.saving) for row in rows if row.saving is not None]
    if not pairs:
        return None
    ends = [v * 100 for _, s in pairs for v in (s.predicted, s.measured)]
    low, high = min(ends) - 2, max(ends) + 2
    line: Json = {
        "type": "scatter",
        "mode": "lines",
        "name": "predicted = measured",
        "x": [low, high],
        "y": [low, high],
        "line": {"color": INK, "width": 1.5},
        "hoverinfo": "skip",
    }
    dots: Json = {
        "type": "scatter",
        "mode": "markers",
        "name": "saving, 80 % interval",
        "x": [s.measured * 100 for _, s in pairs],
        "y": [s.predicted * 100 for _, s in pairs],
        "customdata": [
            f"{shown(what, 90)}<br>predicted {s.predicted * 100:.1f} %<br>"
            f"measured {s.measured * 100:.1f} %"
            for what, s in pairs
        ],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [(s.interval[1] - s.predicted) * 100 for _, s in pairs],
            "arrayminus": [(s.predicted - s.interval[0]) * 100 for _, s in pairs],
            "color": GREY,
            "thickness": 1,
            "width": 2,
        },
        "marker": {"color": BLUE, "size": 7},
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    table_rows: list[tuple[Cell, ...]] = [
        (what, s.predicted * 100, *(end * 100 for end in s.interval), s.measured * 100)
        for what, s in pairs
    ]
    names = ("predicted", "interval from", "interval to", "measured")
    columns = (Column(name="run"), *(Column(name=n, unit="%", digits=1) for n in names))
    return Figure(
        title="Savings, predicted against measured",
        caption="Share of the serial latency that was saved; whiskers are 80 % intervals.",
        views=(
            View(
                label="",
                data=[line, dots],
                layout={
                    "xaxis": axis("measured saving (%)"),
                    "yaxis": axis("predicted saving (%)"),
                },
            ),
        ),
        table=Table(title="Savings", columns=columns, rows=tuple(table_rows)),
        height=440,
    )
