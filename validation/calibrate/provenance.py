"""Sources of a calibrated profile: which rows set a figure, and which figures none did."""

from collections.abc import Sequence

from isotune.simulator.kernels import KINDS
from isotune.simulator.machine import HardwareProfile
from isotune.validation.calibrate.fits import SectionReport
from isotune.validation.tables import Table

CLASS_OF = {
    "gemm": "gemm",
    "attention": "attention",
    "mla_attention": "attention",
    "moe": "gemm",
    "rms_norm": "elementwise",
    "quantize": "elementwise",
    **dict.fromkeys(KINDS, "collectives"),
}
"""The operation class whose error the rows of an operation measure."""
STANDS_FOR_CLASS = ("gemm", "attention", "rms_norm", "all_reduce")
"""The operations whose errors are that of their class; other kernels state their own."""


def sources_of(
    base: HardwareProfile,
    tables: Sequence[Table],
    relatives: Sequence[Table],
    reports: Sequence[SectionReport],
    date: str,
) -> dict[str, str]:
    """The base's sources, those of fitted figures replaced.

    A figure the rows did not determine keeps the base's source, marked as such.
    """
    sources, figures = dict(base.sources), set(base.figures())
    for report in reports:
        algorithm = report.key.split(".")[2] if report.op == "all_reduce" else ""
        measured = _tables(tables, report.op, algorithm)
        if report.key == "gemm" and relatives:
            measured += " with " + _tables(relatives, report.op, "") + " (same chip)"
        fitted = {p.path for p in report.parameters if p.determined}
        for key in [key for key in sources if _below(key, report.key)]:
            if key == report.key or key in fitted:
                del sources[key]
        if fitted:
            sources[report.key] = _fitted(report, measured, date)
        else:
            sources[report.key] = _kept(base, report.key)
        for parameter in report.parameters:
            if fitted and not parameter.determined and parameter.path in figures:
                sources[parameter.path] = _kept(base, parameter.path)
        if (
            report.op in STANDS_FOR_CLASS
            and algorithm in ("", base.collectives.default)
            and ".sets." not in report.key
        ):
            sources[f"errors.{CLASS_OF[report.op]}"] = (
                f"from the errors of {report.op} under calibration"
            )
    return _in_file_order(sources)


def _below(key: str, section: str) -> bool:
    return key == section or key.startswith(section + ".")


def _fitted(report: SectionReport, measured: str, date: str) -> str:
    error = report.error
    on = f"{error.held_back} rows held back" if error.held_back else "these rows"
    rows = f"{error.rows} rows" + (f" ({report.left_out})" if report.left_out else "")
    return f"fitted to {rows} of {measured}, {date}; error on {on} {error.mape * 100:.1f} % (mean)"


def _kept(base: HardwareProfile, path: str) -> str:
    """The base's own source where it says more than that it was fitted to other rows."""
    before = base.source_of(path) or "assumed - where the fit started"
    if before.startswith("fitted to"):
        return f"an earlier fit, kept from {base.name} - the rows do not determine it"
    return before


def _tables(tables: Sequence[Table], op: str, algorithm: str) -> str:
    named = []
    for table in tables:
        sources = ", ".join(table.sources_of(op, algorithm))
        if table.of(op):
            named.append(f"{table.name} ({sources})" if sources else table.name)
    return " and ".join(named)


def _in_file_order(sources: dict[str, str]) -> dict[str, str]:
    """Sections as in the file; inside a section the group first."""
    sections = list(HardwareProfile.model_fields)
    return dict(sorted(sources.items(), key=lambda item: _place(item[0], sections)))


def _place(key: str, sections: list[str]) -> tuple[int, str]:
    head = key.partition(".")[0]
    return (sections.index(head) if head in sections else len(sections), key)
