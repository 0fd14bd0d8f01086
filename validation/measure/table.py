"""Measurements as tables: the columns that calibrate reads, and contention beside them."""

import csv
import io
from collections.abc import Iterable, Sequence

from validation.measure.job import Row

COLUMNS = (
    *("op", "hw", "dtype", "m", "n", "k", "batch", "q_len", "kv_len", "heads", "kv_heads"),
    *("head_dim", "tokens", "hidden", "bytes", "ranks", "algorithm", "latency_us", "source"),
)
CONTENTION_COLUMNS = (
    *("hw", "dtype", "m", "n", "k", "bytes", "ranks", "algorithm", "sms"),
    *("gemm_alone_us", "gemm_beside_us", "all_reduce_alone_us", "all_reduce_beside_us"),
    *("in_turn_us", "source"),
)


def measurements_csv(
    rows: Iterable[Row], *, hw: str, dtype: str, algorithm: str, source: str
) -> str:
    """Kernels and collectives alone; latencies in microseconds."""
    records = []
    for row in rows:
        if row.case.op == "contention":
            continue
        record: dict[str, object] = {"op": row.case.op, "hw": hw, "dtype": dtype, "source": source}
        record |= row.case.sizes | {"latency_us": _us(row.seconds)}
        if row.case.op == "all_reduce":
            record["algorithm"] = algorithm
        records.append(record)
    return _csv(COLUMNS, records)


def contention_csv(rows: Iterable[Row], *, hw: str, dtype: str, algorithm: str, source: str) -> str:
    """A GEMM and an all-reduce: alone, beside the other, and one after the other (`in_turn_us`).

    `sms` 0 is the library's own choice.
    """
    about: dict[str, object] = {
        "hw": hw,
        "dtype": dtype,
        "algorithm": algorithm,
        "source": source,
    }
    records = [
        about
        | row.case.sizes
        | {
            "gemm_alone_us": _us(row.alone_s),
            "gemm_beside_us": _us(row.seconds),
            "all_reduce_alone_us": _us(row.sync_alone_s),
            "all_reduce_beside_us": _us(row.sync_s),
            "in_turn_us": _us(row.in_turn_s),
        }
        for row in rows
        if row.case.op == "contention"
    ]
    return _csv(CONTENTION_COLUMNS, records)


def _csv(columns: Sequence[str], records: Iterable[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.3f}"
