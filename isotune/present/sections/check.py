"""The sections of a check: one profile against one table, or a folder of tables."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from isotune.present.phrases import count, percent, title_of
from isotune.present.section import Cell, Column, Section, Table
from isotune.results import Check, CheckedRow, Checks, Score, Scores

_MOST_WORST = 20


def check_section(done: Check) -> Section:
    """One profile against one table: errors by operation and group, then the worst rows."""
    return Section(
        kind="check",
        title=f"{done.hw} against {done.table}",
        verdict=_verdict(done),
        command=done.command,
        tables=(
            _errors_table([done]),
            _groups_table(done),
            _worst_table(done, "Worst rows"),
            _page_worst_table([done]),
        ),
        notes=(*_notes(done.scores), *_unscored(done)),
    )


def _verdict(done: Scores) -> str:
    if not done.scores:
        return f"{done.hw} against {done.table}: no row could be scored."
    parts = [f"{title_of(part)} by {percent(score.mape)}" for part, score in done.scores.items()]
    rows = sum(score.rows for score in done.scores.values())
    within = sum(score.rows * score.coverage for score in done.scores.values()) / rows
    said = f"{done.hw} is off on average: {', '.join(parts)}"
    if done.end_to_end is not None and done.end_to_end.saving_mae_points is not None:
        said += f", savings by {done.end_to_end.saving_mae_points:.1f} percentage points"
    return f"{said}; {percent(within)} of {rows:,} measurements lie in their 80 % interval."


def _notes(scores: Mapping[str, Score]) -> Iterator[str]:
    for score in scores.values():
        if score.saving_mae_points is not None and score.saving_coverage is not None:
            yield (
                f"Savings against serial are off by {score.saving_mae_points:.1f} percentage "
                f"points on average; {percent(score.saving_coverage)} lie in their interval."
            )


def _unscored(done: Scores) -> Iterator[str]:
    for why, number in done.unscored.items():
        yield f"{count(number, 'row')} not scored: {why}"


def checks_section(done: Checks) -> Section:
    """Many profiles, each against its own table."""
    return Section(
        kind="checks",
        title="Profiles against their measurements",
        verdict=_folder_verdict(done),
        command=done.command,
        tables=(
            _errors_table(done.checks),
            *(_worst_table(check, f"Worst rows of {check.hw}") for check in done.checks),
            _page_worst_table(done.checks),
        ),
        notes=(
            *(note for check in done.checks for note in _unscored(check)),
            *(f"{name}: not scored - {why}" for name, why in done.refused.items()),
        ),
    )


def named(done: Checks) -> dict[str, Scores]:
    """The checks of a folder by machine and table."""
    return {f"{check.hw}: {check.table}": check for check in done.checks}


def _folder_verdict(done: Checks) -> str:
    parts: dict[str, list[float]] = {}
    for check in done.checks:
        for part, score in check.scores.items():
            parts.setdefault(part, []).append(score.mape)
    if not parts:
        return "No row could be scored."
    means = [f"{title_of(part)} by {_range(found)}" for part, found in parts.items()]
    mape, hw, part = max(
        (score.mape, check.hw, part)
        for check in done.checks
        for part, score in check.scores.items()
    )
    tables = count(len(done.checks), "table")
    return (
        f"{tables} scored; off on average: {', '.join(means)}; furthest: {title_of(part)} of "
        f"{hw}, {percent(mape)}."
    )


def _range(shares: Collection[float]) -> str:
    low, high = percent(min(shares)), percent(max(shares))
    return low if low == high else f"{low} to {high}"


def _percents(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name=name, unit="%", digits=1) for name in names)


def _errors_table(checks: Iterable[Scores]) -> Table:
    columns = (
        Column(name="machine"),
        Column(name="table", place="page"),
        Column(name="operation"),
        Column(name="rows", digits=0),
        Column(name="mean error", unit="%", digits=1, short="MAPE"),
        Column(name="median", unit="%", digits=1, place="page"),
        *_percents("p90"),
        Column(name="bias", unit="%", digits=1, signed=True),
        Column(name="in 80 % interval", unit="%", digits=1, short="in 80 %"),
        Column(name="saving off by", unit="points", digits=1, short="saving pts"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            check.hw,
            check.table,
            title_of(part),
            s.rows,
            *(v * 100 for v in (s.mape, s.median_ape, s.p90_ape, s.bias, s.coverage)),
            s.saving_mae_points,
        )
        for check in checks
        for part, s in check.scores.items()
    ]
    note = "in 80 %: share of the measurements in their predicted 80 % interval."
    return Table(title="Errors", columns=columns, rows=tuple(rows), note=note)


def _groups_table(done: Check) -> Table:
    """Errors by group; on the page the figure has the table."""
    columns = (
        Column(name="operation"),
        Column(name="group", fold=True),
        Column(name="rows", digits=0),
        *_percents("MAPE", "median", "p90"),
        Column(name="bias", unit="%", digits=1, signed=True),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            title_of(group.part),
            f"{group.by} {group.group}",
            group.rows,
            *(v * 100 for v in (group.mape, group.median_ape, group.p90_ape, group.bias)),
        )
        for group in done.groups
    ]
    return Table(title="Errors by group", columns=columns, rows=tuple(rows), place="terminal")


def _worst_table(done: Scores, title: str) -> Table:
    """The worst rows of each part, as many as were asked for."""
    columns = (
        Column(name="row", short=title.lower(), fold=True),
        Column(name="line", digits=0),
        Column(name="predicted", unit="ms", digits=4),
        Column(name="measured", unit="ms", digits=4),
        Column(name="error", unit="%", digits=0, signed=True),
    )
    cells = tuple(map(_worst_cells, done.worst))
    return Table(title=title, columns=columns, rows=cells, place="terminal")


def _page_worst_table(checks: Iterable[Scores]) -> Table:
    """The worst of all rows, for the page, which has room for more."""
    found = [(check.hw, row) for check in checks for row in check.scored]
    found.sort(key=lambda item: -item[1].factor)
    columns = (
        Column(name="machine"),
        Column(name="row"),
        Column(name="line", digits=0),
        Column(name="predicted", unit="ms", digits=4),
        Column(name="measured", unit="ms", digits=4),
        Column(name="error", unit="%", digits=0),
    )
    rows = tuple((name, *_worst_cells(row)) for name, row in found[:_MOST_WORST])
    return Table(title="Worst rows", columns=columns, rows=rows, place="page")


def _worst_cells(row: CheckedRow) -> tuple[Cell, ...]:
    times = row.predicted_s * 1e3, row.measured_s * 1e3
    return (row.row, row.line, *times, row.error * 100)
