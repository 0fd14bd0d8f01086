"""What every table read from a file has in common."""

from numbers import Integral
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from isotune.simulator.errors import InputError


class Schema(BaseModel):
    """A frozen table: unknown fields, infinities and NaN are errors.

    In Python, `Table(field=...)` takes numpy's integers too.

    Raises:
        InputError: one line with the table, the field, and what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**{name: plain(value) for name, value in fields.items()})
        except ValidationError as error:
            raise InputError(f"{type(self).__name__}: {explain(error)}") from error

    # As in pydantic's own RootModel: tables inside tables, and `model_validate`, do not come here.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


def explain(error: ValidationError) -> str:
    """The first of pydantic's complaints in one line, and how many more there are."""
    first, *others = error.errors(include_url=False)
    path = ".".join(str(part) for part in first["loc"]) or "(top level)"
    value = (
        "" if first["type"] in ("missing", "value_error") else f" (got {_short(first['input'])})"
    )
    more = f"; and {len(others)} more" if others else ""
    message = first["msg"].removeprefix("Value error, ")
    return f"{_cut(path)}: {_cut(message, 300)}{value}{more}"


def _short(value: object) -> str:
    return _cut(repr(value) if isinstance(value, (str, int, float, bool)) else type(value).__name__)


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def plain(value: Any) -> Any:
    """Integers of any type as Python's, also in a tuple, a list or a dict of fields."""
    if type(value) in (tuple, list):
        return type(value)(map(plain, value))
    if type(value) is dict:
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, Integral) and not isinstance(value, (int, bool)):
        return int(value)
    return value
