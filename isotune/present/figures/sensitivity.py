"""What dropping each block's attention all-reduce costs, by class and with recovery."""

from isotune.present.figures.style import BLUE, CYCLE, GREEN, INK, ORANGE, RED, SYMBOLS, axis
from isotune.present.section import Cell, Column, Figure, Json, Table, View
from isotune.tuner.accuracy import Sensitivity, names_of

_COLOURS = {"ISB": BLUE, "SB": ORANGE, "ESB": RED}
_DROPPED, _KEPT = "dropped", "kept"


def sensitivity_figure(table: Sensitivity, dropped: tuple[int, ...], why: str) -> Figure:
    """Each block's cost, those of the drop set told apart; `why` says what set it is."""
    chosen = set(dropped)
    costs = [cost * 100 for cost in table.blocks]
    layout: Json = {
        "bargap": 0.15,
        "xaxis": axis("block", showgrid=False),
        "yaxis": axis("growth of perplexity (%)"),
    }
    data = _all_bars(table, chosen, costs)
    views = [View(label="all blocks", data=data, layout=layout | _thresholds(table, max(costs)))]
    recovered = _treated(table) if table.treatments else []
    if recovered:
        views.append(View(label="after recovery", data=recovered, layout=layout))
    ordered = sorted(abs(cost) for cost in costs)
    usual = 1.3 * ordered[int(0.9 * (len(ordered) - 1))]
    if ordered[-1] > 4 * usual > 0:
        low = min(0.0, 1.1 * min(costs))
        near = layout | {"yaxis": layout["yaxis"] | {"range": [low, usual]}}
        lines = _thresholds(table, usual)
        views.append(View(label="the usual ones, close up", data=data, layout=near | lines))
        if recovered:
            views.append(View(label="after recovery, close up", data=recovered, layout=near))
    return Figure(
        title="Sensitivity of each block",
        caption=f"What dropping a block's attention all-reduce alone costs. {why}",
        views=tuple(views),
        table=_table(table, chosen),
    )


def _all_bars(table: Sensitivity, chosen: set[int], costs: list[float]) -> list[Json]:
    """One trace for each class and fate: the colour tells the class, hatching the dropped."""
    blocks = range(len(costs))
    if not table.classes:
        fates = ((_DROPPED, ORANGE), (_KEPT, BLUE))
        sets = [
            (fate, [b for b in blocks if (b in chosen) == (fate == _DROPPED)], colour, fate)
            for fate, colour in fates
        ]
    else:
        sets = [
            (
                f"{name}, {fate}",
                [
                    b
                    for b in blocks
                    if table.classes[b] == name and (b in chosen) == (fate == _DROPPED)
                ],
                colour,
                fate,
            )
            for name, colour in _COLOURS.items()
            for fate in (_DROPPED, _KEPT)
        ]
    return [
        _bars(f"{name} ({len(here)})", here, costs, colour, hatched=fate == _DROPPED)
        for name, here, colour, fate in sets
        if here
    ]


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


def _thresholds(table: Sensitivity, highest: float) -> Json:
    """Lines at tau1 and tau2, in percent, where they lie in the picture and apart."""
    found = {"τ1": table.tau1, "τ2": table.tau2}
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


def _treated(table: Sensitivity) -> list[Json]:
    """Each block's cost by treatment, as dots one above the other."""
    colours = (INK, GREEN, *(colour for colour in CYCLE if colour != GREEN))
    costs = {name: table.treatments.get(name, table.blocks) for name in names_of(table)}
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": list(range(len(costs[name]))),
            "y": [cost * 100 for cost in costs[name]],
            "marker": {
                "color": colours[place % len(colours)],
                "symbol": SYMBOLS[place % len(SYMBOLS)],
                "size": 7,
            },
            "hovertemplate": f"block %{{x}}, {name}: %{{y:+.3~g}} %<extra></extra>",
        }
        for place, name in enumerate(costs)
    ]


def _table(table: Sensitivity, chosen: set[int]) -> Table:
    treatments = [name for name in names_of(table) if name in table.treatments]
    rows: list[tuple[Cell, ...]] = [
        (
            block,
            table.blocks[block] * 100,
            rank,
            *([table.classes[block]] if table.classes else []),
            _DROPPED if block in chosen else _KEPT,
            *(table.treatments[name][block] * 100 for name in treatments),
        )
        for rank, block in enumerate(table.costs().order, 1)
    ]
    columns = (
        Column(name="block", digits=0),
        Column(name="growth of perplexity", unit="%", digits=4),
        Column(name="rank", digits=0),
        *([Column(name="class")] if table.classes else []),
        Column(name="sync"),
        *(Column(name=f"with {name}", unit="%", digits=4) for name in treatments),
    )
    return Table(title="Sensitivity", columns=columns, rows=tuple(rows))
