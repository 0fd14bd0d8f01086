"""Heat maps of a sweep: savings over hardware, length and tensor-parallel size."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from isotune.present.figures.style import axis, rows_axis, shown, tokens_text
from isotune.present.phrases import strategy_text
from isotune.present.section import Figure, Json, View
from isotune.present.sections import AXES, rows_table
from isotune.results import SweepRow

_MOST_VIEWS, _MOST_ROWS, _MOST_LENGTHS = 40, 60, 64


class _Place(NamedTuple):
    """A row of a heat map."""

    hardware: str
    tp: int

    @property
    def label(self) -> str:
        return f"{shown(self.hardware, 24)}, tp {self.tp}"


def heat_figure(rows: Sequence[SweepRow]) -> Figure:
    """Savings over hardware, tensor-parallel size and length; a view per case."""
    ranked = sorted(rows, key=lambda row: -row["saving"] if row["fits"] else 1.0)
    keys = list(dict.fromkeys(tuple(row[name] for name in (*AXES, "strategy")) for row in ranked))
    cases = {key: [] for key in keys[:_MOST_VIEWS]}  # type: dict[tuple[Any, ...], list[SweepRow]]
    for row in rows:
        key = tuple(row[name] for name in (*AXES, "strategy"))
        if key in cases:
            cases[key].append(row)
    varying = [n for n, name in enumerate(AXES) if len({key[n] for key in keys}) > 1]
    far = max(abs(row["saving"]) for found in cases.values() for row in found) * 100 or 1.0
    views = tuple(_view(key, varying, found, far) for key, found in cases.items())
    left = "" if len(keys) <= _MOST_VIEWS else f" The first {_MOST_VIEWS} of {len(keys)} cases."
    most = max(len({(r["hardware"], r["tp"]) for r in found}) for found in cases.values())
    return Figure(
        title="Saving over hardware, tensor-parallel size and length",
        caption=(
            "Saving against serial in percent. Blue saves, orange loses; an x does not fit in "
            f"memory, an empty cell cannot be run so.{left}"
        ),
        views=views,
        table=rows_table([row for found in cases.values() for row in found]),
        height=170 + 26 * min(most, _MOST_ROWS),
    )


def _view(key: tuple[Any, ...], varying: list[int], rows: list[SweepRow], far: float) -> View:
    labels = {"batch": "batch ", "weight_dtype": "weights ", "comm_dtype": "transfer "}
    parts = [f"{labels.get(AXES[n], '')}{key[n]}" for n in varying]
    places = list(dict.fromkeys(_Place(row["hardware"], row["tp"]) for row in rows))[:_MOST_ROWS]
    lengths = sorted({row["prompt"] for row in rows})
    lengths = lengths[:: -(-len(lengths) // _MOST_LENGTHS)]
    cells = {(_Place(row["hardware"], row["tp"]), row["prompt"]): row for row in rows}
    grid = [[cells.get((place, length)) for length in lengths] for place in places]
    return View(
        label=", ".join([strategy_text(key[-1]), *parts]),
        data=[_heat(grid, places, lengths, far)],
        layout={
            "xaxis": axis("prompt length (tokens)", type="category", showgrid=False),
            "yaxis": rows_axis([place.label for place in places]),
        },
    )


def _heat(
    grid: list[list[SweepRow | None]], places: list[_Place], lengths: list[int], far: float
) -> Json:
    values = [[None if cell is None else cell["saving"] * 100 for cell in line] for line in grid]
    return {
        "type": "heatmap",
        "z": values,
        "x": [tokens_text(length) for length in lengths],
        "y": list(range(len(places))),
        "text": [[_cell_text(cell) for cell in line] for line in grid],
        "texttemplate": "%{text}" if len(lengths) <= 16 else "",
        "customdata": [[_cell_hover(cell) for cell in line] for line in grid],
        "hovertemplate": "%{customdata}<extra></extra>",
        "hoverongaps": False,
        "zmin": -far,
        "zmax": far,
        "colorscale": [[0, "var(--c-orange)"], [0.5, "var(--middle)"], [1, "var(--c-blue)"]],
        "colorbar": {
            "title": {"text": "saving (%)", "font": {"size": 12}},
            "thickness": 12,
            "tickformat": ".3~g",
        },
        "xgap": 1,
        "ygap": 1,
    }


def _cell_text(cell: SweepRow | None) -> str:
    if cell is None:
        return ""
    return f"{cell['saving'] * 100:z.0f}" + ("" if cell["fits"] else " x")


def _cell_hover(cell: SweepRow | None) -> str:
    if cell is None:
        return ""
    fits = "" if cell["fits"] else "<br>does not fit in memory"
    return (
        f"{shown(cell['hardware'])}, tp {cell['tp']}, {cell['prompt']:,} tokens<br>"
        f"saves {cell['saving'] * 100:.1f} %: {cell['latency_s'] * 1e3:,.1f} instead of "
        f"{cell['serial_latency_s'] * 1e3:,.1f} ms{fits}"
    )
