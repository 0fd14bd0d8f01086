"""Runs the microbenchmarks of kernels and collectives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from isotune.simulator.errors import InputError
from isotune.validation.measure.cases import Range, cases
from isotune.validation.measure.measure_job import VISITS, MeasureJob, Row, merged
from isotune.validation.ranks import check_gpus, leads, placements, run
from isotune.validation.real_run import MachineRecord


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """The rows measured, what rank 0 ran on, and one line if the run ended early."""

    rows: list[Row]
    machine: MachineRecord | None = None
    failure: str | None = None


def measure(
    shapes: Range,
    *,
    dtype: str,
    budget_s: float,
    timeout_s: float,
    on_row: Callable[[int, int], None] | None = None,
    keep: Callable[[Measurements], None] = lambda _: None,
) -> Measurements | None:
    """Measure a range; None in a process that does not lead.

    `keep` is called with what there is after every visit of all cases.

    Raises:
        InputError: too few GPUs, nothing to measure on one rank, or another number of ranks
            than torchrun started.
    """
    todo, visits, machines = cases(shapes), list[Row](), list[MachineRecord]()
    if not todo:
        ops = ", ".join(shapes.ops)
        raise InputError(f"--ops: {ops} takes several ranks (allowed: --nproc 2 or more)")
    device = "cuda" if shapes.cuda else "cpu"

    def take(_: int, message: Any) -> None:
        if isinstance(message, MachineRecord):
            machines.append(message)
            return
        visits.append(message)
        if on_row:
            on_row(len(visits), VISITS * len(todo))
        if len(visits) % len(todo) == 0:
            keep(measurements(None))

    def measurements(failure: str | None) -> Measurements:
        machine = machines[0] if machines else None
        return Measurements(rows=merged(visits), machine=machine, failure=failure)

    local = placements(shapes.ranks)
    if local[0].ranks != shapes.ranks:
        raise InputError(f"--nproc: torchrun started {local[0].ranks} ranks, not {shapes.ranks}")
    if shapes.cuda:
        check_gpus(local)
    failure = run(
        MeasureJob(shapes, dtype, budget_s),
        local,
        device=device,
        timeout_s=timeout_s,
        on_message=take,
        where=lambda step: str(todo[step]),
    )
    return measurements(failure) if leads() else None


def source_text(machine: MachineRecord) -> str:
    """What measured: for the table's `source` column."""
    return f"isotune measure, torch {machine.torch}, {machine.device}"
