"""What dropping each block's attention all-reduce costs, by class and with recovery."""

from collections.abc import Callable
from itertools import product

from isotune.present.figures.style import BLUE, CYCLE, GREEN, INK, ORANGE, RED, axis, dots, numbered
from isotune.present.section import Figure, Json, Table, View, number, share, table, text
from isotune.tuner.accuracy import Sensitivity, names_of

_COLOURS = {"ISB": BLUE, "SB": ORANGE, "ESB": RED}
_DROPPED, _KEPT = "dropped", "kept"


def sensitivity_figure(sensitivity: Sensitivity, dropped: tuple[int, ...], why: str) -> Figure:
    """Each block's cost, those of the drop set told apart; `why` says what set it is."""
    chosen = set(dropped)
    costs = [cost * 100 for cost in sensitivity.blocks]
    layout: Json = {
        "bargap": 0.15,
        "xaxis": axis("block", showgrid=False),
        "yaxis": axis("growth of perplexity (%)"),
    }
    data = _all_bars(sensitivity, chosen, costs)
    views = [
        View(label="all blocks", data=data, layout=layout | _thresholds(sensitivity, max(costs)))
    ]
    recovered = _treated(sensitivity) if sensitivity.treatments else []
    if recovered:
        views.append(View(label="after recovery", data=recovered, layout=layout))
    ordered = sorted(abs(cost) for cost in costs)
    usual = 1.3 * ordered[int(0.9 * (len(ordered) - 1))]
    if ordered[-1] > 4 * usual > 0:
        low = min(0.0, 1.1 * min(costs))
        near = layout | {"yaxis": layout["yaxis"] | {"range": [low, usual]}}
        lines = _thresholds(sensitivity, usual)
        views.append(View(label="the usual ones, close up", data=data, layout=near | lines))
        if recovered:
            views.append(View(label="after recovery, close up", data=recovered, layout=near))
    return Figure(
        title="Sensitivity of each block",
        caption=f"What dropping a block's attention all-reduce alone costs. {why}",
        views=tuple(views),
        table=_table(sensitivity, chosen),
    )


def _all_bars(sensitivity: Sensitivity, chosen: set[int], costs: list[float]) -> list[Json]:
    """One trace for each class and fate: the colour tells the class, hatching the dropped."""
    classes = (*(sensitivity.classes or [""] * len(costs)),)
    names = _COLOURS if sensitivity.classes else {"": BLUE}
    traces = []
    for name, fate in product(names, (_DROPPED, _KEPT)):
        colour = _COLOURS.get(name) or (ORANGE if fate == _DROPPED else BLUE)
        blocks = [
            block
            for block, class_ in enumerate(classes)
            if class_ == name and (block in chosen) == (fate == _DROPPED)
        ]
        if blocks:
            label = f"{name}, {fate}" if name else fate
            hatched = fate == _DROPPED
            title = f"{label} ({len(blocks)})"
            traces.append(_bars(title, blocks, costs, colour, hatched=hatched))
    return traces


def _bars(name: str, blocks: list[int], costs: list[float], colour: str, *, hatched: bool) -> Json:
    pattern = {"shape": "/", "size": 5, "solidity": 0.25, "fillmode": "overlay"}
    return {
        "type": "bar",
        "name": name,
        "x": blocks,
        "y": [costs[block] for block in blocks],
        "marker": {"color": colour} | ({"pattern": pattern} if hatched else {}),
        "hovertemplate": "block %{x}: %{y:+.3~g} %<extra></extra>",
    }


def _thresholds(sensitivity: Sensitivity, highest: float) -> Json:
    """Lines at tau1 and tau2, in percent, where they lie in the picture and apart."""
    found = {"τ1": sensitivity.tau1, "τ2": sensitivity.tau2}
    seen = {name: at * 100 for name, at in found.items() if at is not None and at * 100 <= highest}
    if len(seen) == 2 and seen["τ2"] - seen["τ1"] < 0.04 * highest:
        seen = {"τ1, τ2": seen["τ2"]}
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1}
    text = {"xref": "paper", "x": 0.5, "yanchor": "bottom", "showarrow": False}
    dots = {"color": INK, "dash": "dot", "width": 1}
    return {
        "shapes": [line | {"y0": y, "y1": y, "line": dots} for y in seen.values()],
        "annotations": [text | {"y": y, "text": name} for name, y in seen.items()],
    }


def _treated(sensitivity: Sensitivity) -> list[Json]:
    """Each block's cost by treatment, as dots one above the other."""
    colours = (INK, GREEN, *(colour for colour in CYCLE if colour != GREEN))
    costs = {
        name: sensitivity.treatments.get(name, sensitivity.blocks) for name in names_of(sensitivity)
    }
    return [
        dots(
            name,
            range(len(costs[name])),
            (cost * 100 for cost in costs[name]),
            f"block %{{x}}, {name}: %{{y:+.3~g}} %",
            numbered(place) | {"color": colours[place % len(colours)], "size": 7},
        )
        for place, name in enumerate(costs)
    ]


def _table(sensitivity: Sensitivity, chosen: set[int]) -> Table:
    blocks = [(block, rank) for rank, block in enumerate(sensitivity.costs().order, 1)]
    treatments = [name for name in names_of(sensitivity) if name in sensitivity.treatments]
    return table(
        "Sensitivity",
        blocks,
        number("block", lambda block, _: block),
        share("growth of perplexity", lambda block, _: sensitivity.blocks[block], 4),
        number("rank", lambda _, rank: rank),
        *([text("class", lambda block, _: sensitivity.classes[block])] * bool(sensitivity.classes)),
        text("sync", lambda block, _: _DROPPED if block in chosen else _KEPT),
        *(share(f"with {name}", _cost_of(sensitivity, name), 4) for name in treatments),
    )


def _cost_of(sensitivity: Sensitivity, treatment: str) -> Callable[..., float]:
    return lambda block, _: sensitivity.treatments[treatment][block]
