"""A validation for people: numbers first, then predicted beside measured."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from isotune.present.phrases import (
    count,
    milliseconds,
    percent,
    plan_text,
    printable,
    scenario_text,
)
from isotune.validation.real_run import Validation


def validation_view(result: Validation) -> RenderableType:
    """Verdict, table of times, and what the figures are of."""
    return Group(*_parts(result))


def _parts(result: Validation) -> Iterator[RenderableType]:
    setup = result.setup
    yield Text(_verdict(result), style="bold")
    yield Text(scenario_text(setup.scenario))
    yield Text(f"plan: {plan_text(setup.plan)}")
    weights = "random weights" if setup.weights is None else f"weights of {setup.weights}"
    ran_on = f"{count(setup.ranks, 'rank')} of {setup.device}"
    if setup.emulated:
        ran_on = f"one device ({setup.device}) that plays rank 0 of {setup.scenario.workload.tp}"
    yield Text(printable(f"ran on {ran_on}, {weights}"))
    for note in setup.notes:
        yield Text(printable(f"note: {note}"))
    if result.numbers is not None:
        yield Text(
            f"numbers: error {result.numbers.max_rel_error:.1e} of the largest logit in "
            f"{result.numbers.dtype} (allowed {result.numbers.tolerance:.0e}), against "
            f"{result.numbers.reference}"
        )
    yield Text()
    yield _table(result)
    if result.plan.measured is not None:
        ran = result.plan.measured
        yield Text(
            f"Medians of {count(len(ran.latencies), 'run')} "
            f"(middle half within {percent(ran.spread)}); peak memory of a rank "
            f"{max(result.peak_bytes.values(), default=0.0) / 1e9:.2f} GB."
        )


def _verdict(result: Validation) -> str:
    if result.failure is not None:
        return f"ended early: {printable(result.failure)}"
    numbers, ran = result.numbers, result.plan.measured
    checked = "not checked" if numbers is None else "the model's" if numbers.ok else "WRONG"
    saving = result.measured_saving
    if ran is None:
        return f"numbers: {checked}"
    error = result.plan.prediction.latency_s / ran.median_s - 1
    if saving is None:
        what = "EMULATION" if result.setup.emulated else f"numbers: {checked}; time"
        return f"{what}: predicted {error * 100:+.1f} % of measured; saving: not measured"
    if result.setup.emulated:
        return (
            f"EMULATION: predicted {error * 100:+.1f} % of measured; saving: "
            f"{percent(saving)} measured, {percent(result.plan.prediction.saving)} predicted"
        )
    return (
        f"numbers: {checked}; time: predicted {error * 100:+.1f} % of measured; saving: "
        f"{percent(saving)} measured, {percent(result.plan.prediction.saving)} predicted"
    )


def _table(result: Validation) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    ran_as = "emulated" if result.setup.emulated else "measured"
    for column in ("predicted", ran_as, "error"):
        table.add_column(column, justify="right")
    plan, serial = result.plan, result.serial
    for name, side in (("serial run", serial), ("this plan", plan)):
        ran = side.measured.median_s if side.measured else None
        table.add_row(name, *_cells(side.prediction.latency_s, ran))
    table.add_row(
        "exposed communication", *_cells(plan.prediction.exposed_comm_s, plan.measured_exposed_s)
    )
    for kind, (predicted, measured) in plan.kinds().items():
        table.add_row(f"  {kind.replace('_', ' ')}", *_cells(predicted, measured))
    return table


def _cells(predicted: float, measured: float | None) -> tuple[str, str, str]:
    if measured is None:
        return milliseconds(predicted), "-", "-"
    error = f"{(predicted / measured - 1) * 100:+.1f} %" if measured > 0 else "-"
    return milliseconds(predicted), milliseconds(measured), error
