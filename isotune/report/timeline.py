"""One block in time: compute and communication rows, the serial run above the others."""

from collections.abc import Mapping

from isotune.report.parts import Cell, Column, Figure, Json, Table, View
from isotune.report.saved import Block, Step
from isotune.report.style import BLUE, GREEN, INK, ORANGE, RED, SKY, axis, shown, time_text

_COLOURS = {
    "attention": BLUE,
    "mlp": GREEN,
    "attention_sync": ORANGE,
    "mlp_sync": RED,
    "embed": SKY,
    "head": SKY,
}
_BESIDE = 0.4
"""How faint a neighbour's step is."""
_ROWS = {"compute": "compute", "communication": "all-reduce"}


def timeline_figure(views: Mapping[str, Mapping[str, Block]]) -> Figure:
    """Blocks by name, one above the other; those of one view share its time axis."""
    every = {name: block for blocks in views.values() for name, block in blocks.items()}
    first = next(iter(every.values()))
    return Figure(
        title=f"One block in time (block {first.block})",
        caption=(
            "Solid: what a step takes with the GPU to itself. Hatched: what it loses to "
            "contention while the other row runs. Faint: steps of the neighbouring blocks. "
            "Letters are chunks."
        ),
        views=tuple(_view(label, blocks) for label, blocks in views.items()),
        table=_table(every),
        height=130 + 116 * max(map(len, views.values())),
    )


def _view(label: str, blocks: Mapping[str, Block]) -> View:
    longest = max(block.duration_s for block in blocks.values()) * 1e3
    rows = [(name, stream) for name in blocks for stream in _ROWS]
    layout: Json = {
        "barmode": "overlay",
        "bargap": 0.25,
        "xaxis": axis("time since the block began (ms)", range=[-0.02 * longest, 1.02 * longest]),
        "yaxis": {
            "automargin": True,
            "range": [len(rows) - 0.5, -0.5],
            "tickvals": list(range(len(rows))),
            "ticktext": [f"{shown(name)}<br>{_ROWS[stream]}" for name, stream in rows],
            "showgrid": False,
            "zeroline": False,
        },
        "uniformtext": {"mode": "hide", "minsize": 9},
        "shapes": _separators(len(blocks)),
    }
    return View(label=label, data=_traces(blocks, rows), layout=layout)


def _separators(count: int) -> list[Json]:
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "line": {"color": INK, "width": 1}}
    return [line | {"y0": at, "y1": at} for at in (2 * i - 0.5 for i in range(1, count))]


def _traces(blocks: Mapping[str, Block], rows: list[tuple[str, str]]) -> list[Json]:
    placed = [
        (rows.index((name, step.stream)), block, step)
        for name, block in blocks.items()
        for step in block.steps
    ]
    kinds = [kind for kind in _COLOURS if any(step.name == kind for _, _, step in placed)]
    traces = [
        _bars(kind.replace("_", " "), _COLOURS[kind], [p for p in placed if p[2].name == kind])
        for kind in kinds
    ]
    slowed = [p for p in placed if _lost(p[2]) > 1e-9]
    if slowed:
        traces.append(_hatched(slowed))
    return traces


def _lost(step: Step) -> float:
    return 0.0 if step.alone_s is None else max(0.0, step.end_s - step.start_s - step.alone_s)


def _bars(name: str, colour: str, placed: list[tuple[int, Block, Step]]) -> Json:
    return _common(placed) | {
        "name": name,
        "x": [(step.end_s - step.start_s) * 1e3 for _, _, step in placed],
        "base": [step.start_s * 1e3 for _, _, step in placed],
        "text": [_label(block, step) for _, block, step in placed],
        "insidetextanchor": "middle",
        "textangle": 0,
        "insidetextfont": {"color": "var(--on-colour)"},
        "textposition": "inside",
        "marker": {
            "color": colour,
            "opacity": [1.0 if step.block == b.block else _BESIDE for _, b, step in placed],
            "line": {"color": "var(--paper)", "width": 1},
        },
    }


def _hatched(placed: list[tuple[int, Block, Step]]) -> Json:
    return _common(placed) | {
        "name": "lost to contention",
        "x": [_lost(step) * 1e3 for _, _, step in placed],
        "base": [(step.end_s - _lost(step)) * 1e3 for _, _, step in placed],
        "marker": {
            "color": "rgba(0,0,0,0)",
            "pattern": {"shape": "/", "fgcolor": INK, "size": 6, "solidity": 0.25},
            "line": {"color": INK, "width": 0.5},
        },
        "hoverinfo": "skip",
        "hovertemplate": None,
    }


def _common(placed: list[tuple[int, Block, Step]]) -> Json:
    return {
        "type": "bar",
        "orientation": "h",
        "y": [row for row, _, _ in placed],
        "customdata": [_hover(step) for _, _, step in placed],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _label(block: Block, step: Step) -> str:
    many = max(other.chunk for other in block.steps) > 0
    parts = [step.name.split("_")[0] if step.stream == "communication" else step.name]
    if many:
        parts.append(chr(ord("A") + step.chunk % 26))
    if step.tile is not None:
        parts.append(str(step.tile + 1))
    return " ".join(parts)


def _hover(step: Step) -> str:
    took = step.end_s - step.start_s
    lines = [
        f"<b>{step.name.replace('_', ' ')}</b>, block {step.block}, "
        f"chunk {chr(ord('A') + step.chunk % 26)}",
        f"starts {time_text(step.start_s)}, ends {time_text(step.end_s)}",
        f"takes {time_text(took)}",
    ]
    if step.alone_s is not None and _lost(step) > 1e-9:
        lines.append(f"alone {time_text(step.alone_s)}: slowed by {took / step.alone_s - 1:.0%}")
    return "<br>".join(lines)


def _table(blocks: Mapping[str, Block]) -> Table:
    columns = (
        Column(name="run"),
        Column(name="step"),
        Column(name="row"),
        Column(name="block", digits=0),
        Column(name="chunk"),
        Column(name="tile"),
        *(
            Column(name=name, unit="ms", digits=4)
            for name in ("start", "end", "alone", "lost to contention")
        ),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            step.name.replace("_", " "),
            _ROWS[step.stream],
            step.block,
            chr(ord("A") + step.chunk % 26),
            None if step.tile is None else step.tile + 1,
            step.start_s * 1e3,
            step.end_s * 1e3,
            None if step.alone_s is None else step.alone_s * 1e3,
            None if step.alone_s is None else _lost(step) * 1e3,
        )
        for name, block in blocks.items()
        for step in block.steps
    ]
    return Table(title="Steps", columns=columns, rows=tuple(rows))
