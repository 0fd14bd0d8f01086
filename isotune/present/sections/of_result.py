"""Each kind of result as a section of the page."""

from collections.abc import Callable, Sequence
from typing import Any

from isotune.present.figures.deployments import deployments_section
from isotune.present.figures.latency import lengths_figure
from isotune.present.figures.sensitivity import sensitivity_section
from isotune.present.figures.sweep import sweep_section
from isotune.present.phrases import percent, strategy_text, workload_text
from isotune.present.section import Cell, Column, Section, Table
from isotune.present.sections.check import calibration_section, check_section, checks_section
from isotune.present.sections.measured_search import measured_section
from isotune.present.sections.search import prediction_section, search_section
from isotune.present.sections.validation import validation_section
from isotune.report.saved import (
    Deployments,
    Prediction,
    Saved,
    SavedPolicy,
    SavedSensitivity,
    Search,
    Sweep,
)
from isotune.report.saved_measured import Calibration, Check, Checks, MeasuredSearch, Validation


def section_of(source: str, result: Saved, others: Sequence[Saved] = ()) -> Section:
    """A result's section; `others` are the results on the same page.

    Raises:
        InputError: what cannot be drawn of it.
    """
    if isinstance(result, SavedSensitivity):
        return sensitivity_section(source, result.table, others)
    makers: dict[type[Saved], Callable[[str, Any], Section]] = {
        Search: search_section,
        Deployments: deployments_section,
        MeasuredSearch: measured_section,
        Prediction: prediction_section,
        SavedPolicy: _policy,
        Sweep: sweep_section,
        Check: check_section,
        Checks: checks_section,
        Calibration: calibration_section,
        Validation: validation_section,
    }
    return makers[type(result)](source, result)


def _policy(source: str, result: SavedPolicy) -> Section:
    policy, curves = result.policy, [curve for curve in result.by_length if curve.points]
    points = [point for curve in curves for point in curve.points]
    first, last = policy.buckets[0].first, policy.buckets[-1].last
    crossover = (
        "serial at every length"
        if policy.serial_below is None
        else "ISO at every length"
        if policy.serial_below == first
        else f"serial below {policy.serial_below} tokens"
    )
    count = len(policy.buckets)
    said = (
        f"A policy of {count} bucket{'' if count == 1 else 's'} saves "
        f"{percent(policy.expected_saving)} over prompts of {first} to {last} tokens"
    )
    if points:
        longest = points[-1]
        low, high = (end * 100 for end in longest.saving_interval)
        said += (
            f", {percent(longest.saving)} at {longest.prompt} tokens (80 % interval: {low:.1f} to "
            f"{high:.1f} %)"
        )
    marked = policy.serial_below if policy.serial_below != first else None
    figures = [lengths_figure(curves, marked, crossover_text="ISO from")] if points else []
    return Section(
        kind="policy",
        source=source,
        title=workload_text(policy.model.name, policy.hardware, policy.workload),
        verdict=f"{said}; {crossover}.",
        plan=f"{count} plan{'' if count == 1 else 's'} by prompt length, in the table below",
        command=result.command,
        figures=tuple(figures),
        tables=(_buckets_table(result),),
    )


def _buckets_table(result: SavedPolicy) -> Table:
    columns = (
        Column(name="from", unit="tokens", digits=0),
        Column(name="to", unit="tokens", digits=0),
        Column(name="run as"),
        Column(name="chunks", unit="% of the prompt"),
        Column(name="transfer"),
        Column(name="collective", unit="SMs"),
        Column(name="syncs dropped", digits=0),
        Column(name="loss up to", unit="%", digits=2),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            bucket.first,
            bucket.last,
            strategy_text(bucket.rule.strategy),
            " + ".join(f"{share * 100:.1f}" for share in bucket.rule.shares) or "-",
            bucket.rule.comm_dtype,
            "-" if not bucket.rule.shares else str(bucket.rule.comm_sms or "default"),
            len(bucket.rule.dropped),
            bucket.loss * 100,
        )
        for bucket in result.policy.buckets
    ]
    return Table(
        title="Plans by prompt length",
        columns=columns,
        rows=tuple(rows),
        note="Loss: how far above the best plan of its own length the rule lies at most.",
    )
