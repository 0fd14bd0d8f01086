"""What accuracy is given for latency: a search's trials, and its front with the paper's rule."""

from isotune.present.figures.style import BLUE, GREY, INK, ORANGE, RED, axis, shown
from isotune.present.phrases import plan_text, treatments_text
from isotune.present.section import Cell, Column, Figure, Json, Table, View
from isotune.results import FrontPoint, SearchResult, Trial


def front_figure(search: SearchResult) -> Figure | None:
    """Latency against accuracy cost of every trial, and those that none beats in both."""
    trials = [(t, t.accuracy_cost) for t in search.trials.history.trials if t.values]
    known = [(_latency(search, trial), cost) for trial, cost in trials if cost is not None]
    points = [(latency, cost) for latency, cost in known if latency is not None]
    if len(points) < 2:
        return None
    front = _front(points)
    data: list[Json] = [
        _dots("trials", points, {"color": GREY, "size": 6, "opacity": 0.7}),
        _dots("none is faster at no more cost", front, {"color": BLUE, "size": 8})
        | {"mode": "lines+markers", "line": {"shape": "hv", "color": BLUE, "width": 2}},
    ]
    if search.accuracy_cost is not None:
        chosen = [(search.latency_s, search.accuracy_cost)]
        data.append(_dots("chosen plan", chosen, {"color": RED, "size": 14, "symbol": "star"}))
    layout: Json = {
        "xaxis": axis("latency (ms)"),
        "yaxis": axis("predicted growth of perplexity (%)"),
    }
    if search.accuracy_budget is not None:
        layout |= _budget_line(search.accuracy_budget)
    rows: list[tuple[Cell, ...]] = [
        (latency * 1e3, cost * 100, "yes" if (latency, cost) in front else "no")
        for latency, cost in sorted(set(points))
    ]
    columns = (
        Column(name="latency", unit="ms", digits=3),
        Column(name="growth of perplexity", unit="%", digits=4),
        Column(name="on the front"),
    )
    return Figure(
        title="Latency and accuracy",
        caption="Every plan that was tried; the line joins those that no other beats in both.",
        views=(View(label="", data=data, layout=layout),),
        table=Table(title="Latency and accuracy", columns=columns, rows=tuple(rows)),
    )


def _latency(search: SearchResult, trial: Trial) -> float | None:
    if "latency" not in search.objectives or len(trial.values) != len(search.objectives):
        return None
    return trial.values[search.objectives.index("latency")]


def _front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    front: list[tuple[float, float]] = []
    for latency, cost in sorted(set(points)):
        if not front or cost < front[-1][1]:
            front.append((latency, cost))
    return front


def _dots(name: str, points: list[tuple[float, float]], marker: Json) -> Json:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [latency * 1e3 for latency, _ in points],
        "y": [cost * 100 for _, cost in points],
        "marker": marker,
        "hovertemplate": "%{x:.4~g} ms, perplexity +%{y:.3~g} %<extra></extra>",
    }


def _budget_line(budget: float, at: float = 1.0) -> Json:
    line = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "line": {"color": INK, "dash": "dot"},
    }
    return {
        "shapes": [line | {"y0": budget * 100, "y1": budget * 100}],
        "annotations": [
            {"xref": "paper", "x": at, "xanchor": "right", "y": budget * 100, "yanchor": "bottom"}
            | {"text": f"budget {budget * 100:g} %", "showarrow": False}
        ],
    }


def perplexity_figure(search: SearchResult) -> Figure | None:
    """The front of latency against perplexity, each point with what recovery it takes."""
    front = search.accuracy_front
    if not front:
        return None
    best = [point for point in front if not point.dominated]
    line = _points("none is faster at no more cost", best, {"color": BLUE, "size": 9})
    line |= {"mode": "lines+markers", "line": {"shape": "vh", "color": BLUE, "width": 2}}
    data = [line]
    for rule in dict.fromkeys(point.rule for point in front if point.rule):
        marker = {"color": ORANGE, "size": 14, "symbol": "diamond"}
        data.append(_points(rule, [point for point in front if point.rule == rule], marker))
    layout: Json = {
        "xaxis": axis("latency (ms)"),
        "yaxis": axis("predicted growth of perplexity (%)"),
    }
    if search.accuracy_budget is not None:
        layout |= _budget_line(search.accuracy_budget, at=0.6)
    ruled = any(point.rule for point in front)
    return Figure(
        title="Latency against perplexity",
        caption="The fastest plan for each of some budgets, its dropped blocks recovered as the "
        "sensitivity file allows. That the costs of blocks add up is an assumption."
        + (" The diamond is the paper's rule, which runs serially." if ruled else ""),
        views=(View(label="", data=data, layout=layout),),
        table=_front_table(front),
    )


def _points(name: str, points: list[FrontPoint], marker: Json) -> Json:
    dots = _dots(shown(name), [(p.latency_s, p.perplexity_growth) for p in points], marker)
    return dots | {
        "customdata": [
            f"{len(p.plan.dropped)} syncs dropped: {shown(treatments_text(p.treatments))}"
            for p in points
        ],
        "hovertemplate": "%{x:.4~g} ms, perplexity %{y:+.3~g} %<br>%{customdata}<extra></extra>",
    }


def _front_table(front: tuple[FrontPoint, ...]) -> Table:
    columns = (
        Column(name="latency", unit="ms", digits=2),
        Column(name="growth of perplexity", unit="%", digits=3),
        Column(name="syncs dropped", digits=0),
        Column(name="recovery"),
        Column(name="made by"),
        Column(name="plan"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            p.latency_s * 1e3,
            p.perplexity_growth * 100,
            len(p.plan.dropped),
            treatments_text(p.treatments),
            (p.rule or "search") + (" (dominated)" if p.dominated else ""),
            plan_text(p.plan),
        )
        for p in front
    ]
    return Table(title="Latency against perplexity", columns=columns, rows=tuple(rows))
