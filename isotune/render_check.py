"""A profile's errors for people: one line per operation and group, then the worst rows."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from isotune.present.phrases import count as plural
from isotune.present.phrases import percent, printable
from isotune.render import new_table
from isotune.validation.calibrate import Score
from isotune.validation.check import Check, Part

_COLUMNS = ("rows", "MAPE", "median", "p90", "bias")


def check_view(done: Check, worst: int) -> RenderableType:
    """Errors of one profile against one table."""
    return Group(*_check_parts(done, worst))


def _check_parts(done: Check, worst: int) -> Iterator[RenderableType]:
    yield Text(f"{done.hw} against {printable(done.table)}: {_verdict(done)}", style="bold")
    for part in _parts(done):
        yield Text()
        yield _part_table(part)
    yield from _worst(_parts(done), worst)
    yield from _unscored(done)


def folder_view(done: Sequence[Check], refused: dict[str, str], worst: int) -> RenderableType:
    """Errors of every profile against its table, one line per operation."""
    return Group(*_folder_parts(done, refused, worst))


def _folder_parts(
    done: Sequence[Check], refused: dict[str, str], worst: int
) -> Iterator[RenderableType]:
    yield Text(_folder_verdict(done), style="bold")
    yield Text()
    columns = ("rows", "MAPE", "p90", "bias", "in 80 %", "saving")
    table = _left(new_table("machine", "operation", *columns), 1)
    for check in done:
        for part in _parts(check):
            count, mape, _, p90, bias = _cells(part.score)
            cells = (count, mape, p90, bias, percent(part.coverage), _saving(part))
            table.add_row(check.hw, _title(part), *cells)
    table.caption = "in 80 %: share of the measurements in their predicted 80 % interval."
    table.caption_justify = "left"
    yield table
    for check in done:
        yield from _worst(_parts(check), worst, check.hw)
        yield from _unscored(check)
    for name, reason in refused.items():
        yield Text(printable(f"{name}: not scored - {reason}"))


def _folder_verdict(done: Sequence[Check]) -> str:
    parts = [(part.score.mape, check.hw, part) for check in done for part in _parts(check)]
    if not parts:
        return "no row could be scored"
    mape, machine, part = max(parts, key=lambda item: item[0])
    return (
        f"{plural(len(done), 'table')} scored; furthest off: {_title(part)} of {machine}, "
        f"{percent(mape)} on average"
    )


def _verdict(done: Check) -> str:
    parts = [f"{_title(part)} off by {percent(part.score.mape)}" for part in _parts(done)]
    return ", ".join(parts) + " on average" if parts else "no row could be scored"


def _parts(done: Check) -> list[Part]:
    return [*done.ops, *([done.end_to_end] if done.end_to_end else [])]


def _title(part: Part) -> str:
    return part.name.replace("_", " ")


def _part_table(part: Part) -> Table:
    table = _left(new_table("operation", "group", *_COLUMNS), 1)
    table.add_row(_title(part), "all", *_cells(part.score))
    for (kind, label), found in part.groups().items():
        table.add_row("", printable(f"{kind} {label}"), *_cells(found))
    table.columns[1].no_wrap = False
    table.caption = (
        f"{percent(part.coverage)} of the measurements lie in their predicted 80 % interval."
    )
    points = part.saving_mae_points
    if points is not None and part.saving_coverage is not None:
        table.caption += (
            f"\nSavings against serial are off by {points:.1f} percentage points on average; "
            f"{percent(part.saving_coverage)} lie in their interval."
        )
    table.caption_justify = "left"
    return table


def _left(table: Table, column: int) -> Table:
    table.columns[column].justify = "left"
    return table


def _cells(found: Score) -> list[str]:
    shares = (found.mape, found.median_ape, found.p90_ape)
    return [str(found.rows), *map(percent, shares), f"{found.bias * 100:+.1f} %"]


def _saving(part: Part) -> str:
    points = part.saving_mae_points
    return "" if points is None else f"{points:.1f} pts"


def _worst(parts: Sequence[Part], count: int, title: str = "") -> Iterator[RenderableType]:
    rows = [(part, row) for part in parts for row in part.worst(count)]
    if not rows:
        return
    table = _left(new_table(f"worst rows {title}".rstrip(), "line", "predicted", "measured", ""), 0)
    for _, row in rows:
        off = f"{(row.ratio - 1) * 100:+.0f} %"
        name = Text(printable(row.what), overflow="fold")
        table.add_row(name, str(row.line), _time(row.predicted_s), _time(row.measured_s), off)
    table.columns[0].no_wrap = False
    yield Text()
    yield table


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:,.2f} ms"


def _unscored(done: Check) -> Iterator[RenderableType]:
    for reason, count in done.unscored.items():
        yield Text(printable(f"{plural(count, 'row')} not scored: {reason}"))
