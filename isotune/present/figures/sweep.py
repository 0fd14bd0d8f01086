"""A sweep: its table read back, heat maps over hardware x length x tp, and its best rows."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import isotune
from isotune.present.figures.style import axis, rows_axis, shown, tokens_text
from isotune.present.phrases import percent, strategy_text
from isotune.present.section import Cell, Column, Figure, Json, Section, Table, View
from isotune.report.saved import Sweep
from isotune.simulator.errors import InputError, IsotuneError
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import technique_named
from isotune.tuner.sweep import read_rows, swept_plan

_MOST_VIEWS, _MOST_ROWS, _MOST_LENGTHS, _MOST_LISTED = 40, 60, 64, 400
_AXES = ("model", "phase", "batch", "weight_dtype", "comm_dtype")
_OPTIONS = {
    "hardware": "--hw",
    "model": "--model",
    "tp": "--tp",
    "batch": "--batch",
    "prompt": "--prompt",
    "phase": "--phase",
    "weight_dtype": "--weight-dtype",
    "comm_dtype": "--comm-dtype",
    "strategy": "--strategies",
}
_TIMES = ("latency_s", "serial_latency_s", "saving")
_Row = dict[str, Any]


class _Place(NamedTuple):
    """A row of a heat map."""

    hardware: str
    tp: int

    @property
    def label(self) -> str:
        return f"{shown(self.hardware, 24)}, tp {self.tp}"


def read_sweep(path: Path, command: str = "") -> Sweep:
    """A sweep's table (.csv or .parquet).

    Raises:
        InputError: it cannot be read, is not one, or has no row.
    """
    rows = list(read_rows(path))
    if not rows:
        raise InputError(f"{path}: the table has no rows")
    return Sweep(command=command or _command(rows, path), rows=tuple(rows))


def _command(rows: list[_Row], path: Path) -> str:
    """The sweep that writes this table, from what is in it."""
    words = ["isotune", "sweep"]
    for name, option in _OPTIONS.items():
        found = dict.fromkeys(str(row[name]) for row in rows)
        words += [option, ",".join(found)]
    return shlex.join([*words, "-o", path.name])


def sweep_section(source: str, sweep: Sweep) -> Section:
    """The verdict, the heat maps and the rows that save most."""
    rows = [
        row
        for row in sweep.rows
        if row["strategy"] != "serial" and None not in map(row.get, _TIMES)
    ]
    able = [row for row in rows if row["fits"]]
    best = max(able, key=lambda row: row["saving"], default=None)
    return Section(
        kind="sweep",
        source=source,
        title=f"Sweep of {len(sweep.rows):,} combinations",
        verdict=_verdict(best, able, len(sweep.rows)),
        plan="" if best is None else _case(best),
        command=sweep.command,
        notes=tuple(_notes(sweep.rows, rows)),
        figures=(_heat_figure(rows),) if rows else (),
        tables=(_best_table(able),) if able else (),
    )


def _case(row: _Row) -> str:
    what = f"{row['model']} on {row['tp']} GPUs of {row['hardware']}: {row['phase']}, batch "
    types = f"{row['weight_dtype']} weights, {row['comm_dtype']} transfer"
    return (
        f"{strategy_text(row['strategy'])}: {what}{row['batch']}, {row['prompt']} tokens, {types}"
    )


def _verdict(best: _Row | None, rows: Sequence[_Row], count: int) -> str:
    if best is None:
        return f"None of the {count:,} combinations that fit in memory has anything to overlap."
    gaining = sum(row["saving"] > 0 for row in rows)
    return (
        f"{strategy_text(best['strategy'])} saves most, {percent(best['saving'])}"
        f"{_interval(best)}, on {best['tp']} GPUs of {best['hardware']} at "
        f"{best['prompt']} tokens; {gaining:,} of {len(rows):,} combinations gain."
    )


def _interval(row: _Row) -> str:
    """The 80 % interval of a row, predicted again; nothing if the machine is not here."""
    names = ("phase", "batch", "prompt", "tp", "weight_dtype")
    try:
        scenario: Scenario = isotune.scenario(
            row["model"], row["hardware"], **{name: row[name] for name in names}
        )
        plan = swept_plan(scenario, row["strategy"], row["comm_dtype"])
        found = isotune.predict(scenario, plan)
    except (IsotuneError, ValueError):
        return ""
    if abs(found.saving - row["saving"]) > 1e-6:
        return ""
    low, high = found.saving_interval
    return f" (80 % interval: {low * 100:.1f} to {high * 100:.1f} %)"


def _notes(rows: Sequence[_Row], overlapped: Sequence[_Row]) -> Iterator[str]:
    full = sum(not row["fits"] for row in rows)
    if full:
        yield f"{full:,} combinations do not fit in memory; they are left out of the verdict."
    if any(technique_named(row["strategy"])[1] for row in overlapped):
        yield (
            "SPD changes the model's numbers; a sweep assumes a drop set, it does not measure "
            "what it costs."
        )


def _heat_figure(rows: list[_Row]) -> Figure:
    ranked = sorted(rows, key=lambda row: -row["saving"] if row["fits"] else 1.0)
    keys = list(dict.fromkeys(tuple(row[name] for name in (*_AXES, "strategy")) for row in ranked))
    cases = {key: [] for key in keys[:_MOST_VIEWS]}  # type: dict[tuple[Any, ...], list[_Row]]
    for row in rows:
        key = tuple(row[name] for name in (*_AXES, "strategy"))
        if key in cases:
            cases[key].append(row)
    varying = [n for n, name in enumerate(_AXES) if len({key[n] for key in keys}) > 1]
    far = max(abs(row["saving"]) for found in cases.values() for row in found) * 100 or 1.0
    views = tuple(_view(key, varying, found, far) for key, found in cases.items())
    left = "" if len(keys) <= _MOST_VIEWS else f" The first {_MOST_VIEWS} of {len(keys)} cases."
    most = max(len({(r["hardware"], r["tp"]) for r in found}) for found in cases.values())
    return Figure(
        title="Saving over hardware, tensor-parallel size and length",
        caption=(
            "Saving against serial in percent. Blue saves, orange loses; an x does not fit in "
            f"memory, an empty cell cannot be run so.{left}"
        ),
        views=views,
        table=_rows_table([row for found in cases.values() for row in found]),
        height=170 + 26 * min(most, _MOST_ROWS),
    )


def _view(key: tuple[Any, ...], varying: list[int], rows: list[_Row], far: float) -> View:
    labels = {"batch": "batch ", "weight_dtype": "weights ", "comm_dtype": "transfer "}
    parts = [f"{labels.get(_AXES[n], '')}{key[n]}" for n in varying]
    places = list(dict.fromkeys(_Place(row["hardware"], row["tp"]) for row in rows))[:_MOST_ROWS]
    lengths = sorted({row["prompt"] for row in rows})
    lengths = lengths[:: -(-len(lengths) // _MOST_LENGTHS)]
    cells = {(_Place(row["hardware"], row["tp"]), row["prompt"]): row for row in rows}
    grid = [[cells.get((place, length)) for length in lengths] for place in places]
    return View(
        label=", ".join([strategy_text(key[-1]), *parts]),
        data=[_heat(grid, places, lengths, far)],
        layout={
            "xaxis": axis("prompt length (tokens)", type="category", showgrid=False),
            "yaxis": rows_axis([place.label for place in places]),
        },
    )


def _heat(
    grid: list[list[_Row | None]], places: list[_Place], lengths: list[int], far: float
) -> Json:
    values = [[None if cell is None else cell["saving"] * 100 for cell in line] for line in grid]
    return {
        "type": "heatmap",
        "z": values,
        "x": [tokens_text(length) for length in lengths],
        "y": list(range(len(places))),
        "text": [[_cell_text(cell) for cell in line] for line in grid],
        "texttemplate": "%{text}" if len(lengths) <= 16 else "",
        "customdata": [[_cell_hover(cell) for cell in line] for line in grid],
        "hovertemplate": "%{customdata}<extra></extra>",
        "hoverongaps": False,
        "zmin": -far,
        "zmax": far,
        "colorscale": [[0, "var(--c-orange)"], [0.5, "var(--middle)"], [1, "var(--c-blue)"]],
        "colorbar": {
            "title": {"text": "saving (%)", "font": {"size": 12}},
            "thickness": 12,
            "tickformat": ".3~g",
        },
        "xgap": 1,
        "ygap": 1,
    }


def _cell_text(cell: _Row | None) -> str:
    if cell is None:
        return ""
    return f"{cell['saving'] * 100:z.0f}" + ("" if cell["fits"] else " x")


def _cell_hover(cell: _Row | None) -> str:
    if cell is None:
        return ""
    fits = "" if cell["fits"] else "<br>does not fit in memory"
    return (
        f"{shown(cell['hardware'])}, tp {cell['tp']}, {cell['prompt']:,} tokens<br>"
        f"saves {cell['saving'] * 100:.1f} %: {cell['latency_s'] * 1e3:,.1f} instead of "
        f"{cell['serial_latency_s'] * 1e3:,.1f} ms{fits}"
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


def _rows_table(rows: Sequence[_Row], title: str = "Savings", note: str = "") -> Table:
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
    return Table(title=title, columns=_COLUMNS, rows=tuple(cells), note=note)


def _best_table(rows: list[_Row]) -> Table:
    """The best strategy of each machine, model, size and length."""
    best: dict[tuple[Any, ...], _Row] = {}
    for row in rows:
        key = tuple(row[name] for name in (*_AXES[:-1], "hardware", "tp", "prompt"))
        if key not in best or row["saving"] > best[key]["saving"]:
            best[key] = row
    ranked = sorted(best.values(), key=lambda row: -row["saving"])
    note = "" if len(ranked) <= _MOST_LISTED else f"The {_MOST_LISTED} best of {len(ranked):,}."
    return _rows_table(ranked[:_MOST_LISTED], "Best strategy of each case", note)
