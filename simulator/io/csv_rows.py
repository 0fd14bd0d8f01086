"""CSV files as typed rows: one pydantic model per table in, one-line errors out."""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from isotune.simulator.errors import InputError
from isotune.simulator.io.text_files import read_bytes

MOST_BYTES = 200_000_000
LARGEST, SMALLEST = 1e15, 1e-15
"""Between which the numbers of tables lie that a machine can have measured."""
Row = TypeVar("Row", bound="CsvRow")


def _number(cell: str | float, info: ValidationInfo) -> float:
    try:
        value = float(cell)
    except ValueError:
        name = info.field_name or ""
        unit = f"; its unit is {name.rpartition('_')[2]}" if name in TimedRow.UNITS else ""
        raise ValueError(f"{cell!r:.40} is not a number{unit}") from None
    if not math.isfinite(value):
        raise ValueError(f"{cell!s:.40} is not a finite number")
    if abs(value) > LARGEST:
        raise ValueError(f"{cell!s:.40} is too large (allowed: up to {LARGEST:g})")
    return value


def _above_zero(cell: str | float, info: ValidationInfo) -> float:
    value = _number(cell, info)
    if value <= 0:
        raise ValueError(f"{cell!s:.40} is not above zero")
    if value < SMALLEST:
        raise ValueError(f"{cell!s:.40} is too small (allowed: {SMALLEST:g} or more)")
    return value


def _not_negative(cell: str | float, info: ValidationInfo) -> float:
    value = _number(cell, info)
    if value < 0:
        raise ValueError(f"{cell!s:.40} is below zero")
    return value


def _count(cell: str | float, info: ValidationInfo) -> int:
    value = _number(cell, info)
    if value < 1 or value != int(value):
        raise ValueError(f"{cell!s:.40} is no whole number above zero")
    return int(value)


Number = Annotated[float, BeforeValidator(_number)]
"""A finite number."""
AboveZero = Annotated[float, BeforeValidator(_above_zero)]
"""A finite number above zero."""
NotNegative = Annotated[float, BeforeValidator(_not_negative)]
"""A finite number that is zero or more."""
Count = Annotated[int, BeforeValidator(_count)]
"""A whole number above zero."""


class CsvRow(BaseModel):
    """One row: a subclass's fields are the table's columns, those with a default are optional.

    An empty cell is one that is not given. Unknown columns are errors, since a misspelt one would
    be silently ignored, unless the subclass sets `extra="ignore"`. `line` is the line in the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    line: int

    @classmethod
    def check_columns(cls, names: Sequence[str]) -> None:
        """Refuse a header.

        Raises:
            ValueError: a column that is given twice, missing or unknown.
        """
        fields = {name: field for name, field in cls.model_fields.items() if name != "line"}
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise ValueError(f"column {repeated[0]!r:.60} is given twice")
        needed = [name for name, field in fields.items() if field.is_required()]
        missing = [name for name in needed if name not in names]
        if missing:
            raise ValueError(f"column {missing[0]!r} is missing (needed: {', '.join(needed)})")
        cls._check_latency(names)
        unknown = [name for name in names if name not in fields]
        if unknown and cls.model_config["extra"] == "forbid":
            raise ValueError(f"unknown column {unknown[0]!r:.60} (known: {', '.join(fields)})")

    @classmethod
    def _check_latency(cls, names: Sequence[str]) -> None:
        """Refuse none or several latency columns, in a table that needs one."""


class TimedRow(CsvRow):
    """A row with one latency column, whose name carries the unit."""

    UNITS: ClassVar[dict[str, float]] = {"latency_us": 1e-6, "latency_ms": 1e-3, "latency_s": 1.0}
    latency_us: AboveZero | None = None
    latency_ms: AboveZero | None = None
    latency_s: AboveZero | None = None

    @classmethod
    def _check_latency(cls, names: Sequence[str]) -> None:
        units = [name for name in names if name in cls.UNITS]
        if len(units) != 1:
            found = f"both {units[0]} and {units[1]}" if units else "none"
            raise ValueError(f"needs one latency column ({', '.join(cls.UNITS)}), found {found}")

    @model_validator(mode="after")
    def _has_latency(self) -> Self:
        if all(getattr(self, name) is None for name in self.UNITS):
            raise ValueError("the latency column is empty")
        return self

    @property
    def seconds(self) -> float:
        """The latency in seconds."""
        (column,) = (name for name in self.UNITS if getattr(self, name) is not None)
        return float(getattr(self, column) * self.UNITS[column])


def read_rows(
    path: Path, row: type[Row], *, columns: Sequence[str] = (), most: int = MOST_BYTES
) -> list[Row]:
    """The rows of a `.csv` or `.csv.gz` file of at most `most` bytes, in its order.

    A table that may come without a header names its `columns`; trailing cells may be left out then.

    Raises:
        InputError: one line with the file, the row (line of the file), the column, the value and
            what is allowed; or an unreadable file, malformed CSV, or no rows.
    """
    reader = csv.reader(io.StringIO(_text(path, most)), strict=True)
    try:
        names = list(columns) or next(reader, [])
        row.check_columns(names)
        rows = [row.model_validate(cells) for cells in _records(reader, names, bool(columns))]
    except csv.Error as error:
        raise InputError(f"{path}: row {reader.line_num}: malformed CSV ({error})") from error
    except ValidationError as error:
        raise InputError(f"{path}: row {reader.line_num}: {explain_row(error)}") from error
    except ValueError as error:
        raise InputError(f"{path}: row {max(1, reader.line_num)}: {error}") from error
    if not rows:
        raise InputError(f"{path}: the table has no rows")
    return rows


def _records(
    reader: Any, names: Sequence[str], header_optional: bool
) -> Iterator[dict[str, str | int]]:
    """The cells of each row that are not empty, by column, and its line."""
    for cells in reader:
        if not any(map(str.strip, cells)):
            continue
        if header_optional:
            if reader.line_num == 1 and any(map(str.isalpha, cells[0])):
                continue
            cells.extend([""] * (len(names) - len(cells)))
        if len(cells) != len(names):
            raise ValueError("has more or fewer cells than there are columns")
        given = {
            name: text for name, cell in zip(names, cells, strict=True) if (text := cell.strip())
        }
        yield given | {"line": reader.line_num}


def explain_row(error: ValidationError) -> str:
    """The first complaint about a row, with its column."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        message = "is empty"
    elif first["type"] in ("literal_error", "number_type"):
        context = first["ctx"]
        allowed = context.get("expected", context.get("allowed", ""))
        allowed = allowed.replace("'", "").replace(" or ", ", ")
        message = f"{first['input']!r:.40} (allowed: {allowed})"
    elif first["type"] != "value_error":
        message = f"{message} (got {first['input']!r:.40})"
    if not first["loc"]:
        return message
    colon = "" if first["type"] == "missing" else ":"
    return f"column {first['loc'][0]}{colon} {message}"


def csv_header(path: Path) -> tuple[str, ...]:
    """Names of the columns.

    Raises:
        InputError: an unreadable file or malformed CSV.
    """
    try:
        return tuple(next(csv.reader(io.StringIO(_text(path, MOST_BYTES)), strict=True), ()))
    except csv.Error as error:
        raise InputError(f"{path}: row 1: malformed CSV ({error})") from error


def _text(path: Path, most: int) -> str:
    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error
