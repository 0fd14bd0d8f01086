"""What accuracy is given for latency: a search's trials, and its front with the paper's rule."""

from isotune.present.figures.style import BLUE, GREY, INK, ORANGE, RED, axis, dots, shown
from isotune.present.phrases import plan_text, treatments_text
from isotune.present.section import Figure, Json, Table, ms, number, share, table, text
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
    costs = table(
        "Latency and accuracy",
        sorted(set(points)),
        ms("latency", lambda latency, _: latency, 3),
        share("growth of perplexity", lambda _, cost: cost, 4),
        text("on the front", lambda *point: "yes" if point in front else "no"),
    )
    return Figure.single(
        "Latency and accuracy",
        data,
        _layout(search.accuracy_budget),
        caption="Every plan that was tried; the line joins those that no other beats in both.",
        table=costs,
    )


def _layout(budget: float | None, at: float = 1.0) -> Json:
    """Both axes, and the budget as a line whose text ends at this share of the width."""
    axes: Json = {
        "xaxis": axis("latency (ms)"),
        "yaxis": axis("predicted growth of perplexity (%)"),
    }
    return axes if budget is None else axes | _budget_line(budget, at)


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
    x, y = [latency * 1e3 for latency, _ in points], [cost * 100 for _, cost in points]
    return dots(name, x, y, "%{x:.4~g} ms, perplexity +%{y:.3~g} %", marker)


def _budget_line(budget: float, at: float) -> Json:
    y = {"y0": budget * 100, "y1": budget * 100}
    dotted = {"color": INK, "dash": "dot"}
    place = {"xref": "paper", "x": at, "xanchor": "right", "y": budget * 100, "yanchor": "bottom"}
    return {
        "shapes": [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "line": dotted} | y],
        "annotations": [place | {"text": f"budget {budget * 100:g} %", "showarrow": False}],
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
    ruled = any(point.rule for point in front)
    return Figure.single(
        "Latency against perplexity",
        data,
        _layout(search.accuracy_budget, at=0.6),
        caption="The fastest plan for each of some budgets, its dropped blocks recovered as the "
        "sensitivity file allows. That the costs of blocks add up is an assumption."
        + (" The diamond is the paper's rule, which runs serially." if ruled else ""),
        table=_front_table(front),
    )


def _points(name: str, points: list[FrontPoint], marker: Json) -> Json:
    trace = _dots(shown(name), [(p.latency_s, p.perplexity_growth) for p in points], marker)
    return trace | {
        "customdata": [
            f"{len(p.plan.dropped)} all-reduces dropped: {shown(treatments_text(p.treatments))}"
            for p in points
        ],
        "hovertemplate": "%{x:.4~g} ms, perplexity %{y:+.3~g} %<br>%{customdata}<extra></extra>",
    }


def _front_table(front: tuple[FrontPoint, ...]) -> Table:
    return table(
        "Latency against perplexity",
        front,
        ms("latency", lambda point: point.latency_s),
        share("growth of perplexity", lambda point: point.perplexity_growth, 3),
        number("all-reduces dropped", lambda point: len(point.plan.dropped)),
        text("recovery", lambda point: treatments_text(point.treatments)),
        text("made by", _made_by),
        text("plan", lambda point: plan_text(point.plan)),
    )


def _made_by(point: FrontPoint) -> str:
    return (point.rule or "search") + (" (dominated)" if point.dominated else "")
