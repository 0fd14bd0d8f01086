"""A block in time as a picture of its own (SVG): for pages without JavaScript, and for slides."""

import math
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from isotune.present.phrases import op_text
from isotune.results import Block, Step
from isotune.simulator.io import printable, write_text

_WIDTH, _LEFT, _RIGHT, _ROW, _TOP, _GAP = 760, 150, 10, 26, 8, 10
_LETTER = 6.2
"""Width of a letter of the labels in pixels."""
_COLOURS = {
    "attention": "var(--c-blue, #0072b2)",
    "mlp": "var(--c-green, #009e73)",
    "attention_all_reduce": "var(--c-orange, #e69f00)",
    "mlp_all_reduce": "var(--c-red, #d55e00)",
}
_OTHER = "var(--c-purple, #cc79a7)"
_INK = "var(--ink, #555)"
_STREAMS = {"compute": "compute", "communication": "collectives"}


def write_picture(path: Path, blocks: Mapping[str, Block]) -> None:
    """Write the picture of blocks as an SVG file, whole or not at all.

    Raises:
        InputError: it cannot be written there.
    """
    write_text(path, timeline_picture(blocks) + "\n")


def timeline_picture(blocks: Mapping[str, Block]) -> str:
    """Blocks by name, one above the other, on one axis of milliseconds; SVG text.

    Each has a row of compute and a row of collectives. A solid bar is a step of the block, a faint
    one a step of a neighbouring block; the letter is its chunk. The end of a bar that is lost to
    contention is hatched.
    """
    longest = max(block.duration_s for block in blocks.values())
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    each = 2 * _ROW + _GAP
    bottom = _TOP + len(blocks) * each
    size = {"viewBox": f"0 0 {_WIDTH} {bottom + 34}", "width": str(_WIDTH)}
    named = ", ".join(printable(name) for name in blocks)
    style = "max-width: 100%; height: auto; font: 11px system-ui, sans-serif"
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size, "role": "img"})
    root.set("style", style)
    root.set("aria-label", f"One block in time: {named}")
    _hatching(root)
    for number, (name, block) in enumerate(blocks.items()):
        top = _TOP + number * each
        _text(root, 4, top + _ROW + 4, printable(name)[:20], _INK)
        for row, (stream, label) in enumerate(_STREAMS.items()):
            at = top + row * _ROW
            _text(root, _LEFT - 6, at + _ROW / 2 + 4, label, _INK, anchor="end")
            for step in block.steps:
                if step.stream == stream:
                    _bar(root, block, step, at, scale)
    _axis(root, longest, scale, bottom)
    return ET.tostring(root, encoding="unicode")


def _hatching(root: ET.Element) -> None:
    pattern = ET.SubElement(
        ET.SubElement(root, "defs"),
        "pattern",
        {"id": "lost", "width": "5", "height": "5", "patternUnits": "userSpaceOnUse"},
    )
    line = {"d": "M0 5 L5 0", "stroke": "#000", "stroke-width": "1"}
    ET.SubElement(pattern, "path", line)


def _bar(root: ET.Element, block: Block, step: Step, at: float, scale: float) -> None:
    start, end = max(0.0, step.start_s), min(block.duration_s, step.end_s)
    if end <= start:
        return
    beside = step.block != block.block
    group = ET.SubElement(root, "g", {"opacity": "0.4"} if beside else {})
    took = (step.end_s - step.start_s) * 1e3
    ET.SubElement(group, "title").text = f"{op_text(step.name)}, block {step.block}: {took:.3g} ms"
    colour = _COLOURS.get(step.name, _OTHER)
    _rectangle(group, start, end, at, scale, colour)
    lost = max(start, end - step.lost_s)
    if end - lost > 1e-9:
        _rectangle(group, lost, end, at, scale, "url(#lost)")
    chunks = max(one.chunk for one in block.steps)
    letter = f" {chr(ord('A') + step.chunk % 26)}" if chunks else ""
    label = f"{op_text(step.name)}{letter}"
    room = (end - start) * scale - 6
    shown = label if len(label) * _LETTER <= room else letter.strip()
    if shown and len(shown) * _LETTER <= room:
        _text(group, _LEFT + start * scale + 3, at + _ROW / 2 + 4, shown, "#fff")


def _rectangle(
    group: ET.Element, start: float, end: float, at: float, scale: float, fill: str
) -> None:
    place = {"x": _LEFT + start * scale, "y": at + 2.0, "width": (end - start) * scale}
    attributes = {name: f"{value:.1f}" for name, value in place.items()}
    ET.SubElement(group, "rect", attributes | {"height": f"{_ROW - 4}", "fill": fill})


def _axis(root: ET.Element, longest: float, scale: float, bottom: float) -> None:
    step = _round(longest * 1e3 / 6)
    for tick in range(int(longest * 1e3 / step) + 1):
        place = _LEFT + tick * step * 1e-3 * scale
        line = {"x1": f"{place:.1f}", "x2": f"{place:.1f}", "y1": f"{bottom - 4}"}
        ET.SubElement(root, "line", line | {"y2": f"{bottom}", "stroke": _INK})
        _text(root, place, bottom + 13, f"{tick * step:g}", _INK, anchor="middle")
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    _text(root, middle, bottom + 29, "time since the block began (ms)", _INK, anchor="middle")


def _round(value: float) -> float:
    """1, 2 or 5 times a power of ten, at least `value`."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= value)


def _text(
    parent: ET.Element, x: float, y: float, said: str, fill: str, anchor: str = "start"
) -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "fill": fill, "text-anchor": anchor}
    ET.SubElement(parent, "text", place).text = said
