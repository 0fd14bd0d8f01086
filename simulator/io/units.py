"""Quantities with units: `400 GB/s` in files and output, SI floats inside.

Prefixes are decimal (1 GB = 1e9 bytes) unless written binary (1 GiB = 2**30 bytes).
"""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

Scales = dict[str, Decimal]
"""Allowed units, each with its factor to the SI unit, exact."""

_DECIMAL = {p: Decimal(10) ** (3 * i) for i, p in enumerate(("", "k", "M", "G", "T", "P"))}
_BINARY = {p: Decimal(1024) ** (i + 1) for i, p in enumerate(("Ki", "Mi", "Gi", "Ti"))}
_SMALL = {p: Decimal(10) ** (-3 * i) for i, p in enumerate(("", "m", "u", "n"))}
_QUANTITY = re.compile(
    r"\s*([+-]?[0-9][0-9_]*\.?[0-9]*(?:[eE][+-]?[0-9]{1,3})?)\s*([^\W\d_]\S*)\s*"
)


def _scales(base: str, prefixes: Scales) -> Scales:
    return {prefix + base: factor for prefix, factor in prefixes.items()}


BYTES = _scales("B", _DECIMAL | _BINARY)
BYTES_PER_SECOND = _scales("B/s", _DECIMAL | _BINARY)
FLOPS = _scales("FLOP/s", _DECIMAL)
SECONDS = _scales("s", _SMALL)


def parse_quantity(text: object, scales: Scales) -> float:
    """The SI value of a text such as `400 GB/s`.

    Raises:
        ValueError: no number, no unit, or a unit that is not allowed here.
    """
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) and len(text) <= 40 else None
    if match is None:
        raise ValueError(f"{text!r:.60} is not a number with a unit (units: {', '.join(scales)})")
    number, unit = match.groups()
    if unit not in scales:
        raise ValueError(f"unknown unit {unit!r} in {text!r} (units: {', '.join(scales)})")
    value = float(Decimal(number) * scales[unit])
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def format_quantity(value: float, scales: Scales) -> str:
    """A text with the largest fitting prefix; `parse_quantity` reads it back exactly.

    The prefix is decimal unless a whole number with a binary one is shorter.
    """
    exact = Decimal(repr(value))
    decimal = {unit: factor for unit, factor in scales.items() if "i" not in unit}
    fitting = [unit for unit, factor in decimal.items() if factor <= abs(exact)]
    unit = max(fitting or decimal, key=lambda u: decimal[u] if fitting else -decimal[u])
    if not value:
        unit = next(unit for unit, factor in decimal.items() if factor == 1)
    text = f"{(exact / decimal[unit]).normalize():f} {unit}"
    for unit, factor in scales.items():
        # A cache of 40 MiB reads better than one of 41.94304 MB.
        whole = exact / factor
        if "i" in unit and whole == whole.to_integral_value() and 0 < whole < 1024:
            return min(text, f"{whole.normalize():f} {unit}", key=len)
    return text


FROM_FILE = {"from_file": True}
"""Validation context of a file: a bare number is refused, since its unit would be a guess."""


def _reader(scales: Scales) -> Callable[[object, ValidationInfo], object]:
    def read(value: object, info: ValidationInfo) -> object:
        if isinstance(value, float) and info.context != FROM_FILE:
            return value
        return parse_quantity(value, scales)

    return read


def _writer(scales: Scales) -> Callable[[float], str]:
    return lambda value: format_quantity(value, scales)


Bytes = Annotated[float, BeforeValidator(_reader(BYTES)), PlainSerializer(_writer(BYTES))]
BytesPerSecond = Annotated[
    float, BeforeValidator(_reader(BYTES_PER_SECOND)), PlainSerializer(_writer(BYTES_PER_SECOND))
]
Flops = Annotated[float, BeforeValidator(_reader(FLOPS)), PlainSerializer(_writer(FLOPS))]
Seconds = Annotated[float, BeforeValidator(_reader(SECONDS)), PlainSerializer(_writer(SECONDS))]
