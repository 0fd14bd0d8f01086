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
    wanted: Range,
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
    todo, visits = cases(wanted), list[Row]()
    if not todo:
        ops = ", ".join(wanted.ops)
        raise InputError(f"--ops: {ops} takes several ranks (allowed: --nproc 2 or more)")
    device = "cuda" if wanted.cuda else "cpu"

    def take(_: int, row: Any) -> None:
        visits.append(row)
        if on_row:
            on_row(len(visits), VISITS * len(todo))

    here = placements(wanted.ranks)
    if here[0].ranks != wanted.ranks:
        raise InputError(f"--nproc: torchrun started {here[0].ranks} ranks, not {wanted.ranks}")
    if wanted.cuda and torch.cuda.device_count() < here[0].local_ranks:
        raise InputError(
            f"--nproc: {here[0].local_ranks} ranks need as many GPUs, this machine has "
            f"{torch.cuda.device_count()}"
        )
    failure = run(
        MeasureJob(wanted, dtype, budget_s),
        here,
        device=device,
        timeout_s=timeout_s,
        on_message=take,
        where=lambda step: str(todo[step]),
    )
    return (merged(visits), failure) if leads() else None


def source_text(wanted: Range) -> str:
    """What measured: for the table's `source` column."""
    where = torch.cuda.get_device_name(0) if wanted.cuda else platform.machine()
    return f"isotune measure, torch {torch.__version__}, {where}"
