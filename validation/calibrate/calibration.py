"""Measurements to profile: estimate every section the rows speak about, and say how well."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from isotune.simulator.errors import InputError
from isotune.simulator.kernels import Array, KernelSet, Protocol
from isotune.simulator.machine import Calibration, Errors, HardwareProfile, OpError
from isotune.validation.calibrate.estimate import estimate, put
from isotune.validation.calibrate.fits import SECTIONS, Section, SectionReport, seeded
from isotune.validation.calibrate.holdout import op_error, split, thinned
from isotune.validation.calibrate.provenance import CLASS_OF, STANDS_FOR_CLASS, sources_of
from isotune.validation.tables import Rows, Table, kernel_seconds, unique, why_not

_OWN_ERROR = ("latent_attention", "experts")
"""Sections whose default set states its own error: their class has other kernels too."""

ROWS_PER_GROUP = 3000
"""Rows used to estimate one section; more move no parameter and take longer."""

OTHER_CHOICE = 6.0
"""How much lower the cost of a discrete choice other than the base's must be: two prior widths."""


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A calibrated profile, what was estimated, and rows that could not be used (with why)."""

    base: HardwareProfile
    profile: HardwareProfile
    sections: tuple[SectionReport, ...]
    unused: dict[str, int]

    @property
    def undetermined(self) -> tuple[str, ...]:
        """Paths of parameters that stay at the base's values for want of rows."""
        return tuple(p.path for s in self.sections for p in s.parameters if not p.determined)


def calibrate(
    tables: Sequence[Table],
    base: HardwareProfile,
    *,
    name: str,
    date: str,
    relatives: Sequence[Table] = (),
    seed: int = 0,
) -> Calibrated:
    """A profile of the machine the tables were measured on; same input, same output.

    Args:
        tables: its measurements.
        base: the profile to start from, and to stay at where the rows say nothing. Its
            specification (`gpu`, `node`) must be the machine's.
        name: the new profile's name.
        date: year-month-day, for the record.
        relatives: measurements of another machine with the same chip; their GEMM rows join
            the fit with the weight of the machine's own, and are never scored.
        seed: which rows are held back.

    Raises:
        InputError: rows of several machines.
    """
    machines = sorted({name for table in tables for name in table.machines})
    if len(machines) > 1:
        raise InputError(
            f"{tables[0].name}: column hw: rows of several machines ({', '.join(machines)}); "
            "one profile describes one (the same chip elsewhere is a --relative)"
        )
    unused: dict[str, int] = {}
    base = seeded(base, {(rows.op, rows.algorithm) for table in tables for rows in table.groups})
    profile, reports = base, []
    for section in _sections(_usable(tables, base, unused), base):
        borrowed = [unique(rows) for table in relatives for rows in table.of(section.op)]
        also = borrowed if section.path == "gemm" else []
        profile, report = _fit(section, profile, also, seed)
        reports.append(report)
    profile = _tied(profile)
    before = {} if base.calibration is None else base.calibration.errors
    kept = _record(base, reports)
    names = tuple(table.name for table in (*tables, *relatives))
    calibration = Calibration(
        tables=tuple(dict.fromkeys((*(kept.tables if kept else ()), *names))),
        base=kept.base if kept else base.name,
        date=kept.date if kept else date,
        errors=before | _errors(base, reports),
    )
    whole = {"gemm", "attention", _default(base)} <= {report.key for report in reports}
    own = {"derived_from": None, "collectives_from": None, "derived_error_factor": 1.0}
    documented = profile.model_copy(
        update=(own if whole else {})
        | {
            "name": name,
            "calibration": calibration if reports else base.calibration,
            "errors": _class_errors(base, reports),
            "sources": sources_of(base, tables, relatives, reports, date),
        }
    )
    checked = HardwareProfile.model_validate(documented.model_dump(mode="json"))
    return Calibrated(base=base, profile=checked, sections=tuple(reports), unused=unused)


def _record(base: HardwareProfile, reports: Sequence[SectionReport]) -> Calibration | None:
    """The base's record, where its default sets stay as they were fitted; sources date the new."""
    beside = bool(reports) and all(
        ".sets." in report.key or ".kinds." in report.key or report.key in _OWN_ERROR
        for report in reports
    )
    return base.calibration if beside else None


def _usable(
    tables: Sequence[Table], base: HardwareProfile, unused: dict[str, int]
) -> dict[str, tuple[Rows, ...]]:
    """Rows by op, those the model cannot price counted by reason."""
    usable: dict[str, tuple[Rows, ...]] = {}
    for table in tables:
        for rows in table.groups:
            reason = why_not(rows, base)
            if reason:
                text = f"{rows.op}: {reason}"
                unused[text] = unused.get(text, 0) + len(rows)
            else:
                usable[rows.op] = (*usable.get(rows.op, ()), unique(rows))
    return usable


def _sections(rows: dict[str, tuple[Rows, ...]], base: HardwareProfile) -> list[Section]:
    return [
        section
        for op, sections_of in SECTIONS.items()
        if op in rows
        for section in sections_of(rows[op], base)
        if any(len(rows) for rows in section.groups)
    ]


def _fit(
    section: Section, profile: HardwareProfile, also: Sequence[Rows], seed: int
) -> tuple[HardwareProfile, SectionReport]:
    """The profile with one section estimated on the rows not held back."""
    profile, whole = _opened(profile, section), profile
    kept, held = split(section.groups, seed)
    own = sum(len(rows) for rows in kept)
    extra = [thinned(rows, own, seed) for rows in also]
    borrowed = sum(len(rows) for rows in extra)
    groups = [*(thinned(rows, ROWS_PER_GROUP, seed) for rows in kept), *extra]
    scale = [1.0] * len(kept) + [np.sqrt(own / borrowed) if borrowed else 1.0] * len(extra)
    weights = np.concatenate(
        [section.weights(rows) * factor for rows, factor in zip(groups, scale, strict=True)]
    )
    measured = np.concatenate([rows.latency_s for rows in groups])

    def predict(candidate: HardwareProfile) -> Array:
        return np.concatenate([kernel_seconds(rows, candidate) for rows in groups])

    best = None
    for number, choice in enumerate(section.choices):
        start = put(profile, dict(choice))
        fitted, parameters, cost = estimate(start, section.paths, predict, measured, weights)
        cost += OTHER_CHOICE if number else 0.0
        if best is None or cost < best[0]:
            best = (cost, fitted, parameters, tuple(choice))
    assert best is not None
    _, fitted, parameters, chosen = best
    scored = held or kept
    report = SectionReport(
        key=section.path,
        op=section.op,
        error=_error(scored, fitted, own, bool(held)),
        before=_error(scored, profile, own, bool(held)),
        parameters=tuple(
            replace(p, path=section.path + p.path.removeprefix(section.key)) for p in parameters
        ),
        left_out=section.left_out,
    )
    stated = [*chosen, *(p.path for p in parameters if p.determined)]
    return _closed(whole, fitted, section, report, stated), report


def _opened(profile: HardwareProfile, section: Section) -> HardwareProfile:
    """The profile in which the set that a section estimates is the default one."""
    if section.set_name is None:
        return profile
    chosen = getattr(profile, section.key).of(*section.operands).parameters
    return profile.model_copy(update={section.key: chosen.model_copy(update={"sets": {}})})


def _closed(
    whole: HardwareProfile,
    fitted: HardwareProfile,
    section: Section,
    report: SectionReport,
    stated: Sequence[str],
) -> HardwareProfile:
    """The profile with the fitted section in its place; a set states the figures at `stated`."""
    error = standard_error(report.error)
    if section.set_name is None:
        if section.key not in _OWN_ERROR:
            return fitted
        own = getattr(fitted, section.key).model_copy(update={"error": error})
        return fitted.model_copy(update={section.key: own})
    before = getattr(whole, section.key)
    values = getattr(fitted, section.key).model_dump(mode="json")
    known = before.sets.get(section.set_name)
    figures: dict[str, Any] = {} if known is None else known.stated
    for path in stated:
        figures = _with_figure(figures, values, path.removeprefix(f"{section.key}.").split("."))
    dtype, weight_dtype = section.operands
    chosen = KernelSet(
        dtype=dtype,
        weight_dtype=None if weight_dtype == dtype else weight_dtype,
        error=error,
        **figures,
    )
    changed = before.model_copy(update={"sets": before.sets | {section.set_name: chosen}})
    return whole.model_copy(update={section.key: changed})


def _with_figure(
    stated: dict[str, Any], values: dict[str, Any], path: Sequence[str]
) -> dict[str, Any]:
    """The figures that a set states, with the one at a path as it is in `values`."""
    head, *rest = path
    value = _with_figure(stated.get(head, {}), values[head], rest) if rest else values[head]
    return stated | {head: value}


def _error(groups: Sequence[Rows], profile: HardwareProfile, fitted: int, held: bool) -> OpError:
    ratio = np.concatenate([kernel_seconds(rows, profile) / rows.latency_s for rows in groups])
    return op_error(ratio, fitted=fitted, held_back=ratio.size if held else 0)


def _errors(base: HardwareProfile, reports: Sequence[SectionReport]) -> dict[str, OpError]:
    """Errors by operation; other all-reduce algorithms and other sets have their own entries."""
    default = _default(base)
    errors: dict[str, OpError] = {}
    for report in reports:
        own = ".sets." in report.key or (report.op == "all_reduce" and report.key != default)
        key = f"{report.op}.{report.key.split('.')[2]}" if own else report.op
        errors[key] = report.error
    return errors


def _default(base: HardwareProfile) -> str:
    """The section of the all-reduce algorithm the machine uses unless told otherwise."""
    return f"collectives.algorithms.{base.collectives.default}.protocols"


def standard_error(error: OpError) -> float:
    """The standard error of a normal variable with these quantiles: mean of two estimates, or 1."""
    return min(1.0, round((error.median / 0.6745 + error.p90 / 1.6449) / 2, 3))


def _class_errors(base: HardwareProfile, reports: Sequence[SectionReport]) -> Errors:
    """The base's errors, those of fitted operations replaced; collectives by the default's."""
    found = _errors(base, reports)
    update = {CLASS_OF[op]: standard_error(found[op]) for op in STANDS_FOR_CLASS if op in found}
    return base.errors.model_copy(update=update)


def _tied(profile: HardwareProfile) -> HardwareProfile:
    """Bandwidths that cannot differ, or not by more than the schema allows, made consistent."""
    algorithms = {
        name: algorithm.model_copy(
            update={
                "protocols": _tied_lines(algorithm.protocols),
                "kinds": {kind: _tied_lines(own) for kind, own in algorithm.kinds.items()},
            }
        )
        for name, algorithm in profile.collectives.algorithms.items()
    }
    collectives = profile.collectives.model_copy(update={"algorithms": algorithms})
    return profile.model_copy(update={"collectives": collectives})


def _tied_lines(lines: tuple[Protocol, ...]) -> tuple[Protocol, ...]:
    return tuple(
        line.model_copy(
            update={
                "bandwidth_many": line.bandwidth
                if line.pattern == "switch"
                else min(line.bandwidth_many, 2 * line.bandwidth)
            }
        )
        for line in lines
    )
