"""The section of one plan, and the tables that every search has too."""

from collections.abc import Mapping
from typing import Any

from isotune.present.phrases import plan_text, serial_misfit, verdict, workload_text
from isotune.present.section import Cell, Column, Section, Table
from isotune.results import Predicted, Prediction, Times


def prediction_section(result: Prediction) -> Section:
    """One plan beside the serial run."""
    plans = {"this plan": result}
    return Section(
        kind="prediction",
        verdict=verdict(result),
        tables=(times_table(plans), ops_table(result, plans)),
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


SAVING = (
    Column(name="saving against serial", unit="%", digits=1),
    Column(name="80 % interval", unit="%", digits=1, short="  80 % interval"),
)


def times_table(plans: Mapping[str, Times], note: str = "") -> Table:
    """Latencies and their parts by plan."""
    columns = (
        Column(name="plan"),
        Column(name="latency", unit="ms", digits=2),
        Column(name="80 % interval", unit="ms", digits=2, short="  80 % interval"),
        *(
            Column(name=name, unit="ms", digits=2)
            for name in ("compute C", "communication M", "exposed communication")
        ),
        Column(name="lost to contention", unit="ms", digits=2),
        Column(name="lower bound max(C, M)", unit="ms", digits=2),
        *SAVING,
    )
    rows = tuple((name, *_times(times)) for name, times in plans.items())
    return Table(title="Times", columns=columns, rows=rows, note=note, upright=True, change=True)


def _times(times: Times) -> tuple[Cell, ...]:
    seconds = (
        times.compute_s,
        times.comm_s,
        times.exposed_comm_s,
        times.contention_s,
        times.bound_s,
    )
    return (
        times.latency_s * 1e3,
        scaled(times.latency_interval_s, 1e3),
        *(value * 1e3 for value in seconds),
        *saving_cells(times),
    )


def saving_cells(times: Times) -> tuple[Cell, Cell]:
    """The saving and its interval in percent; nothing for the serial run."""
    if times.is_serial:
        return None, None
    return times.saving * 100, scaled(times.saving_interval, 100)


def scaled(interval: tuple[float, float], factor: float) -> tuple[float, float]:
    """An interval in another unit."""
    low, high = interval
    return low * factor, high * factor


def ops_table(result: Predicted, plans: Mapping[str, Times]) -> Table:
    """Time and share of every operation by plan, and where its figures come from."""
    sections = {op: at for item in plans.values() for op, at in item.op_sections.items()}
    longest = max(max(item.op_seconds.values()) for item in plans.values())
    rows: list[tuple[Cell, ...]] = []
    for op, section in sections.items():
        cells: list[Cell] = []
        seconds = 0.0
        for item in plans.values():
            seconds = item.op_seconds.get(op, 0.0)
            cells += [seconds * 1e3, seconds / (item.compute_s + item.comm_s) * 100]
        rows.append((op.replace("_", " "), *cells, seconds / longest, section))
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
        note="\n".join(f"{name}: {result.sources[name]}" for name in shown),
    )
