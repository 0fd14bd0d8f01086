"""Results for people: a verdict first, then tables that fit 80 columns."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from isotune.bar import Bar
from isotune.present.phrases import (
    milliseconds,
    percent,
    plan_text,
    printable,
    saving_interval,
    scenario_text,
    serial_misfit,
    verdict,
)
from isotune.simulator.architecture import Model
from isotune.simulator.predict import SERIAL, GpuMemory, Prediction

NOTHING = "-"


def prediction_view(prediction: Prediction) -> RenderableType:
    """One plan: verdict, times, and where the time goes."""
    return Group(*_prediction_parts(prediction))


def _prediction_parts(prediction: Prediction) -> Iterator[RenderableType]:
    yield Text(verdict(prediction), style="bold")
    yield Text(scenario_text(prediction.scenario))
    yield Text(f"plan: {plan_text(prediction.plan)}")
    serial = GpuMemory(prediction.scenario).of(SERIAL)
    if not serial.fits:
        yield Text(serial_misfit(serial))
    yield from cautions(prediction)
    yield Text()
    yield times_table({"this plan": prediction})
    yield Text()
    yield ops_table({"this plan": prediction})
    yield sources(prediction)


def cautions(prediction: Prediction) -> Iterator[RenderableType]:
    """What the profile warns of, line by line."""
    for text in prediction.scenario.cautions():
        yield Text(f"note: {text}", style="yellow")


def _latency_interval(prediction: Prediction) -> str:
    low, high = map(milliseconds, prediction.latency_interval_s)
    return f"{low.removesuffix(' ms')} to {high}"


def new_table(*columns: str) -> Table:
    """A table without lines; the first column to the left, the others to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    return table


def times_table(predictions: dict[str, Prediction]) -> Table:
    """Latencies and their parts by plan; two plans have the change between them, too."""
    shown = list(predictions.values())
    table = new_table("", *predictions, *(["change"] if len(shown) == 2 else []))
    latencies = [item.latency_s for item in shown]
    table.add_row("latency", *map(milliseconds, latencies), *_change(latencies))
    table.add_row("  80 % interval", *map(_latency_interval, shown))
    for name, attribute in (
        ("compute C", "compute_s"),
        ("communication M", "comm_s"),
        ("exposed communication", "exposed_comm_s"),
        ("lost to contention", "contention_s"),
        ("lower bound max(C, M)", "bound_s"),
    ):
        values = [getattr(item, attribute) for item in shown]
        table.add_row(name, *map(milliseconds, values), *_change(values))
    for name, saving in (
        ("saving against serial", lambda item: percent(item.saving)),
        ("  80 % interval", saving_interval),
    ):
        cells = (NOTHING if item.run is item.serial else saving(item) for item in shown)
        table.add_row(name, *cells)
    return table


def _change(values: Sequence[float]) -> list[str]:
    """What the second of two times has over the first, where there are two."""
    if len(values) != 2:
        return []
    change = values[1] - values[0]
    if round(change * 1e6) == 0:
        return [NOTHING]
    return [f"{'+' if change > 0 else '-'}{milliseconds(abs(change))}"]


def ops_table(predictions: dict[str, Prediction]) -> Table:
    """Time and share of every op by plan, and where its figures come from."""
    columns = [title for name in predictions for title in (name, "share")]
    table = new_table("where the time goes", *columns, "", "figures")
    table.columns[-2].justify = "left"
    table.columns[-1].justify = "left"
    sections = {op: at for item in predictions.values() for op, at in item.op_sections.items()}
    longest = max(max(item.op_seconds.values()) for item in predictions.values())
    for op, section in sections.items():
        cells: list[RenderableType] = []
        seconds = 0.0
        for item in predictions.values():
            seconds = item.op_seconds.get(op, 0.0)
            cells += [milliseconds(seconds), percent(seconds / (item.compute_s + item.comm_s))]
        table.add_row(op.replace("_", " "), *cells, Bar(seconds / longest), section)
    return table


def sources(prediction: Prediction) -> Text:
    """Where the figures behind the shares come from, once per section of the profile."""
    hardware = prediction.scenario.hardware
    sections = dict.fromkeys(prediction.op_sections.values())
    lines = [printable(f"{section}: {hardware.source_of(section)}") for section in sections]
    return Text("\n".join(lines), style="dim")


def models_view(models: list[Model]) -> RenderableType:
    """One line per model, and what there is to say about some of them."""
    table = new_table("name", "parameters", "blocks", "hidden", "heads", "KV heads")
    for item in models:
        table.add_row(
            item.name,
            f"{item.parameters / 1e9:.2f} B",
            str(item.num_hidden_layers),
            str(item.hidden_size),
            str(item.num_attention_heads),
            str(item.num_key_value_heads),
        )
    notes = [Text(printable(f"{item.name}: {item.note}")) for item in models if item.note]
    return Group(table, *([Text()] if notes else []), *notes)


def fields_table(fields: dict[str, object]) -> Table:
    """Names and values, one a line."""
    table = new_table("field", "value")
    table.columns[-1].no_wrap = False
    for name, value in fields.items():
        text = (
            f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        )
        table.add_row(name, Text(printable(text)))
    return table
