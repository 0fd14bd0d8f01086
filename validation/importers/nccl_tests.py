"""`all_reduce_perf` output (github.com/NVIDIA/nccl-tests) to all-reduce measurements.

The log states its own columns in a comment line that starts with `size`; times are
microseconds, for the out-of-place call first and the in-place call second. Ranks are the
`#  Rank` lines of a run; a file may hold several runs, each with its own. Older versions have no
`root` column and call `#wrong` `error`. What mpirun, srun and kubectl put before a line, and what
other programs print between the lines, is passed over.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from isotune.simulator.errors import InputError
from isotune.simulator.io import LARGEST, Dtype, csv_text, read_text
from isotune.simulator.number_types import number_type

_RANK = re.compile(r"#?\s*Rank\s+(\d+)\s.*?Pid\s+\d+\s+on\s+(\S+)\s+device")
_TEST = re.compile(r"\b([a-z]+(?:_[a-z]+)*_perf)\b")
_FORCED = re.compile(r"\bNCCL_(?:ALGO|PROTO)=[A-Za-z0-9_,^]{1,40}")
_VERSION = re.compile(r"nccl-library=(\d{1,9})\b")
_RUN = re.compile(r"#?\s*nThread\s+\d+\s+nGpus\s+\d+")
_FAILED = re.compile(r"Test (?:NCCL|CUDA) failure|Out of bounds values\s*:\s*\d+\s+FAILED")
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PREFIX = re.compile(
    r"(?:\[\d+,\d+\]<std(?:out|err)>:"  # mpirun --tag-output
    r"|\[\d+\](?=\s)"  # the rank alone
    r"|\d+:(?=\s|$)"  # srun --label
    r"|\[?pod/[^\s\]]+\]?(?=\s)"  # kubectl logs --prefix
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*(?=\s|$)"  # kubectl logs --timestamps
    r")\s*"
)
_NUMBERS = re.compile(r"\d+\s+\d+\s")
_INSIDE = re.compile(r"\[\d+\]")
_ALL_REDUCE = "all_reduce_perf"
_CLEAR = 1.0
"""GB/s from which two printed bandwidths tell collectives apart."""


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
    """The measurements of a log, and the NCCL that made them (`2.19.4`, or empty).

    `left_out` counts the rows of other collectives; `forced` are settings of NCCL that a command
    in the log makes, such as `NCCL_ALGO=RING`.
    """

    rows: tuple[Measured, ...]
    nccl: str
    left_out: dict[str, int] = field(default_factory=dict)
    forced: tuple[str, ...] = ()


def read_log(path: Path, *, in_place: bool = False, ranks: int | None = None) -> Log:
    """The all-reduces of an nccl-tests log of one node, which may hold several runs.

    Args:
        path: the log.
        in_place: take the in-place times.
        ranks: ranks of every run, where the log has lost its `#  Rank` lines.

    Raises:
        InputError: names the line: several hosts, no rank lines, one rank, no column line, an
            unknown type or reduction, a number that is none, wrong results, or a failed test.
            Or the log holds other collectives only.
    """
    reader = _Reader(path, in_place, ranks)
    for number, raw in enumerate(read_text(path).splitlines(), 1):
        reader.read(_plain(raw), number)
    if not reader.rows:
        found = ", ".join(reader.left_out)
        reason = f"it holds {found}" if found else "is this the output of all_reduce_perf?"
        raise InputError(f"{path}: no all-reduce rows ({reason})")
    return Log(
        rows=tuple(reader.rows),
        nccl=reader.nccl,
        left_out=reader.left_out,
        forced=tuple(dict.fromkeys(reader.forced)),
    )


def _plain(raw: str) -> str:
    """A line without what launchers and terminals put around it."""
    line = _ESCAPE.sub("", raw).strip()
    while match := _PREFIX.match(line):
        line = line[match.end() :]
    return line


class _Reader:
    """A log as far as it is read: the run at hand, and the rows so far."""

    def __init__(self, path: Path, in_place: bool, ranks: int | None) -> None:
        self.rows: list[Measured] = []
        self.left_out: dict[str, int] = {}
        self.forced: list[str] = []
        self.nccl = ""
        self._path, self._in_place, self._given = path, in_place, ranks
        self._test = self._next_test = ""
        self._columns: list[str] = []
        self._begin()

    def _begin(self) -> None:
        """A run begins; the command before it has said which."""
        self._hosts: dict[int, str] = {}
        self._measured = False
        self._test, self._next_test = self._next_test, ""

    def read(self, line: str, number: int) -> None:
        """One line."""
        where = f"{self._path}: line {number}"
        if _FAILED.search(line):
            raise InputError(f"{where}: the test failed ({line[:80]})")
        words = line.lstrip("#").split()
        if match := _RANK.search(line):
            self._rank(int(match.group(1)), match.group(2), where)
        elif match := _VERSION.search(line):
            self.nccl = _version(int(match.group(1)))
        elif words[:2] == ["size", "count"]:
            self._columns = words
        elif _RUN.match(line):
            # Processes that each say so belong to one run; what was measured ends a run.
            if self._measured or self._next_test:
                self._begin()
        elif match := _TEST.search(line):
            self._named(match.group(1), line)
        elif _NUMBERS.match(line):
            self._row(_INSIDE.sub(" ", line).split(), number, where)

    def _named(self, test: str, line: str) -> None:
        if "concluded" in line:
            return
        self.forced += _FORCED.findall(line)
        self._next_test = test
        if self._measured or line.startswith("#"):
            self._begin()

    def _rank(self, rank: int, host: str, where: str) -> None:
        if self._measured:
            self._begin()
        if rank in self._hosts:
            raise InputError(
                f"{where}: rank {rank} a second time: processes that do not know of each other "
                "(nccl-tests built without MPI=1?)"
            )
        self._hosts[rank] = host
        if (hosts := len(set(self._hosts.values()))) > 1:
            raise InputError(f"{where}: {hosts} hosts; a table holds all-reduces of one node")

    def _ranks(self, where: str) -> int:
        known = len(self._hosts)
        if self._given is not None and known not in (0, self._given):
            raise InputError(f"{where}: --ranks is {self._given}, but the run has {known} ranks")
        ranks = known or self._given or 0
        if ranks < 2:
            hint = "" if known else ", or --ranks"
            raise InputError(
                f"{where}: {ranks} '#  Rank' lines before it; an all-reduce needs 2 ranks{hint}"
            )
        return ranks

    def _row(self, words: list[str], number: int, where: str) -> None:
        self._measured = True
        other = self._test if self._test not in ("", _ALL_REDUCE) else ""
        if not other and "type" in self._columns and "redop" not in self._columns:
            other = "a collective without reduction"
        if other:
            self.left_out[other] = self.left_out.get(other, 0) + 1
            return
        row = _row(words, self._columns, self._ranks(where), self._in_place, number, where)
        self.rows += [row] if row.message_bytes else []


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


def _row(
    words: list[str], columns: list[str], ranks: int, in_place: bool, number: int, where: str
) -> Measured:
    if not columns:
        raise InputError(f"{where}: numbers before the line that names their columns")
    times = [i for i, name in enumerate(columns) if name == "time"]
    if len(times) != 2 or "type" not in columns:
        raise InputError(f"{where}: expected a type column and two time columns")
    if len(words) != len(columns):
        raise InputError(f"{where}: {len(words)} values for {len(columns)} columns")
    cells = dict(zip(columns, words, strict=True))
    _check_results(columns, words, ranks, where)
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


def _check_results(columns: list[str], words: list[str], ranks: int, where: str) -> None:
    """Refuse results that are wrong, and bandwidths that are those of another collective.

    nccl-tests prints busbw = 2 (n - 1) / n algbw for an all-reduce of n ranks, and half of that
    for a reduce-scatter (doc/PERFORMANCE.md there).
    """
    cells = list(zip(columns, words, strict=True))
    wrong = [word for name, word in cells if name == "#wrong" and word not in ("0", "N/A")]
    if wrong:
        raise InputError(f"{where}: column #wrong: {wrong[0]:.40} wrong values")
    rates = [[word for name, word in cells if name == kind] for kind in ("algbw", "busbw")]
    if not all(rates):
        return
    alg, bus = (_number(rate[0], "algbw", where) for rate in rates)
    if alg >= _CLEAR and bus < 0.75 * 2 * (ranks - 1) / ranks * alg:
        raise InputError(
            f"{where}: busbw is {bus / alg:.2f} of algbw, which is not an all-reduce of {ranks} "
            "ranks (another collective, or other ranks?)"
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
