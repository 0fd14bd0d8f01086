"""`all_reduce_perf` output (github.com/NVIDIA/nccl-tests) to all-reduce measurements.

The log states its own columns in a comment line that starts with `size`; times are
microseconds, for the out-of-place call first and the in-place call second. Ranks are the
`#  Rank` lines. Older versions have no `root` column and call `#wrong` `error`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from isotune.simulator.errors import InputError
from isotune.simulator.io import LARGEST, Dtype, csv_text, read_text
from isotune.simulator.number_types import number_type

_RANK = re.compile(r"#?\s*Rank\s+\d+\s.*?Pid\s+\d+\s+on\s+(\S+)\s+device")
_TEST = re.compile(r"Collective test starting:\s*(\S+)")
_VERSION = re.compile(r"nccl-library=(\d{1,9})\b")
_PREFIX = re.compile(r"^\[\d+,\d+\]<std(?:out|err)>:\s?")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One all-reduce: bytes per rank, ranks, type, and its time in microseconds as printed."""

    message_bytes: int
    ranks: int
    dtype: Dtype
    latency_us: float
    line: int


@dataclass(frozen=True, kw_only=True)
class Log:
    """The measurements of a log and the NCCL that made them (`2.19.4`, or empty)."""

    rows: tuple[Measured, ...]
    nccl: str


def read_log(path: Path, *, in_place: bool = False) -> Log:
    """The all-reduces of an nccl-tests log of one node.

    Raises:
        InputError: names the line: another collective, several hosts, no rank lines, no column
            line, an unknown type or reduction, a number that is none, or a failed test.
    """
    hosts: list[str] = []
    columns: list[str] = []
    rows: list[Measured] = []
    nccl = ""
    for number, raw in enumerate(read_text(path).splitlines(), 1):
        line = _PREFIX.sub("", raw).strip()
        where = f"{path}: line {number}"
        _check_test(line, where)
        found = _RANK.search(line)
        words = line.lstrip("#").split()
        if found:
            hosts.append(found.group(1))
        elif match := _VERSION.search(line):
            nccl = _version(int(match.group(1)))
        elif words[:2] == ["size", "count"]:
            columns = words
        elif line.startswith("#") or not line or not line[0].isdigit():
            continue
        else:
            row = _row(line.split(), columns, len(hosts), in_place, number, where)
            rows += [row] if row.message_bytes else []
    if not rows:
        raise InputError(f"{path}: no all-reduce rows (is this the output of all_reduce_perf?)")
    if len(set(hosts)) > 1:
        raise InputError(f"{path}: {len(set(hosts))} hosts; a table holds all-reduces of one node")
    return Log(rows=tuple(rows), nccl=nccl)


def table_text(log: Log, *, hw: str, source: str) -> str:
    """The rows as a measurements table."""
    columns = ("op", "hw", "dtype", "bytes", "ranks", "algorithm", "latency_us", "source")
    records = [
        {
            "op": "all_reduce",
            "hw": hw,
            "dtype": row.dtype,
            "bytes": row.message_bytes,
            "ranks": row.ranks,
            "algorithm": "nccl",
            "latency_us": f"{row.latency_us:g}",
            "source": source,
        }
        for row in log.rows
    ]
    return csv_text(columns, records)


def _check_test(line: str, where: str) -> None:
    test = _TEST.search(line)
    if test and not test.group(1).startswith("all_reduce"):
        raise InputError(f"{where}: {test.group(1)} measures another collective (all_reduce_perf)")
    if "Test NCCL failure" in line or "Test CUDA failure" in line:
        raise InputError(f"{where}: the test failed ({line[:80]})")


def _row(
    words: list[str], columns: list[str], ranks: int, in_place: bool, number: int, where: str
) -> Measured:
    if not columns:
        raise InputError(f"{where}: numbers before the line that names their columns")
    if ranks < 2:
        raise InputError(f"{where}: {ranks} '#  Rank' lines before it; an all-reduce needs 2 ranks")
    if len(words) != len(columns):
        raise InputError(f"{where}: {len(words)} values for {len(columns)} columns")
    times = [i for i, name in enumerate(columns) if name == "time"]
    if len(times) != 2 or "type" not in columns:
        raise InputError(f"{where}: expected a type column and two time columns")
    cells = dict(zip(columns, words, strict=True))
    try:
        dtype = number_type(cells["type"]).name
    except InputError as error:
        raise InputError(f"{where}: column type: {error}") from error
    if cells.get("redop", "sum") != "sum":
        raise InputError(f"{where}: column redop: {cells['redop']!r}, not sum")
    latency = _number(words[times[in_place]], "time", where)
    size = _number(cells["size"], "size", where)
    if latency <= 0 and size:
        raise InputError(f"{where}: column time: {words[times[in_place]]} is not above zero")
    return Measured(
        message_bytes=int(size),
        ranks=ranks,
        dtype=dtype,
        latency_us=latency,
        line=number,
    )


def _number(text: str, column: str, where: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]*)?(e[+-]?[0-9]+)?", text):
        raise InputError(f"{where}: column {column}: {text!r:.40} is not a number")
    if (number := float(text)) > LARGEST:
        raise InputError(f"{where}: column {column}: {text:.40} is too large")
    return number


def _version(code: int) -> str:
    """`23102` is NCCL 2.31.2; up to 2.8 the code had one digit less (`2804` is 2.8.4)."""
    major, minor = (10_000, 100) if code >= 10_000 else (1_000, 100)
    return f"{code // major}.{code % major // minor}.{code % 100}"
