"""The section of a sweep: which strategy saves most on which machine, and where."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from isotune.present.phrases import percent, strategy_text
from isotune.present.section import Section, Table, ms, number, share, table, text
from isotune.results import Sweep, SweepRow
from isotune.simulator.errors import IsotuneError
from isotune.simulator.number_types import loses
from isotune.simulator.schedule import technique_named

_MOST_LINES, _MOST_LISTED = 40, 400
AXES = ("model", "engine", "phase", "batch", "weight_dtype", "comm_dtype")
_TIMES = ("latency_s", "serial_latency_s", "saving")


def sweep_section(result: Sweep) -> Section:
    """The verdict, a line per machine, model and strategy, and the best of each case."""
    rows = overlapped_rows(result)
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


def overlapped_rows(result: Sweep) -> list[SweepRow]:
    """The rows of strategies other than serial that have a time."""
    return [
        row
        for row in result.table
        if row["strategy"] != "serial" and None not in map(row.get, _TIMES)
    ]


def _case(row: SweepRow) -> str:
    what = f"{row['model']} on {row['tp']} GPUs of {row['hardware']}: {row['phase']}, batch "
    types = f"{row['weight_dtype']} weights, {row['comm_dtype']} transfer, engine {row['engine']}"
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
    return drops or bool(strategy.caveat) or loses(row["comm_dtype"])


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
    return table(
        "Machines and strategies",
        [(*key, group) for key, group in groups.items()],
        text("machine", lambda *key: key[0], fold=True),
        text("model", lambda *key: key[1], fold=True),
        text("strategy", lambda *key: strategy_text(key[2])),
        share("mean", lambda *key: key[3].mean),
        share("gains in", lambda *key: key[3].gaining, 0),
        share("best", lambda *key: key[3].best["saving"]),
        text("at", lambda *key: "{prompt}, tp {tp}".format_map(key[3].best)),
        note="Mean, best: saving against serial. Gains in: share of the combinations that save. "
        "At: prompt tokens and tp of the best.",
        most=_MOST_LINES,
        more="more lines; the table has every row",
    )


def rows_table(rows: Sequence[SweepRow], title: str = "Savings", note: str = "") -> Table:
    """Rows of a sweep with their savings."""
    return table(
        title,
        rows,
        text("strategy", lambda row: strategy_text(row["strategy"])),
        text("hardware", itemgetter("hardware")),
        text("model", itemgetter("model")),
        number("tp", itemgetter("tp")),
        text("phase", itemgetter("phase")),
        number("batch", itemgetter("batch")),
        number("prompt", itemgetter("prompt"), unit="tokens"),
        text("weights", itemgetter("weight_dtype")),
        text("transfer", itemgetter("comm_dtype")),
        share("saving", itemgetter("saving")),
        ms("latency", itemgetter("latency_s"), 1),
        ms("serial latency", itemgetter("serial_latency_s"), 1),
        number("memory", _gigabytes, 1, unit="GB per GPU"),
        text("fits", lambda row: "yes" if row["fits"] else "no"),
        note=note,
        place="page",
    )


def _gigabytes(row: SweepRow) -> float | None:
    return None if row["memory_bytes"] is None else row["memory_bytes"] / 1e9


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
