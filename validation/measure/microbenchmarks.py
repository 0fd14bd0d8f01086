"""Runs the microbenchmarks of kernels and collectives."""

import platform
from collections.abc import Callable
from typing import Any

import torch

from isotune.simulator.errors import InputError
from isotune.validation.measure.cases import Range, cases
from isotune.validation.measure.measure_job import VISITS, MeasureJob, Row, merged
from isotune.validation.ranks import leads, placements, run


def measure(
    shapes: Range,
    *,
    dtype: str,
    budget_s: float,
    timeout_s: float,
    on_row: Callable[[int, int], None] | None = None,
) -> tuple[list[Row], str | None] | None:
    """Rows measured, and one line if the run ended early; None in a process that does not lead.

    Raises:
        InputError: too few GPUs, nothing to measure on one rank, or another number of ranks
            than torchrun started.
    """
    todo, visits = cases(shapes), list[Row]()
    if not todo:
        ops = ", ".join(shapes.ops)
        raise InputError(f"--ops: {ops} takes several ranks (allowed: --nproc 2 or more)")
    device = "cuda" if shapes.cuda else "cpu"

    def take(_: int, row: Any) -> None:
        visits.append(row)
        if on_row:
            on_row(len(visits), VISITS * len(todo))

    local = placements(shapes.ranks)
    if local[0].ranks != shapes.ranks:
        raise InputError(f"--nproc: torchrun started {local[0].ranks} ranks, not {shapes.ranks}")
    if shapes.cuda and torch.cuda.device_count() < local[0].local_ranks:
        raise InputError(
            f"--nproc: {local[0].local_ranks} ranks need as many GPUs, this machine has "
            f"{torch.cuda.device_count()}"
        )
    failure = run(
        MeasureJob(shapes, dtype, budget_s),
        local,
        device=device,
        timeout_s=timeout_s,
        on_message=take,
        where=lambda step: str(todo[step]),
    )
    return (merged(visits), failure) if leads() else None


def source_text(shapes: Range) -> str:
    """What measured: for the table's `source` column."""
    where = torch.cuda.get_device_name(0) if shapes.cuda else platform.machine()
    return f"isotune measure, torch {torch.__version__}, {where}"
