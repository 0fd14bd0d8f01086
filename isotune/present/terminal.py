"""A section on a terminal or in a notebook: a verdict first, then tables that fit 80 columns."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text

from isotune.present.phrases import milliseconds
from isotune.present.section import Cell, Column, Section, Table, cell_text
from isotune.present.sections import brief_of, section_of
from isotune.simulator.io import printable

if TYPE_CHECKING:
    from isotune.results import Result

WIDTH = 8
_EIGHTHS = " \N{LEFT ONE EIGHTH BLOCK}\N{LEFT ONE QUARTER BLOCK}\N{LEFT THREE EIGHTHS BLOCK}"
_EIGHTHS += "\N{LEFT HALF BLOCK}\N{LEFT FIVE EIGHTHS BLOCK}\N{LEFT THREE QUARTERS BLOCK}"
_EIGHTHS += "\N{LEFT SEVEN EIGHTHS BLOCK}"
_FULL = "\N{FULL BLOCK}"
NOTHING = "-"
_COLUMNS = 80
_HTML = '<pre style="line-height:1.25;white-space:pre;overflow-x:auto">{code}</pre>'


class Bar:
    """A bar of a share between 0 and 1, `WIDTH` columns wide at 1; `#` where only ASCII is safe."""

    def __init__(self, share: float) -> None:
        self.share = min(1.0, max(0.0, share))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Whole blocks and one of eighths; `#` on a terminal without them."""
        if options.ascii_only:
            yield Segment("#" * round(self.share * WIDTH))
            return
        whole, eighths = divmod(round(self.share * WIDTH * 8), 8)
        yield Segment((_FULL * whole + _EIGHTHS[eighths]).rstrip())

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Always as wide as a full bar."""
        return Measurement(WIDTH, WIDTH)


def view(result: "Result", details: bool = False) -> RenderableType:
    """A result on one screen, or with details: verdict, tables with their notes, and the rest."""
    return section_view(section_of(result) if details else brief_of(result))


def section_view(section: Section) -> RenderableType:
    """A section, such as a listing that is no result."""
    return Group(*_parts(section))


def notebook(result: "Result") -> dict[str, str]:
    """Text and HTML of a result, 80 columns wide; names in it are escaped."""
    console = Console(
        record=True, width=_COLUMNS, file=io.StringIO(), highlight=False, force_jupyter=False
    )
    console.print(view(result))
    text = console.export_text(clear=False)
    html = console.export_html(inline_styles=True, code_format=_HTML)
    return {"text/plain": text, "text/html": html}


def _parts(section: Section) -> Iterator[RenderableType]:
    if section.verdict:
        yield Text(printable(section.verdict), style="bold")
    if section.title:
        yield Text(printable(section.title))
    if section.plan:
        yield Text(printable(f"{section.plan_title}: {section.plan}"))
    for line in section.lines:
        yield Text(printable(line))
    for caution in section.cautions:
        yield Text(printable(f"note: {caution}"), style="yellow")
    tables = [table for table in section.tables if table.place != "page" and table.rows]
    for place, table in enumerate(tables):
        if place or section.verdict:
            yield Text()
        yield terminal_table(table)
        yield from _below(table)
    if section.notes and tables:
        yield Text()
    for note in section.notes:
        yield Text(printable(note))


def _below(table: Table) -> Iterator[RenderableType]:
    if table.most is not None and len(table.rows) > table.most:
        yield Text(printable(f"and {len(table.rows) - table.most} {table.more or 'more'}"))
    for line in table.note.splitlines():
        yield Text(printable(line), style="dim")


def terminal_table(table: Table) -> RichTable:
    """A table without lines, 80 columns wide at most."""
    return _upright(table) if table.upright else _flat(table)


def _new(*headings: str) -> RichTable:
    table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(Text(printable(heading)), justify="left", no_wrap=True)
    return table


def _flat(table: Table) -> RichTable:
    shown = [n for n, column in enumerate(table.columns) if column.place != "page"]
    columns = [table.columns[n] for n in shown]
    found = _new(*(column.short or column.name for column in columns))
    found.show_header = not table.headless
    for place, column in enumerate(columns):
        made = found.columns[place]
        made.justify = "left" if column.digits is None else "right"
        made.no_wrap = not column.fold
        made.overflow = "fold" if column.fold else "ellipsis"
    for row in table.rows[: table.most]:
        found.add_row(*(_cell(row[n], table.columns[n]) for n in shown))
    return found


def _upright(table: Table) -> RichTable:
    """The table turned: a line per column, a column per row, and what changes between two rows."""
    change = table.change and len(table.rows) == 2
    found = _new("", *(str(row[0]) for row in table.rows), *(["change"] if change else []))
    for made in found.columns[1:]:
        made.justify = "right"
    for index, column in enumerate(table.columns[1:], 1):
        if column.place == "page":
            continue
        values = [row[index] for row in table.rows]
        more = [_change(values[0], values[1], column)] if change else []
        cells = (_cell(value, column) for value in values)
        found.add_row(Text(printable(column.short or column.name)), *cells, *more)
    return found


def _change(before: Cell, after: Cell, column: Column) -> str:
    """What a time has gained; nothing for what is no time."""
    if column.unit != "ms" or not (isinstance(before, float) and isinstance(after, float)):
        return ""
    change = after - before
    if round(change * 1e3) == 0:
        return NOTHING
    return f"{'+' if change > 0 else '-'}{milliseconds(abs(change) / 1e3)}"


def _cell(value: Cell, column: Column) -> RenderableType:
    if column.bar and isinstance(value, float):
        return Bar(value)
    return Text(printable(with_unit(value, column)), overflow="fold" if column.fold else "ellipsis")


def with_unit(value: Cell, column: Column) -> str:
    """A cell with its unit beside it; times with about four digits."""
    if value is None or isinstance(value, str) or column.unit not in ("ms", "us", "%"):
        return cell_text(value, column)
    if column.unit == "%":
        return f"{cell_text(value, column)} %"
    if isinstance(value, tuple):
        low, high = (milliseconds(end / 1e3) for end in value)
        return f"{low.removesuffix(' ms')} to {high}"
    return milliseconds(value / 1e3)
