"""One block in time: compute and communication rows, the serial run above the others."""

from collections.abc import Mapping
from dataclasses import dataclass

from isotune.present.figures.style import (
    BLUE,
    GREEN,
    INK,
    ON_BLUE,
    ON_COLOUR,
    ORANGE,
    PAPER,
    PURPLE,
    RED,
    SKY,
    axis,
    rows_axis,
    shown,
    time_text,
)
from isotune.present.phrases import op_text
from isotune.present.section import Figure, Json, Table, View, ms, number, table, text
from isotune.results import Block, Step

_COLOURS = {"attention": BLUE, "mlp": GREEN, "embed": SKY, "head": SKY}
_TRANSFERS = {"attention": ORANGE, "mlp": RED}
"""Colours of the collectives at the end of a sublayer."""
_BESIDE = 0.4
"""How faint a neighbour's step is."""
_NOTHING = 1e-9
"""Seconds too few to be a loss."""
_ROOM = 0.02
"""Share of the block that is shown of what goes before and after it."""
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
    longest = max(block.duration_s for block in blocks.values())
    window = -_ROOM * longest, (1 + _ROOM) * longest
    rows = [(name, stream) for name in blocks for stream in _ROWS]
    layout: Json = {
        "barmode": "overlay",
        "xaxis": axis("time since the block began (ms)", range=[end * 1e3 for end in window]),
        "yaxis": rows_axis([f"{shown(name)}<br>{_ROWS[stream]}" for name, stream in rows]),
        "uniformtext": {"mode": "hide", "minsize": 9},
        "shapes": _separators(len(blocks)),
    }
    return View(label=label, data=_traces(blocks, rows, window), layout=layout)


def _separators(count: int) -> list[Json]:
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "line": {"color": INK, "width": 1}}
    return [line | {"y0": at, "y1": at} for at in (2 * i - 0.5 for i in range(1, count))]


@dataclass(frozen=True)
class _Bar:
    """A step in a row of the picture, which shows the seconds in `window`."""

    row: int
    block: Block
    step: Step
    window: tuple[float, float]

    @property
    def beside(self) -> bool:
        """Whether it belongs to a neighbouring block."""
        return self.step.block != self.block.block


def _traces(
    blocks: Mapping[str, Block], rows: list[tuple[str, str]], window: tuple[float, float]
) -> list[Json]:
    placed = [
        _Bar(rows.index((name, step.stream)), block, step, window)
        for name, block in blocks.items()
        for step in block.steps
    ]
    kinds: dict[str, list[_Bar]] = {}
    for bar in sorted(placed, key=_place):
        kinds.setdefault(bar.step.name, []).append(bar)
    traces = [_bars(op_text(kind), _colour(bars[0].step), bars) for kind, bars in kinds.items()]
    slowed = [bar for bar in placed if bar.step.lost_s > _NOTHING]
    return [*traces, *([_hatched(slowed)] if slowed else [])]


def _sublayer(step: Step) -> str:
    """`mlp` of a step `mlp_all_reduce`; its row says what it sends."""
    return step.name.partition("_")[0] if step.stream == "communication" else step.name


def _colour(step: Step) -> str:
    colours = _TRANSFERS if step.stream == "communication" else _COLOURS
    return colours.get(_sublayer(step), PURPLE)


def _place(bar: _Bar) -> tuple[bool, int]:
    """Where its kind stands in the legend: compute first, in the order of a block."""
    order = [*_COLOURS, _sublayer(bar.step)]
    return bar.step.stream == "communication", order.index(_sublayer(bar.step))


def _bars(name: str, colour: str, bars: list[_Bar]) -> Json:
    on = ON_BLUE if colour == BLUE else ON_COLOUR
    return _common(bars, [(bar.step.start_s, bar.step.end_s) for bar in bars]) | {
        "name": name,
        "text": [_label(bar) for bar in bars],
        "textposition": "inside",
        "insidetextanchor": "start",
        "textangle": 0,
        "insidetextfont": {"color": [INK if bar.beside else on for bar in bars]},
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {
            "color": colour,
            "opacity": [_BESIDE if bar.beside else 1.0 for bar in bars],
            "line": {"color": PAPER, "width": 1},
        },
    }


def _hatched(bars: list[_Bar]) -> Json:
    return _common(bars, [(bar.step.end_s - bar.step.lost_s, bar.step.end_s) for bar in bars]) | {
        "name": "lost to contention",
        "hoverinfo": "skip",
        "marker": {
            "color": "rgba(0,0,0,0)",
            "pattern": {"shape": "/", "fgcolor": INK, "size": 6, "solidity": 0.25},
            "line": {"color": INK, "width": 0.5},
        },
    }


def _common(bars: list[_Bar], spans: list[tuple[float, float]]) -> Json:
    """Bars over these spans of seconds, as far as the picture shows them."""
    seen = [
        (max(start, bar.window[0]), min(end, bar.window[1]))
        for bar, (start, end) in zip(bars, spans, strict=True)
    ]
    return {
        "type": "bar",
        "orientation": "h",
        "width": 0.78,
        "y": [bar.row for bar in bars],
        "x": [max(0.0, end - start) * 1e3 for start, end in seen],
        "base": [start * 1e3 for start, _ in seen],
        "customdata": [_hover(bar.step) for bar in bars],
    }


def _chunk(step: Step) -> str:
    return chr(ord("A") + step.chunk % 26)


def _label(bar: _Bar) -> str:
    step = bar.step
    parts = [_sublayer(step)]
    if max(other.chunk for other in bar.block.steps) > 0:
        parts.append(_chunk(step))
    if step.tile is not None:
        parts.append(str(step.tile + 1))
    return " ".join(parts)


def _hover(step: Step) -> str:
    took = step.end_s - step.start_s
    lines = [
        f"<b>{op_text(step.name)}</b>, block {step.block}, chunk {_chunk(step)}",
        f"starts {time_text(step.start_s)}, ends {time_text(step.end_s)}",
        f"takes {time_text(took)}",
    ]
    if step.alone_s and step.lost_s > _NOTHING:
        more = (took / step.alone_s - 1) * 100
        lines.append(f"alone {time_text(step.alone_s)}: slowed by {more:.0f} %")
    return "<br>".join(lines)


def _table(blocks: Mapping[str, Block]) -> Table:
    return table(
        "Steps",
        [(name, step) for name, block in blocks.items() for step in block.steps],
        text("run", lambda name, _: name),
        text("step", lambda _, step: op_text(step.name)),
        text("row", lambda _, step: _ROWS[step.stream]),
        number("block", lambda _, step: step.block),
        text("chunk", lambda _, step: _chunk(step)),
        text("tile", lambda _, step: None if step.tile is None else step.tile + 1),
        ms("start", lambda _, step: step.start_s, 4),
        ms("end", lambda _, step: step.end_s, 4),
        ms("alone", lambda _, step: step.alone_s, 4),
        ms(
            "lost to contention",
            lambda _, step: step.lost_s if step.alone_s is not None else None,
            4,
        ),
    )
