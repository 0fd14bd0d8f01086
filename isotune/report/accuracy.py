"""What accuracy is given for latency: the front of a search, and each block's sensitivity."""

from isotune.report.parts import Cell, Column, Figure, Json, Table, View
from isotune.report.saved import Search, Trial
from isotune.report.style import BLUE, GREY, INK, ORANGE, RED, axis
from tuner.accuracy import Sensitivity

_BUDGET = 0.01
"""Growth of perplexity that stands for a budget where none was given (the search's default)."""


def front_figure(search: Search) -> Figure | None:
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
        | {"mode": "lines+markers", "line": {"shape": "vh", "color": BLUE, "width": 2}},
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


def _latency(search: Search, trial: Trial) -> float | None:
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


def _budget_line(budget: float) -> Json:
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
            {"xref": "paper", "x": 1, "xanchor": "right", "y": budget * 100, "yanchor": "bottom"}
            | {"text": f"budget {budget * 100:g} %", "showarrow": False}
        ],
    }


def drop_set(table: Sensitivity, budget: float | None) -> tuple[int, ...]:
    """The blocks whose syncs fit into a budget, least sensitive first; ascending."""
    wanted = _BUDGET if budget is None else budget
    return tuple(sorted(table.order()[: table.affordable(wanted)]))


def sensitivity_figure(table: Sensitivity, dropped: tuple[int, ...], why: str) -> Figure:
    """Each block's cost, those of the drop set told apart; `why` says what set it is."""
    chosen = set(dropped)
    costs = [cost * 100 for cost in table.blocks]
    data = [
        _bars(f"dropped ({len(chosen)})", [b in chosen for b in range(len(costs))], costs, ORANGE)
        | {
            "marker": {
                "color": ORANGE,
                "pattern": {"shape": "/", "size": 5, "solidity": 0.25, "fillmode": "overlay"},
            }
        },
        _bars(
            f"kept ({len(costs) - len(chosen)})",
            [b not in chosen for b in range(len(costs))],
            costs,
            BLUE,
        ),
    ]
    layout: Json = {
        "bargap": 0.15,
        "xaxis": axis("block", showgrid=False),
        "yaxis": axis("growth of perplexity (%)"),
    }
    views = [View(label="all blocks", data=data, layout=layout)]
    ordered = sorted(abs(cost) for cost in costs)
    usual = 1.3 * ordered[int(0.9 * (len(ordered) - 1))]
    if ordered[-1] > 4 * usual > 0:
        low = min(0.0, 1.1 * min(costs))
        near = layout | {"yaxis": layout["yaxis"] | {"range": [low, usual]}}
        views.append(View(label="the usual ones, close up", data=data, layout=near))
    rows: list[tuple[Cell, ...]] = [
        (block, cost, rank, "dropped" if block in chosen else "kept")
        for rank, block in enumerate(table.order(), 1)
        for cost in (costs[block],)
    ]
    columns = (
        Column(name="block", digits=0),
        Column(name="growth of perplexity", unit="%", digits=4),
        Column(name="rank", digits=0),
        Column(name="sync"),
    )
    return Figure(
        title="Sensitivity of each block",
        caption=f"What dropping a block's attention all-reduce alone costs. {why}",
        views=tuple(views),
        table=Table(title="Sensitivity", columns=columns, rows=tuple(rows)),
    )


def _bars(name: str, wanted: list[bool], costs: list[float], colour: str) -> Json:
    blocks = [block for block, here in enumerate(wanted) if here]
    return {
        "type": "bar",
        "name": name,
        "x": blocks,
        "y": [costs[block] for block in blocks],
        "marker": {"color": colour},
        "hovertemplate": "block %{x}: %{y:+.3~g} %<extra></extra>",
    }
