"""The section of a trace: did communication overlap with compute, and what was exposed?"""

from collections.abc import Iterator

from isotune.present.phrases import count, milliseconds, percent
from isotune.present.section import Section, Table, ms, number, share, table, text
from isotune.results import Busy, Traced

_NOTHING = 1e-12
"""Seconds of which no error is a share."""
_MOST_PASSES, _MOST_BLOCKS, _MOST_KERNELS = 8, 8, 12


def trace_section(done: Traced) -> Section:
    """One rank's trace: passes, blocks, operations, and kernels."""
    return Section(
        kind="trace",
        title=_title(done),
        verdict=_verdict(done),
        command=done.command,
        lines=tuple(_lines(done)),
        tables=tuple(_tables(done)),
        notes=tuple(_notes(done)),
    )


def _title(done: Traced) -> str:
    rank = "one rank" if done.rank is None else f"rank {done.rank}"
    of = "" if done.ranks is None else f" of {done.ranks}"
    return f"{done.file}: {rank}{of}, {done.device}"


def _verdict(done: Traced) -> str:
    one = done.one
    if not one.comm_s:
        return "No communication in the trace: there is nothing to overlap."
    return (
        f"{percent(one.overlapped_s / one.comm_s)} of the communication ran beside compute; "
        f"{milliseconds(one.exposed_s)} of it was exposed, "
        f"{percent(one.exposed_s / one.latency_s)} of a pass of {milliseconds(one.latency_s)}."
    )


def _lines(done: Traced) -> Iterator[str]:
    if len(done.passes) > 1:
        yield f"{len(done.passes):,} passes; shown: {done.one.name}, of median latency."
    if done.predicted is not None:
        yield f"Predicted: {done.predicted.model} on {done.predicted.hardware}."


def _tables(done: Traced) -> Iterator[Table]:
    if done.predicted is None:
        yield _busy_table("Passes", "pass", done.passes, _MOST_PASSES)
    else:
        yield _compared_table(done)
        yield _busy_table("Passes", "pass", done.passes, _MOST_PASSES, place="page")
    if done.blocks:
        yield _busy_table("Blocks", "block", done.blocks, _MOST_BLOCKS)
    yield _operations_table(done)
    yield _kernels_table(done)


def _busy_table(title: str, what: str, rows: tuple[Busy, ...], most: int, **more: str) -> Table:
    return table(
        title,
        rows,
        text(what, lambda one: one.name, fold=True),
        ms("time", lambda one: one.latency_s),
        ms("compute", lambda one: one.compute_s),
        ms("communication", lambda one: one.comm_s, short="comm"),
        ms("exposed", lambda one: one.exposed_s),
        ms("idle", lambda one: one.idle_s),
        most=most,
        more=f"more {what}{'es' if what == 'pass' else 's'}",
        **more,
    )


def _compared_table(done: Traced) -> Table:
    one, said = done.one, done.predicted
    assert said is not None
    pairs = [
        ("latency", said.latency_s, one.latency_s),
        ("compute", said.compute_s, one.compute_s),
        ("communication", said.comm_s, one.comm_s),
        ("no compute: exposed and idle", said.exposed_comm_s, one.exposed_s + one.idle_s),
        *_classes(done),
    ]
    return table(
        "Predicted beside measured",
        pairs,
        text("what", lambda name, *_: name, fold=True),
        ms("predicted", lambda _, predicted, __: predicted, 3),
        ms("measured", lambda _, __, measured: measured, 3),
        share("error", lambda _, said, ran: _error(said, ran), signed=True),
    )


def _error(said: float | None, ran: float | None) -> float | None:
    return said / ran - 1 if said and ran and ran > _NOTHING else None


def _classes(done: Traced) -> Iterator[tuple[str, float | None, float | None]]:
    """Compute by class of operation; None on the side that has none of it."""
    said = {} if done.predicted is None else done.predicted.classes
    for name in dict.fromkeys((*said, *done.classes)):
        yield name.replace("_", " "), said.get(name), done.classes.get(name)


def _operations_table(done: Traced) -> Table:
    ops: dict[str, tuple[float, int]] = {}
    for kernel in done.kernels:
        seconds, calls = ops.get(kernel.op, (0.0, 0))
        ops[kernel.op] = seconds + kernel.seconds, calls + kernel.calls
    total = sum(seconds for seconds, _ in ops.values()) or 1.0
    return table(
        "Operations",
        [(op, *found) for op, found in sorted(ops.items(), key=lambda item: -item[1][0])],
        text("operation", lambda op, *_: op.replace("_", " "), short="where the time goes"),
        ms("time", lambda _, seconds, __: seconds),
        share("share", lambda _, seconds, __: seconds / total),
        number("calls", lambda *item: item[-1]),
    )


def _kernels_table(done: Traced) -> Table:
    unknown = set(done.unknown)
    rows = sorted(done.kernels, key=lambda kernel: kernel not in unknown)
    return table(
        "Kernels, those that the table does not know first",
        rows,
        text("kernel", lambda kernel: kernel.name, fold=True),
        text("operation", lambda kernel: kernel.op.replace("_", " ")),
        ms("time", lambda kernel: kernel.seconds),
        number("calls", lambda kernel: kernel.calls),
        most=max(_MOST_KERNELS, len(unknown)),
        more="more kernels",
    )


def _notes(done: Traced) -> Iterator[str]:
    if done.unknown:
        seconds = sum(kernel.seconds for kernel in done.unknown)
        yield (
            f"{count(len(done.unknown), 'kernel')} ({milliseconds(seconds)}) unknown, counted as "
            "compute; --kernels FILE names them."
        )
    if done.kernels_left_out:
        yield f"{count(done.kernels_left_out, 'kernel')} of the shortest times not listed."
    if done.one.comm_s and not done.blocks:
        yield "No blocks: nothing repeats between the collectives (--per-block N sets how many)."
    if done.per_block is not None:
        yield f"A block has {count(done.per_block, 'collective')} and ends with the last of them."
    if done.one.comm_s:
        yield "Communication of one rank includes its waits for the others."
    if done.table is not None:
        yield (
            f"wrote {done.table}: {count(done.table_rows, 'row')}; "
            f"{count(done.table_left_out, 'kernel')} left out, of unknown size, of a product of "
            "several kernels, or beside another kernel."
        )
