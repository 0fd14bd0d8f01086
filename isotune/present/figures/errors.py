"""Errors of a profile by group, and of a calibration by section."""

from collections.abc import Mapping, Sequence

from isotune.present.figures.style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    axis,
    dots,
    rows_axis,
    shown,
    whiskers,
)
from isotune.present.phrases import fitted_text, title_of
from isotune.present.section import Figure, Json, View, number, share, table, text
from isotune.results import Calibration, Errors, Group, Score


def errors_figure(
    views: Mapping[str, Sequence[tuple[str, Errors]]], title: str = "Errors by group"
) -> Figure:
    """Mean error and the 90th percentile of each group; one view per part."""
    longest = max(len(errors) for errors in views.values())
    return Figure(
        title=title,
        caption="Errors are |predicted / measured - 1|; bias is their median with its sign.",
        views=tuple(_errors_view(part, errors) for part, errors in views.items()),
        table=table(
            title,
            [(part, *group) for part, errors in views.items() for group in errors],
            text("part", lambda part, *_: part),
            text("group", lambda _, label, __: label),
            number("rows", lambda *row: row[-1].rows),
            share("mean error", lambda *row: row[-1].mape),
            share("median", lambda *row: row[-1].median_ape),
            share("p90", lambda *row: row[-1].p90_ape),
            share("bias", lambda *row: row[-1].bias),
        ),
        height=150 + 26 * longest,
    )


def _errors_view(part: str, groups: Sequence[tuple[str, Errors]]) -> View:
    labels = [f"{shown(label, 36)} ({score.rows})" for label, score in groups]
    rows = list(range(len(labels)))
    bars: Json = {
        "type": "bar",
        "orientation": "h",
        "name": "mean error",
        "y": rows,
        "customdata": labels,
        "x": [score.mape * 100 for _, score in groups],
        "marker": {"color": BLUE},
        "hovertemplate": "%{customdata}<br>mean error %{x:.1f} %<extra></extra>",
    }
    marks = [
        ("90th percentile", "p90_ape", ORANGE, "diamond"),
        ("bias", "bias", INK, "line-ns-open"),
    ]
    traces = [
        dots(
            name,
            [getattr(score, field) * 100 for _, score in groups],
            rows,
            f"%{{customdata}}<br>{name} %{{x:+.1f}} %",
            {"color": colour, "size": 9, "symbol": symbol, "line": {"width": 2}},
            customdata=labels,
        )
        for name, field, colour, symbol in marks
    ]
    layout = {
        "bargap": 0.35,
        "xaxis": axis("error (%)", zeroline=True),
        "yaxis": rows_axis(labels),
    }
    return View(label=title_of(part), data=[bars, *traces], layout=layout)


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
            "error_y": whiskers(
                (max(0.0, e.p90 - e.mape) * 100 for e in errors), [0.0] * len(errors), INK
            ),
            "hovertemplate": f"%{{x}}<br>{name}: mean error %{{y:.1f}} %<extra></extra>",
        }
        for name, errors, colour in bars
    ]
    fits = [
        (label, name, e)
        for name, errors, _ in bars
        for label, e in zip(labels, errors, strict=True)
    ]
    return Figure.single(
        "Errors of the calibration",
        data,
        {"barmode": "group", "yaxis": axis("error (%)"), "xaxis": axis("")},
        caption="Mean error on rows held back from the fit; whiskers reach to the 90th percentile.",
        table=table(
            "Errors of the calibration",
            fits,
            text("section", lambda label, *_: label),
            text("profile", lambda _, name, __: name),
            number("rows", lambda *fit: fit[-1].rows),
            number("held back", lambda *fit: fit[-1].held_back),
            share("mean error", lambda *fit: fit[-1].mape),
            share("median", lambda *fit: fit[-1].median),
            share("p90", lambda *fit: fit[-1].p90),
            share("bias", lambda *fit: fit[-1].bias),
        ),
    )
