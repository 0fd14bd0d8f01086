"""CSV files of measurements, plain or gzipped: their text, their header, their cells."""

import csv
import gzip
import io
from pathlib import Path

from isotune.simulator.errors import InputError

_MAX_BYTES = 200_000_000


def csv_text(path: Path) -> str:
    """The text of a `.csv` or `.csv.gz` file.

    Raises:
        InputError: the file is missing, unreadable, too large or not UTF-8.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise InputError(f"{path}: larger than {_MAX_BYTES} bytes")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot read it ({error})") from error


def csv_header(path: Path) -> tuple[str, ...]:
    """Names of the columns.

    Raises:
        InputError: as `csv_text`, or malformed CSV.
    """
    try:
        return tuple(next(csv.reader(io.StringIO(csv_text(path)), strict=True), ()))
    except csv.Error as error:
        raise InputError(f"{path}: row 1: malformed CSV ({error})") from error
