"""Measurements as tables: the columns that calibrate reads, and contention beside them."""

from collections.abc import Iterable

from isotune.simulator.io import csv_text
from isotune.validation.choices import COLLECTIVES
from isotune.validation.measure.cases import ATTENTION_SIZES
from isotune.validation.measure.measure_job import Row

COLUMNS = (
    *("op", "hw", "dtype", "m", "n", "k", *ATTENTION_SIZES),
    *("tokens", "hidden", "bytes", "ranks", "algorithm", "latency_us", "source"),
)
CONTENTION_COLUMNS = (
    *("op", "hw", "dtype", "m", "n", "k", *ATTENTION_SIZES, "bytes", "ranks", "algorithm", "sms"),
    *("alone_us", "beside_us", "all_reduce_alone_us", "all_reduce_beside_us", "skew_us", "source"),
)


def measurements_csv(rows: Iterable[Row], about: dict[str, object]) -> str:
    """Kernels and collectives alone; latencies in microseconds.

    `about` has the cells that all rows share: `hw`, `dtype`, `algorithm` and `source`.
    """
    records = []
    for case, seconds in ((row.case, row.seconds) for row in rows if row.case.op != "contention"):
        algorithm = about["algorithm"] if case.op in COLLECTIVES else ""
        cells = {"op": case.op, "algorithm": algorithm, "latency_us": _us(seconds)}
        records.append(about | case.sizes | cells)
    return csv_text(COLUMNS, records)


def contention_csv(rows: Iterable[Row], about: dict[str, object]) -> str:
    """A GEMM or attention (`op`) and an all-reduce: alone, and beside the other.

    `skew_us`: what a serial pass of the block's kernels takes beyond them and its
    all-reduces, per all-reduce. `sms` 0 is the library's own choice. `about` as above.
    """
    records = [
        about
        | row.case.sizes
        | {
            "op": "gemm" if "m" in row.case.sizes else "attention",
            "alone_us": _us(row.alone_s),
            "beside_us": _us(row.seconds),
            "all_reduce_alone_us": _us(row.sync_alone_s),
            "all_reduce_beside_us": _us(row.sync_s),
            "skew_us": _us(row.skew_s),
        }
        for row in rows
        if row.case.op == "contention"
    ]
    return csv_text(CONTENTION_COLUMNS, records)


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.3f}"
