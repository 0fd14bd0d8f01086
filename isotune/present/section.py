"""What a result is made of for people: one section, written to a terminal or as a page."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self

Json = dict[str, Any]
Cell = str | float | int | tuple[float, float] | None
"""A cell in the unit of its column; a pair is an interval."""
Place = Literal["everywhere", "page", "terminal"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column; `digits` after the point for numbers in `unit`, None for text.

    On a terminal a time has about four digits and its unit beside it. `signed` numbers have a
    sign; a `bar` is drawn beside a share on a terminal; a `page` column is left out there.
    """

    name: str
    unit: str = ""
    digits: int | None = None
    signed: bool = False
    bar: bool = False
    place: Place = "everywhere"
    short: str = ""
    """The name on a terminal, where room is scarce."""
    fold: bool = False
    """Whether a terminal may break its cells into lines."""

    @property
    def title(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells, in the units of their columns.

    On a terminal a `headless` table shows no names of columns, an `upright` one has a line per
    column, and with `change` the difference of its two rows; `most` rows of a long table are
    shown there, and `more` says what the others are.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    place: Place = "everywhere"
    headless: bool = False
    upright: bool = False
    change: bool = False
    most: int | None = None
    more: str = ""

    def text(self, row: tuple[Cell, ...], index: int) -> str:
        """A cell for people, its unit in the column's heading."""
        return cell_text(row[index], self.columns[index])


def cell_text(value: Cell, column: Column) -> str:
    """A cell for people, without its unit."""
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return " to ".join(cell_text(end, column) for end in value)
    if column.digits is None or isinstance(value, str):
        return str(value)
    return f"{value:{'+' if column.signed else ''},.{column.digits}f}"


Field = tuple[Column, Callable[..., Any]]
"""A column, and what stands in it for an item: times in seconds, shares as fractions."""


def text(name: str, cell: Callable[..., Any], **more: Any) -> Field:
    """A column of texts."""
    return Column(name=name, **more), cell


def number(name: str, cell: Callable[..., Any], digits: int = 0, **more: Any) -> Field:
    """A column of numbers, or of texts that stand to the right as numbers do."""
    return Column(name=name, digits=digits, **more), cell


def ms(name: str, cell: Callable[..., Any], digits: int = 2, **more: Any) -> Field:
    """A column of seconds or intervals of them, in milliseconds."""
    column = Column(name=name, unit="ms", digits=digits, **more)
    return column, lambda *item: scaled(cell(*item), 1e3)


def share(name: str, cell: Callable[..., Any], digits: int = 1, **more: Any) -> Field:
    """A column of fractions or intervals of them, in percent unless `unit` says otherwise."""
    column = Column(name=name, digits=digits, **{"unit": "%"} | more)
    return column, lambda *item: scaled(cell(*item), 100)


def scaled(value: Any, factor: float) -> Any:
    """A number or an interval in another unit; what is no number as it is."""
    if isinstance(value, tuple):
        low, high = value
        return low * factor, high * factor
    return value if value is None or isinstance(value, str) else value * factor


def table(title: str, items: Iterable[Any], *fields: Field, **more: Any) -> Table:
    """A table with a row per item; `more` are fields of `Table`.

    The cells of an item that is a pair (or more) are made of its parts.
    """
    rows = (item if type(item) is tuple else (item,) for item in items)
    return Table(
        title=title,
        columns=tuple(column for column, _ in fields),
        rows=tuple(tuple(cell(*row) for _, cell in fields) for row in rows),
        **more,
    )


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

    @classmethod
    def single(cls, title: str, data: list[Json], layout: Json, **more: Any) -> Self:
        """A figure of one view; `more` are its other fields."""
        return cls(title=title, views=(View(label="", data=data, layout=layout),), **more)


@dataclass(frozen=True, kw_only=True)
class Section:
    """One result: the verdict in a sentence, what it is of, how to make it again, and its parts.

    `cautions` are what the profile warns of, `lines` what the numbers are of, `notes` what else
    there is to say. Figures are for the page alone.
    """

    kind: str
    title: str
    verdict: str
    source: str = ""
    plan: str = ""
    plan_title: str = "plan"
    command: str = ""
    lines: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
