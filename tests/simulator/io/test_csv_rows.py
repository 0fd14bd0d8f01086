"""Every CSV table is read by one reader: typed rows, or one line with row, column and value."""

import gzip
from pathlib import Path
from typing import Literal

import pytest

from isotune.simulator.errors import InputError
from isotune.simulator.io import AboveZero, Count, CsvRow, NotNegative, TimedRow, read_rows


class Fruit(CsvRow):
    kind: Literal["apple", "pear"]
    count: Count
    grams: AboveZero = 100.0
    worms: NotNegative = 0.0


class Race(TimedRow):
    runner: str


def written(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_rows_are_typed_and_know_their_line(tmp_path: Path, name: str) -> None:
    text = "\ufeffgrams,kind,count\n 12.5 ,apple,3\n\n,pear,2.0\n"
    apple, pear = read_rows(written(tmp_path, text, name), Fruit)
    assert (apple.kind, apple.count, apple.grams, apple.line) == ("apple", 3, 12.5, 2)
    assert (pear.count, pear.grams, pear.line) == (2, 100.0, 4)


class Length(CsvRow):
    tokens: Count
    count: AboveZero = 1.0


@pytest.mark.parametrize("header", ["", "tokens,count\n"])
def test_a_header_may_be_left_out_where_the_columns_are_known(tmp_path: Path, header: str) -> None:
    path = written(tmp_path, f"{header}100,3\n\n50\n")
    rows = read_rows(path, Length, columns=("tokens", "count"))
    assert [(row.tokens, row.count) for row in rows] == [(100, 3.0), (50, 1.0)]


def test_seconds_follow_the_unit_in_the_column_s_name(tmp_path: Path) -> None:
    for column, cell in (("latency_us", "2500"), ("latency_ms", "2.5"), ("latency_s", "0.0025")):
        (row,) = read_rows(written(tmp_path, f"runner,{column}\nann,{cell}\n"), Race)
        assert row.seconds == pytest.approx(2.5e-3)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("kind\napple\n", "row 1: column 'count' is missing (needed: kind, count)"),
        ("kind,count,size\n", "row 1: unknown column 'size' (known: kind, count, grams, worms)"),
        ("kind,count,kind\n", "row 1: column 'kind' is given twice"),
        ("kind,count\n", "no rows"),
        ("kind,count\nplum,1\n", "row 2: column kind: 'plum' (allowed: apple, pear)"),
        ("kind,count\napple,\n", "row 2: column count is empty"),
        ("kind,count\napple,1\npear,0.5\n", "row 3: column count: 0.5 is no whole number above"),
        ("kind,count,grams\napple,1,inf\n", "row 2: column grams: inf is not a finite number"),
        ("kind,count,worms\napple,1,-1\n", "row 2: column worms: -1 is below zero"),
        ("kind,count\napple,1,2\n", "row 2: has more or fewer cells"),
        ('kind,count\n"apple,1\n', "malformed CSV"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InputError) as error:
        read_rows(written(tmp_path, text), Fruit)
    assert complaint in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "table.csv"))
    assert "\n" not in str(error.value)
