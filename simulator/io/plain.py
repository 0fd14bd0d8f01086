"""Texts that came from outside, made plain before they are shown, written or kept."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote_plus

from isotune.simulator.errors import printable

_FORMULA = ("=", "+", "-", "@")
"""What a cell begins with that a spreadsheet computes."""
_SECRET = re.compile(r"pass(?!file)|pwd|secret|token", re.IGNORECASE)
_USER = re.compile(r"(://[^/?#\s:@]*):(\S*)@")
_PAIR = re.compile(r"([^\s&;?#='\"]+)=([^\s&;#'\"]*)")
_HIDDEN = "***"


def plain_cell(value: object) -> object:
    """A cell of a CSV file: one line, and no formula to a spreadsheet (`'` goes before it)."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def csv_text(columns: Sequence[str], records: Iterable[Mapping[str, object]]) -> str:
    """A CSV file of plain cells; a cell that a record lacks is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({name: plain_cell(cell) for name, cell in record.items()})
    return text.getvalue()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def secrets_in(text: str) -> tuple[str, ...]:
    """The passwords in a text such as a storage URL, as they stand there and decoded.

    A password stands before `@`, or is the value of a name such as `password`.
    """
    found = [match[2] for match in _USER.finditer(text)]
    found += [value for name, value in _PAIR.findall(text) if _SECRET.search(unquote_plus(name))]
    return tuple(dict.fromkeys(one for raw in found for one in (raw, unquote_plus(raw)) if one))


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """A text with `***` in place of the passwords in it, and of these."""
    for secret in sorted((*secrets, *secrets_in(text)), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text
