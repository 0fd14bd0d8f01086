"""Rows for `isotune check` and `calibrate`: kernels of a trace whose sizes are known.

The sizes of a product are those that its operator was called with (`record_shapes=True`); a
collective's are in the metadata of NCCL's kernel or, on a CPU, of Gloo's call. What ran beside
another stream was slowed by it and is left out, and so is a product of several kernels. A
collective's time in one rank's trace includes the wait for the slower ranks: of its repeats the
shortest counts.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from isotune.simulator.errors import InputError
from isotune.simulator.io import csv_text
from isotune.simulator.kernels import KINDS
from isotune.simulator.number_types import bytes_of, number_type
from isotune.validation.traces.events import Event, Trace
from isotune.validation.traces.passes import TracedPass, Work

_OPERATORS = {"aten::mm": (0, 1), "aten::addmm": (1, 2), "aten::linear": (0, 1)}
"""Operators of one product, and which of their inputs are multiplied."""
_LARGEST = 10**12
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class SizedRows:
    """Rows of a measurements table, and how many kernels of products and collectives gave none."""

    rows: tuple[Row, ...]
    left_out: int


def rows_of(trace: Trace, passes: Sequence[TracedPass]) -> SizedRows:
    """The rows of all passes: one per product, one per kind and size of collectives."""
    operators = _operators(trace)
    kernels = Counter(_asked(work) for one in passes for work in one.work if work.op == "gemm")
    products: list[Row] = []
    shortest: dict[tuple[object, ...], Row] = {}
    left_out = 0
    for one in passes:
        for work, alone in _with_neighbours(one):
            if work.op not in ("gemm", *KINDS):
                continue
            row = _product(work.event, operators) if work.op == "gemm" else _sent(work, trace)
            several = work.op == "gemm" and kernels[_asked(work)] > 1
            if row is None or several or not alone:
                left_out += 1
            elif work.op == "gemm":
                products.append(row)
            else:
                key = tuple(row[name] for name in ("op", "dtype", "bytes", "ranks", "algorithm"))
                known = shortest.setdefault(key, row)
                if row["latency_us"] < known["latency_us"]:
                    shortest[key] = row
    return SizedRows(rows=(*products, *shortest.values()), left_out=left_out)


def rows_text(found: SizedRows, *, hw: str, source: str) -> str:
    """The rows as a measurements table.

    Raises:
        InputError: there are none.
    """
    if not found.rows:
        raise InputError(
            "-o: no kernel has known sizes: torch.profiler needs record_shapes=True, and kernels "
            "of a CUDA graph have none"
        )
    columns = (
        *("op", "hw", "dtype", "m", "n", "k", "bytes", "ranks", "algorithm"),
        *("latency_us", "source"),
    )
    records = [
        dict.fromkeys(columns, "")
        | row
        | {"hw": hw, "source": source, "latency_us": f"{row['latency_us']:.3f}"}
        for row in found.rows
    ]
    return csv_text(columns, records)


def _with_neighbours(one: TracedPass) -> Iterator[tuple[Work, bool]]:
    """What ran in a pass, and whether it had the device to itself."""
    reached = float("-inf")
    for index, work in enumerate(one.work):
        following = one.work[index + 1].event.start if index + 1 < len(one.work) else float("inf")
        yield work, reached <= work.event.start and work.event.end <= following
        reached = max(reached, work.event.end)


def _operators(trace: Trace) -> dict[object, Event]:
    """Operators of one product by the number that their kernels name."""
    return {
        event.arguments.get("External id"): event
        for event in trace.of("cpu_op")
        if event.name in _OPERATORS and isinstance(event.arguments.get("External id"), int)
    }


def _asked(work: Work) -> object:
    """The operator that asked for a kernel; a product of several kernels has one for all."""
    number = work.event.arguments.get("External id")
    return number if isinstance(number, int) else id(work)


def _product(event: Event, operators: dict[object, Event]) -> Row | None:
    """The row of a product; None where its sizes are not known."""
    asked = event.arguments.get("External id")
    operator = event if event.name in _OPERATORS else None
    if operator is None and isinstance(asked, int):
        operator = operators.get(asked)
    if operator is None:
        return None
    left, right = _OPERATORS[operator.name]
    shapes, types = (operator.arguments.get(name) for name in ("Input Dims", "Input type"))
    a, b = _shape(shapes, left), _shape(shapes, right)
    dtype = _dtype(types[left]) if isinstance(types, list) and left < len(types) else None
    if a is None or b is None or dtype is None or len(b) != 2:
        return None
    n, k = b if operator.name == "aten::linear" else (b[1], b[0])
    m = prod(a[:-1])
    if a[-1] != k or not 0 < m <= _LARGEST or event.seconds <= 0:
        return None
    latency = event.seconds * 1e6
    return {"op": "gemm", "dtype": dtype, "m": m, "n": n, "k": k, "latency_us": latency}


def _sent(work: Work, trace: Trace) -> Row | None:
    """The row of a collective; None where what it sent is not known."""
    arguments = work.event.arguments
    sent, kind = arguments.get("In msg nelems"), arguments.get("dtype")
    received, ranks = arguments.get("Out msg nelems"), arguments.get("Group size")
    algorithm = "nccl"
    if not trace.on_gpu:
        shape, types = _shape(arguments.get("Input Dims"), 0), arguments.get("Input type")
        sent = None if shape is None else prod(shape)
        received = sent
        kind = types[0] if isinstance(types, list) and types else None
        ranks, algorithm = trace.ranks, "gloo"
    elements = received if work.op == "all_gather" else sent
    dtype = _dtype(kind)
    if not (_is_size(elements) and _is_size(ranks) and dtype and work.event.seconds > 0):
        return None
    assert isinstance(elements, int)
    if ranks == 1 or (work.op != "all_reduce" and algorithm == "gloo"):
        return None
    return {
        "op": work.op,
        "dtype": dtype,
        "bytes": int(elements * bytes_of(dtype)),
        "ranks": ranks,
        "algorithm": algorithm,
        "latency_us": work.event.seconds * 1e6,
    }


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST


def _shape(shapes: object, index: int) -> list[int] | None:
    """The shape of one input; None where it is not known."""
    if not isinstance(shapes, list) or index >= len(shapes):
        return None
    shape = shapes[index]
    if not isinstance(shape, list) or not shape or not all(map(_is_size, shape)):
        return None
    return shape


def _dtype(name: object) -> str | None:
    """`c10::BFloat16` as bf16; None for a type that tables have not."""
    try:
        return number_type(str(name).removeprefix("c10::").lower()).name
    except InputError:
        return None
