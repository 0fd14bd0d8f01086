"""How figures look: one palette, one way to write axes and names."""

import html
from collections.abc import Iterable, Sequence

from isotune.present.section import Json
from isotune.simulator.io import printable

BLUE, ORANGE, GREEN, RED = ("var(--c-blue)", "var(--c-orange)", "var(--c-green)", "var(--c-red)")
SKY, PURPLE, GREY = ("var(--c-sky)", "var(--c-purple)", "var(--c-grey)")
INK, PAPER = "var(--ink)", "var(--paper)"
ON_BLUE, ON_COLOUR = "var(--on-blue)", "var(--on-colour)"
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY)
"""Okabe and Ito's colours, which the colour-blind tell apart."""
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")


def shown(name: str, most: int = 48) -> str:
    """A name for Plotly, which reads `<b>` and `&amp;` in texts: what it says, nothing more."""
    text = printable(name)
    return html.escape(text if len(text) <= most else text[: most - 1] + "…", quote=False)


def axis(title: str, **more: object) -> Json:
    """An axis with its unit in the title."""
    return {"title": {"text": title, "standoff": 8}, "automargin": True} | more


def rows_axis(labels: Sequence[str]) -> Json:
    """An axis with a row for each label, from the top; two rows may be named alike."""
    return {
        "automargin": True,
        "range": [len(labels) - 0.5, -0.5],
        "tickvals": list(range(len(labels))),
        "ticktext": list(labels),
        "showgrid": False,
    }


def dots(
    name: str, x: Iterable[object], y: Iterable[object], hover: str, marker: Json, **more: object
) -> Json:
    """A trace of markers; `more` are other properties of the trace, such as its mode."""
    trace: Json = {"type": "scatter", "mode": "markers", "name": name, "x": list(x), "y": list(y)}
    return trace | {"marker": marker, "hovertemplate": f"{hover}<extra></extra>"} | more


def line(name: str, x: Sequence[float], y: Sequence[float], **style: object) -> Json:
    """A line that tells nothing when it is pointed at."""
    trace: Json = {"type": "scatter", "mode": "lines", "name": name, "x": list(x), "y": list(y)}
    return trace | {"line": {"color": INK} | style, "hoverinfo": "skip"}


def whiskers(above: Iterable[float], below: Iterable[float], colour: str, **more: object) -> Json:
    """How far whiskers reach above and below their points."""
    ends = {"array": list(above), "arrayminus": list(below)}
    return {"type": "data", "symmetric": False, **ends, "color": colour, "thickness": 1} | more


def numbered(place: int) -> Json:
    """The colour and the symbol of the group at a place in its list."""
    return {"color": CYCLE[place % len(CYCLE)], "symbol": SYMBOLS[place % len(SYMBOLS)]}


def tokens_axis(lengths: list[int], title: str = "prompt length (tokens)") -> Json:
    """A logarithmic axis of prompt lengths, ticks at powers of two."""
    first, last = min(lengths), max(lengths)
    ticks = [1 << power for power in range(24) if first <= 1 << power <= last]
    step = -(-len(ticks) // 8) or 1
    kept = ticks[::-1][::step][::-1] or sorted({first, last})
    return axis(title, type="log", tickvals=kept, ticktext=[tokens_text(length) for length in kept])


def tokens_text(length: int) -> str:
    """`4096` as `4k`."""
    return f"{length // 1024}k" if length >= 1024 and length % 1024 == 0 else str(length)


def time_text(seconds: float) -> str:
    """Microseconds below a millisecond, else milliseconds."""
    value = abs(seconds)
    if value < 1e-3:
        return f"{seconds * 1e6:,.1f} µs"
    return f"{seconds * 1e3:,.{2 if value < 0.1 else 1}f} ms"
