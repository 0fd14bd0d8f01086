"""Errors of a profile by group, and of a calibration by section."""

from collections.abc import Mapping, Sequence

from isotune.present.figures.style import BLUE, GREY, INK, ORANGE, axis, rows_axis, shown
from isotune.present.phrases import fitted_text, title_of
from isotune.present.section import Cell, Column, Figure, Json, Table, View
from isotune.results import Calibration, Errors, Group, Score


def errors_figure(
    views: Mapping[str, Sequence[tuple[str, Errors]]], title: str = "Errors by group"
) -> Figure:
    """Mean error and the 90th percentile of each group; one view per part."""
    longest = max(len(found) for found in views.values())
    columns = (
        Column(name="part"),
        Column(name="group"),
        Column(name="rows", digits=0),
        *(Column(name=n, unit="%", digits=1) for n in ("mean error", "median", "p90", "bias")),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            part,
            label,
            score.rows,
            *(v * 100 for v in (score.mape, score.median_ape, score.p90_ape, score.bias)),
        )
        for part, found in views.items()
        for label, score in found
    ]
    return Figure(
        title=title,
        caption="Errors are |predicted / measured - 1|; bias is their median with its sign.",
        views=tuple(_errors_view(part, found) for part, found in views.items()),
        table=Table(title=title, columns=columns, rows=tuple(rows)),
        height=150 + 26 * longest,
    )


def _errors_view(part: str, found: Sequence[tuple[str, Errors]]) -> View:
    labels = [f"{shown(label, 36)} ({score.rows})" for label, score in found]
    rows = list(range(len(labels)))
    bars: Json = {
        "type": "bar",
        "orientation": "h",
        "name": "mean error",
        "y": rows,
        "customdata": labels,
        "x": [score.mape * 100 for _, score in found],
        "marker": {"color": BLUE},
        "hovertemplate": "%{customdata}<br>mean error %{x:.1f} %<extra></extra>",
    }
    marks = [
        ("90th percentile", "p90_ape", ORANGE, "diamond"),
        ("bias", "bias", INK, "line-ns-open"),
    ]
    dots: list[Json] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "y": rows,
            "customdata": labels,
            "x": [getattr(score, field) * 100 for _, score in found],
            "marker": {"color": colour, "size": 9, "symbol": symbol, "line": {"width": 2}},
            "hovertemplate": f"%{{customdata}}<br>{name} %{{x:+.1f}} %<extra></extra>",
        }
        for name, field, colour, symbol in marks
    ]
    layout = {
        "bargap": 0.35,
        "xaxis": axis("error (%)", zeroline=True),
        "yaxis": rows_axis(labels),
    }
    return View(label=title_of(part), data=[bars, *dots], layout=layout)


def groups_of(
    groups: Sequence[Group], scores: Mapping[str, Score]
) -> dict[str, list[tuple[str, Errors]]]:
    """Each part's errors: all its rows first, then its groups."""
    return {
        part: [("all", score)] + [(f"{g.by} {g.group}", g) for g in groups if g.part == part]
        for part, score in scores.items()
    }


def fits_figure(done: Calibration) -> Figure:
    """Errors of each fitted section on rows held back, with the base profile's beside them."""
    labels = [fitted_text(section.section) for section in done.sections]
    bars = [
        ("the base profile", [s.base_error for s in done.sections], GREY),
        ("this fit", [s.error for s in done.sections], BLUE),
    ]
    data: list[Json] = [
        {
            "type": "bar",
            "name": name,
            "x": [shown(label) for label in labels],
            "y": [error.mape * 100 for error in errors],
            "marker": {"color": colour},
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [max(0.0, e.p90 - e.mape) * 100 for e in errors],
                "arrayminus": [0.0 for _ in errors],
                "color": INK,
                "thickness": 1,
            },
            "hovertemplate": f"%{{x}}<br>{name}: mean error %{{y:.1f}} %<extra></extra>",
        }
        for name, errors, colour in bars
    ]
    columns = (
        Column(name="section"),
        Column(name="profile"),
        Column(name="rows", digits=0),
        Column(name="held back", digits=0),
        *(Column(name=n, unit="%", digits=1) for n in ("mean error", "median", "p90", "bias")),
    )
    rows: list[tuple[Cell, ...]] = [
        (label, name, e.rows, e.held_back, *(v * 100 for v in (e.mape, e.median, e.p90, e.bias)))
        for name, errors, _ in bars
        for label, e in zip(labels, errors, strict=True)
    ]
    return Figure(
        title="Errors of the calibration",
        caption=(
            "Mean error on rows held back from the fit; whiskers reach to the 90th percentile."
        ),
        views=(
            View(
                label="",
                data=data,
                layout={"barmode": "group", "yaxis": axis("error (%)"), "xaxis": axis("")},
            ),
        ),
        table=Table(title="Errors of the calibration", columns=columns, rows=tuple(rows)),
    )
