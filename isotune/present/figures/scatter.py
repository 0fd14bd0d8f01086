"""Predicted against measured: times and savings."""

from collections.abc import Iterable, Sequence

from isotune.present.figures.style import (
    BLUE,
    GREY,
    axis,
    dots,
    line,
    numbered,
    shown,
    time_text,
    whiskers,
)
from isotune.present.phrases import title_of
from isotune.present.section import Figure, Json, ms, share, table, text
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
    return Figure.single(
        title,
        data,
        layout,
        caption=f"Above the solid line the prediction is too slow, below it too fast.{more}",
        table=table(
            title,
            drawn,
            text("group", lambda group, *_: group),
            text("row", lambda _, what, *__: what),
            ms("predicted", lambda *point: point[2], 4),
            ms("measured", lambda *point: point[3], 4),
            share("error", lambda *point: point[2] / point[3] - 1),
        ),
        height=460,
    )


def thinned(points: Sequence[Point], most: int = _MOST_DRAWN) -> list[Point]:
    """At most `most` points: the worst tenth and an even sample of the others, in their order."""
    if len(points) <= most:
        return list(points)
    ranked = sorted(range(len(points)), key=lambda i: -_factor(points[i]))
    worst, others = ranked[: most // 10], sorted(ranked[most // 10 :])
    sampled = most - len(worst)
    kept = {others[i * len(others) // sampled] for i in range(sampled)} | set(worst)
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
        line(name, [low, high], [low * factor, high * factor], width=width, dash=dash)
        | {"showlegend": bool(name)}
        for name, factor, dash in lines
        for width in (1.5 if factor == 1.0 else 1,)
    ]


def _dots(group: str, place: int, points: Iterable[Point]) -> Json:
    alike = [point for point in points if point[0] == group]
    return dots(
        shown(title_of(group)),
        (measured * 1e3 for *_, measured in alike),
        (predicted * 1e3 for *_, predicted, _ in alike),
        "%{customdata}",
        numbered(place) | {"size": 6 if len(alike) > 100 else 9, "opacity": 0.75},
        customdata=[
            f"{shown(what, 90)}<br>predicted {time_text(predicted)}<br>"
            f"measured {time_text(measured)}<br>off by {(predicted / measured - 1) * 100:+.1f} %"
            for _, what, predicted, measured in alike
        ],
    )


def savings_figure(rows: Sequence[CheckedRow]) -> Figure | None:
    """Predicted against measured savings of whole passes."""
    pairs = [(row.row, row.saving) for row in rows if row.saving is not None]
    if not pairs:
        return None
    ends = [v * 100 for _, s in pairs for v in (s.predicted, s.measured)]
    diagonal = [min(ends) - 2, max(ends) + 2]
    savings = dots(
        "saving, 80 % interval",
        (s.measured * 100 for _, s in pairs),
        (s.predicted * 100 for _, s in pairs),
        "%{customdata}",
        {"color": BLUE, "size": 7},
        customdata=[
            f"{shown(what, 90)}<br>predicted {s.predicted * 100:.1f} %<br>"
            f"measured {s.measured * 100:.1f} %"
            for what, s in pairs
        ],
        error_y=whiskers(
            ((s.interval[1] - s.predicted) * 100 for _, s in pairs),
            ((s.predicted - s.interval[0]) * 100 for _, s in pairs),
            GREY,
            width=2,
        ),
    )
    return Figure.single(
        "Savings, predicted against measured",
        [line("predicted = measured", diagonal, diagonal, width=1.5), savings],
        {"xaxis": axis("measured saving (%)"), "yaxis": axis("predicted saving (%)")},
        caption="Share of the serial latency that was saved; whiskers are 80 % intervals.",
        table=table(
            "Savings",
            pairs,
            text("run", lambda what, _: what),
            share("predicted", lambda _, saving: saving.predicted),
            share("interval from", lambda _, saving: saving.interval[0]),
            share("interval to", lambda _, saving: saving.interval[1]),
            share("measured", lambda _, saving: saving.measured),
        ),
        height=440,
    )
