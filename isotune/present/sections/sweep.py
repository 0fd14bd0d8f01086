"""The section of a sweep: which strategy saves most on which machine, and where."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from isotune.present.phrases import percent, strategy_text
from isotune.present.section import Cell, Column, Section, Table
from isotune.results import Sweep, SweepRow
from isotune.simulator.errors import IsotuneError
from isotune.simulator.schedule import technique_named

_MOST_LINES, _MOST_LISTED = 40, 400
AXES = ("model", "phase", "batch", "weight_dtype", "comm_dtype")
_TIMES = ("latency_s", "serial_latency_s", "saving")


def sweep_section(result: Sweep) -> Section:
    """The verdict, a line per machine, model and strategy, and the best of each case."""
    rows = compared(result)
    able = [row for row in rows if row["fits"]]
    best = max(able, key=lambda row: row["saving"], default=None)
    return Section(
        kind="sweep",
        title=f"Sweep of {len(result):,} combinations",
        verdict=_verdict(best, able, len(result)),
        plan="" if best is None else _case(best),
        plan_title="best case",
        command=result.command,
        tables=(_summary_table(able), best_table(able)) if able else (),
        notes=tuple(_notes(result, rows)),
    )


def compared(result: Sweep) -> list[SweepRow]:
    """The rows of strategies other than serial that have a time."""
    return [
        row
        for row in result.table
        if row["strategy"] != "serial" and None not in map(row.get, _TIMES)
    ]


def _case(row: SweepRow) -> str:
    what = f"{row['model']} on {row['tp']} GPUs of {row['hardware']}: {row['phase']}, batch "
    types = f"{row['weight_dtype']} weights, {row['comm_dtype']} transfer"
    return (
        f"{strategy_text(row['strategy'])}: {what}{row['batch']}, {row['prompt']} tokens, {types}"
    )


def _verdict(best: SweepRow | None, rows: Sequence[SweepRow], number: int) -> str:
    if best is None:
        return f"None of the {number:,} combinations that fit in memory has anything to overlap."
    if best["saving"] <= 0:
        return "Serial is fastest everywhere in this sweep."
    gaining = sum(row["saving"] > 0 for row in rows)
    lossy = " It changes the model's numbers." if _lossy(best) else ""
    return (
        f"{strategy_text(best['strategy'])} saves most, {percent(best['saving'])}"
        f"{_interval(best)}, on {best['tp']} GPUs of {best['hardware']} with {best['model']} at "
        f"{best['prompt']} tokens; {gaining:,} of {len(rows):,} combinations gain.{lossy}"
    )


def _lossy(row: SweepRow) -> bool:
    strategy, drops = technique_named(row["strategy"])
    return drops or bool(strategy.caveat) or row["comm_dtype"] != "bf16"


def _interval(row: SweepRow) -> str:
    """The 80 % interval of a row, predicted again; nothing if the machine is not here."""
    import isotune
    from isotune.simulator.predict import predict
    from isotune.tuner.sweep import swept_plan

    names = ("phase", "batch", "prompt", "tp", "weight_dtype")
    try:
        scenario = isotune.scenario(
            row["model"], row["hardware"], **{name: row[name] for name in names}
        )
        found = predict(scenario, swept_plan(scenario, row["strategy"], row["comm_dtype"]))
    except (IsotuneError, ValueError):
        return ""
    if abs(found.saving - row["saving"]) > 1e-6:
        return ""
    low, high = found.saving_interval
    return f" (80 % interval: {low * 100:.1f} to {high * 100:.1f} %)"


def _notes(result: Sweep, overlapped: Sequence[SweepRow]) -> Iterator[str]:
    full = sum(not row["fits"] for row in result.table)
    if full:
        yield f"{full:,} combinations do not fit in memory; they are left out of the verdict."
    if any(technique_named(row["strategy"])[1] for row in overlapped):
        yield (
            "SPD changes the model's numbers; a sweep assumes a drop set, it does not measure "
            "what it costs."
        )
    yield from (f"Left out {number} rows: {why}" for why, number in result.skipped.items())


@dataclass(kw_only=True)
class _Group:
    """The rows of one machine, model and strategy that could be computed and fit in memory."""

    rows: list[SweepRow]

    @property
    def best(self) -> SweepRow:
        return max(self.rows, key=lambda row: float(row["saving"]))

    @property
    def mean(self) -> float:
        return float(sum(row["saving"] for row in self.rows)) / len(self.rows)

    @property
    def gaining(self) -> float:
        return len([row for row in self.rows if row["saving"] > 0]) / len(self.rows)


def _summary_table(rows: Sequence[SweepRow]) -> Table:
    groups: dict[tuple[str, str, str], _Group] = {}
    for row in rows:
        key = row["hardware"], row["model"], row["strategy"]
        groups.setdefault(key, _Group(rows=[])).rows.append(row)
    columns = (
        Column(name="machine", fold=True),
        Column(name="model", fold=True),
        Column(name="strategy"),
        Column(name="mean", unit="%", digits=1),
        Column(name="gains in", unit="%", digits=0),
        Column(name="best", unit="%", digits=1),
        Column(name="at"),
    )
    return Table(
        title="Machines and strategies",
        columns=columns,
        rows=tuple(_summaries(groups)),
        note="Mean, best: saving against serial. Gains in: share of the combinations that save. "
        "At: prompt tokens and tp of the best.",
        most=_MOST_LINES,
        more="more lines; the table has every row",
    )


def _summaries(groups: Mapping[tuple[str, str, str], _Group]) -> Iterator[tuple[Cell, ...]]:
    for (hardware, model, strategy), found in groups.items():
        best = found.best
        yield (
            hardware,
            model,
            strategy_text(strategy),
            found.mean * 100,
            found.gaining * 100,
            best["saving"] * 100,
            f"{best['prompt']}, tp {best['tp']}",
        )


_COLUMNS = (
    Column(name="strategy"),
    Column(name="hardware"),
    Column(name="model"),
    Column(name="tp", digits=0),
    Column(name="phase"),
    Column(name="batch", digits=0),
    Column(name="prompt", unit="tokens", digits=0),
    Column(name="weights"),
    Column(name="transfer"),
    Column(name="saving", unit="%", digits=1),
    Column(name="latency", unit="ms", digits=1),
    Column(name="serial latency", unit="ms", digits=1),
    Column(name="memory", unit="GB per GPU", digits=1),
    Column(name="fits"),
)


def rows_table(rows: Sequence[SweepRow], title: str = "Savings", note: str = "") -> Table:
    """Rows of a sweep with their savings."""
    cells: list[tuple[Cell, ...]] = [
        (
            strategy_text(row["strategy"]),
            row["hardware"],
            row["model"],
            row["tp"],
            row["phase"],
            row["batch"],
            row["prompt"],
            row["weight_dtype"],
            row["comm_dtype"],
            row["saving"] * 100,
            row["latency_s"] * 1e3,
            row["serial_latency_s"] * 1e3,
            None if row["memory_bytes"] is None else row["memory_bytes"] / 1e9,
            "yes" if row["fits"] else "no",
        )
        for row in rows
    ]
    return Table(title=title, columns=_COLUMNS, rows=tuple(cells), note=note, place="page")


def best_table(rows: Sequence[SweepRow]) -> Table:
    """The best strategy of each machine, model, size and length."""
    best: dict[tuple[object, ...], SweepRow] = {}
    for row in rows:
        key = tuple(row[name] for name in (*AXES[:-1], "hardware", "tp", "prompt"))
        if key not in best or row["saving"] > best[key]["saving"]:
            best[key] = row
    ranked = sorted(best.values(), key=lambda row: -row["saving"])
    note = "" if len(ranked) <= _MOST_LISTED else f"The {_MOST_LISTED} best of {len(ranked):,}."
    return rows_table(ranked[:_MOST_LISTED], "Best strategy of each case", note)
