"""The sections of a check: one profile against one table, or a folder of tables."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from isotune.present.phrases import count, percent, title_of
from isotune.present.section import Section, Table, ms, number, share, table, text
from isotune.results import Check, Checks, Score, Scores

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
    for why, rows in done.unscored.items():
        yield f"{count(rows, 'row')} not scored: {why}"


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


def _errors_table(checks: Iterable[Scores]) -> Table:
    return table(
        "Errors",
        [(check, part, score) for check in checks for part, score in check.scores.items()],
        text("machine", lambda check, *_: check.hw),
        text("table", lambda check, *_: check.table, place="page"),
        text("operation", lambda _, part, __: title_of(part)),
        number("rows", lambda *item: item[-1].rows),
        share("mean error", lambda *item: item[-1].mape, short="MAPE"),
        share("median", lambda *item: item[-1].median_ape, place="page"),
        share("p90", lambda *item: item[-1].p90_ape),
        share("bias", lambda *item: item[-1].bias, signed=True),
        share("in 80 % interval", lambda *item: item[-1].coverage, short="in 80 %"),
        number(
            "saving off by",
            lambda *item: item[-1].saving_mae_points,
            1,
            unit="points",
            short="saving pts",
        ),
        note="in 80 %: share of the measurements in their predicted 80 % interval.",
    )


def _groups_table(done: Check) -> Table:
    """Errors by group; on the page the figure has the table."""
    return table(
        "Errors by group",
        done.groups,
        text("operation", lambda group: title_of(group.part)),
        text("group", lambda group: f"{group.by} {group.group}", fold=True),
        number("rows", lambda group: group.rows),
        share("MAPE", lambda group: group.mape),
        share("median", lambda group: group.median_ape),
        share("p90", lambda group: group.p90_ape),
        share("bias", lambda group: group.bias, signed=True),
        place="terminal",
    )


def _worst_table(done: Scores, title: str) -> Table:
    """The worst rows of each part, as many as were asked for."""
    return table(
        title,
        done.worst,
        text("row", lambda row: row.row, short=title.lower(), fold=True),
        number("line", lambda row: row.line),
        ms("predicted", lambda row: row.predicted_s, 4),
        ms("measured", lambda row: row.measured_s, 4),
        share("error", lambda row: row.error, 0, signed=True),
        place="terminal",
    )


def _page_worst_table(checks: Iterable[Scores]) -> Table:
    """The worst of all rows, for the page, which has room for more."""
    rows = [(check.hw, row) for check in checks for row in check.scored]
    rows.sort(key=lambda item: -item[1].factor)
    return table(
        "Worst rows",
        rows[:_MOST_WORST],
        text("machine", lambda hw, _: hw),
        text("row", lambda _, row: row.row),
        number("line", lambda _, row: row.line),
        ms("predicted", lambda _, row: row.predicted_s, 4),
        ms("measured", lambda _, row: row.measured_s, 4),
        share("error", lambda _, row: row.error, 0),
        place="page",
    )
