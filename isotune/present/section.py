"""What a page is made of: sections with figures and tables, as plain data."""

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Cell = str | float | int | None


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column; `digits` after the point for numbers in `unit`, None for text."""

    name: str
    unit: str = ""
    digits: int | None = None

    @property
    def title(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells, in the units of their columns; `shown` of them at first."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def text(self, row: tuple[Cell, ...], index: int) -> str:
        """A cell for people."""
        value, column = row[index], self.columns[index]
        if value is None:
            return "-"
        if column.digits is None or isinstance(value, str):
            return str(value)
        return f"{value:,.{column.digits}f}"


@dataclass(frozen=True, kw_only=True)
class View:
    """One state of a figure: Plotly's traces and layout.

    Colours are CSS variables (`var(--c-blue)`), which the page resolves for its colour scheme.
    """

    label: str
    data: list[Json]
    layout: Json


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture, one view at a time, and the data behind it."""

    title: str
    caption: str
    views: tuple[View, ...]
    table: Table
    height: int = 380


@dataclass(frozen=True, kw_only=True)
class Section:
    """One result: the verdict in a sentence, how to make it again, and what it rests on."""

    kind: str
    source: str
    title: str
    verdict: str
    plan: str = ""
    command: str = ""
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = field(default=())
