"""A sweep for people: which strategy saves most on which machine, and where."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from isotune.present.phrases import percent, printable
from isotune.render import new_table
from isotune.simulator.schedule import technique_named

_MOST_LINES = 40
Row = Mapping[str, Any]


@dataclass(kw_only=True)
class _Group:
    """The rows of one machine, model and strategy that could be computed and fit in memory."""

    count: int = 0
    paid: int = 0
    total: float = 0.0
    best: Row | None = None

    def add(self, row: Row) -> None:
        self.count += 1
        self.total += row["saving"]
        self.paid += row["saving"] > 0
        if self.best is None or row["saving"] > self.best["saving"]:
            self.best = row


def sweep_view(rows: Iterable[Row], skipped: Mapping[str, int]) -> RenderableType:
    """Verdict, then one line per machine, model and strategy."""
    groups: dict[tuple[str, str, str], _Group] = {}
    for row in rows:
        if row["saving"] is not None and row["fits"] and row["strategy"] != "serial":
            key = row["hardware"], row["model"], row["strategy"]
            groups.setdefault(key, _Group()).add(row)
    return Group(*_parts(groups), skipped_view(skipped))


def skipped_view(skipped: Mapping[str, int]) -> RenderableType:
    """What was left out, and why."""
    return Group(*(Text(printable(f"left out {n} rows: {why}")) for why, n in skipped.items()))


def _parts(groups: Mapping[tuple[str, str, str], _Group]) -> Iterator[RenderableType]:
    yield Text(_verdict(groups), style="bold")
    if groups:
        yield Text()
        yield _table(groups)
    if len(groups) > _MOST_LINES:
        yield Text(f"({len(groups) - _MOST_LINES} more lines; the table has every row)")


def _verdict(groups: Mapping[tuple[str, str, str], _Group]) -> str:
    best = max(
        (found.best for found in groups.values() if found.best),
        key=lambda row: float(row["saving"]),
        default=None,
    )
    if best is None:
        return "Nothing to compare: no strategy but serial fits."
    where = printable(
        f"{best['strategy'].replace('_', ' ')} on {best['hardware']} with {best['model']}"
    )
    if best["saving"] <= 0:
        return "Serial is fastest everywhere in this sweep."
    strategy, drops = technique_named(best["strategy"])
    lossy = drops or strategy.caveat or best["comm_dtype"] != "bf16"
    return f"Most is saved by {where}: {percent(best['saving'])} ({_place(best)})." + (
        " It changes the model's numbers." if lossy else ""
    )


def _table(groups: Mapping[tuple[str, str, str], _Group]) -> RenderableType:
    table = new_table("machine", "model", "strategy", "mean", "pays in", "best", "at")
    for column in (1, 2, 6):
        table.columns[column].justify = "left"
    for column in (0, 1):
        table.columns[column].no_wrap = False
    for (hardware, model, strategy), found in list(groups.items())[:_MOST_LINES]:
        if found.best is None:
            continue
        table.add_row(
            Text(printable(hardware), overflow="fold"),
            Text(printable(model), overflow="fold"),
            strategy.replace("_", " "),
            percent(found.total / found.count),
            f"{found.paid / found.count * 100:.0f} %",
            percent(found.best["saving"]),
            f"{found.best['prompt']}, tp {found.best['tp']}",
        )
    return Group(
        table,
        Text(
            "mean, best: saving against serial. pays in: share of the combinations that save. "
            "at: prompt tokens and tp of the best."
        ),
    )


def _place(row: Row) -> str:
    return f"tp {row['tp']}, batch {row['batch']}, {row['prompt']} tokens, {row['phase']}"
