"""The section of one plan, and the tables that every search has too."""

from collections.abc import Iterator, Mapping
from typing import Any

from isotune.present.phrases import (
    op_text,
    percent,
    plan_text,
    serial_misfit,
    verdict,
    workload_text,
)
from isotune.present.section import Cell, Column, Section, Table, ms, number, share, table, text
from isotune.results import AllReduce, Predicted, Prediction, Times


def prediction_section(result: Prediction) -> Section:
    """One plan beside the serial run."""
    plans = {"this plan": result}
    return Section(
        kind="prediction",
        verdict=verdict(result),
        tables=(times_table(plans), ops_table(result, plans), *all_reduces_tables(plans)),
        **head(result),
    )


def head(result: Predicted) -> dict[str, Any]:
    """What every section of a predicted plan begins with: scenario, plan, cautions."""
    misfit = () if result.baseline.fits else (serial_misfit(result.baseline.memory),)
    return {
        "title": workload_text(result.model, result.hardware, result.workload),
        "plan": plan_text(result.plan),
        "command": result.command,
        "lines": misfit,
        "cautions": result.cautions,
    }


def times_table(plans: Mapping[str, Times], note: str = "") -> Table:
    """Latencies and their parts by plan."""
    return table(
        "Times",
        plans.items(),
        text("plan", lambda name, _: name),
        ms("latency", lambda _, times: times.latency_s),
        ms("80 % interval", lambda _, times: times.latency_interval_s, short="  80 % interval"),
        ms("compute C", lambda _, times: times.compute_s),
        ms("communication M", lambda _, times: times.comm_s),
        ms("exposed communication", lambda _, times: times.exposed_comm_s),
        ms("lost to contention", lambda _, times: times.contention_s),
        ms("lower bound max(C, M)", lambda _, times: times.bound_s),
        share("saving against serial", lambda _, times: saving(times)),
        share("80 % interval", lambda _, times: saving_interval(times), short="  80 % interval"),
        note=note,
        upright=True,
        change=True,
    )


def above_ideal(times: Times) -> str:
    """How far a plan is from perfect overlap."""
    return f"{percent(times.latency_s / times.bound_s - 1)} above perfect overlap"


def all_reduces_tables(plans: Mapping[str, Times]) -> Iterator[Table]:
    """Which algorithm carries each all-reduce, by plan; nothing where there are none."""
    rows = [(name, one) for name, times in plans.items() for one in times.all_reduces]
    if not rows:
        return
    fused = "* with the residual and the norm after it; what it takes beyond the norm's own kernel"
    derived = "+ derived: this machine was not measured with it"
    notes = [
        note
        for note, said in (
            (fused, any(one.norm for _, one in rows)),
            (derived, not all(one.measured for _, one in rows)),
        )
        if said
    ]
    yield table(
        "All-reduces",
        rows,
        text("all-reduce", lambda _, one: op_text(one.op).removesuffix(" all-reduce")),
        *((text("plan", lambda name, _: name),) if len(plans) > 1 else ()),
        number("times", lambda _, one: one.count),
        number("tokens", lambda _, one: one.tokens),
        number("MiB", lambda _, one: one.message_bytes / 2**20, digits=2),
        ms("each", lambda _, one: one.seconds),
        text("algorithm", lambda _, one: _algorithm(one)),
        note="\n".join(notes),
    )


def _algorithm(one: AllReduce) -> str:
    marks = "*" * one.norm + "+" * (not one.measured)
    line = "" if one.protocol.replace("_", "-") in one.algorithm else f" {one.protocol}"
    return f"{one.algorithm}{line}{marks}"


def saving(times: Times) -> float | None:
    """What a plan saves; nothing for the serial run."""
    return None if times.is_serial else times.saving


def saving_interval(times: Times) -> tuple[float, float] | None:
    """The interval of a saving; nothing for the serial run."""
    return None if times.is_serial else times.saving_interval


def ops_table(result: Predicted, plans: Mapping[str, Times]) -> Table:
    """Time and share of every operation by plan, and where its figures come from."""
    sections = {op: at for item in plans.values() for op, at in item.op_sections.items()}
    longest = max(max(item.op_seconds.values()) for item in plans.values()) or 1.0
    rows: list[tuple[Cell, ...]] = []
    for op, section in sections.items():
        cells: list[Cell] = []
        seconds = 0.0
        for item in plans.values():
            seconds = item.op_seconds.get(op, 0.0)
            cells += [seconds * 1e3, seconds / (item.compute_s + item.comm_s) * 100]
        rows.append((op_text(op), *cells, seconds / longest, section))
    times = [
        column
        for name in plans
        for column in (
            Column(name=name, unit="ms", digits=2),
            Column(name="share", unit="%", digits=1),
        )
    ]
    shown = dict.fromkeys(sections.values())
    return Table(
        title="Operations",
        columns=(
            Column(name="operation", short="where the time goes"),
            *times,
            Column(name="", bar=True, place="terminal"),
            Column(name="figures"),
        ),
        rows=tuple(rows),
        note="\n".join(f"{name}: {result.sources.get(name, 'source not saved')}" for name in shown),
    )
