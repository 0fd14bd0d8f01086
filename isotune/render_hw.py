"""Hardware profiles for people: lists, one machine with its sources, differences."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from isotune.present.phrases import figure, percent, printable
from isotune.render import new_table
from isotune.simulator.machine import HardwareProfile


def profiles_view(profiles: list[HardwareProfile]) -> RenderableType:
    """One line per machine."""
    table = new_table("name", "GPUs", "link", "GB/s", "memory", "kernels")
    table.columns[-1].justify = "left"
    for item in profiles:
        table.add_row(
            item.name,
            str(item.node.gpus),
            item.node.link.replace("_", " "),
            f"{item.node.link_bandwidth / 1e9:g}",
            f"{item.gpu.memory / 1e9:.0f} GB",
            f"of {item.derived_from}" if item.inherits("gemm") else "measured",
        )
    return Group(
        table,
        Text("GB/s: per GPU, one direction. kernels: of whom, where not measured."),
        Text("What a machine is, and every figure with its source: isotune hw show NAME"),
    )


def errors_table(profiles: list[HardwareProfile]) -> Table:
    """Errors of every calibrated section, on rows held back from its fit."""
    table = new_table("name", "rows of", "fitted", "held back", "mean", "median", "p90", "bias")
    table.columns[1].justify = "left"
    for item in profiles:
        if item.calibration is None or item.inherits("gemm"):
            continue
        for op, error in item.calibration.errors.items():
            held = str(error.held_back) if error.held_back else "0 (of the fit)"
            off = (percent(x) for x in (error.mape, error.median, error.p90))
            bias = f"{error.bias * 100:+.1f} %"
            table.add_row(item.name, op.replace("_", " "), str(error.rows), held, *off, bias)
    return table


def profile_view(profile: HardwareProfile) -> RenderableType:
    """Every figure of a machine with its source."""
    table = new_table("figure", "value", "source")
    table.columns[-1].justify = "left"
    sources = {
        text: number
        for number, text in enumerate(dict.fromkeys(map(profile.source_of, profile.figures())), 1)
    }
    for path, value in figures(profile).items():
        table.add_row(path, value, Text(f"[{sources[profile.source_of(path)]}]"))
    notes = Text("\n".join(printable(f"[{number}] {text}") for text, number in sources.items()))
    cautions = [Text(printable(text), style="yellow") for text in profile.cautions()]
    title = Text(profile.name, style="bold")
    return Group(
        title, Text(printable(profile.description)), *cautions, Text(), table, Text(), notes
    )


def figures(profile: HardwareProfile) -> dict[str, str]:
    """Every figure by its path, as text with its unit."""
    data = profile.model_dump(mode="json")
    found: dict[str, str] = {}
    for path in profile.figures():
        value: object = data
        for key in path.split("."):
            value = value[int(key)] if isinstance(value, list) else value[key]  # type: ignore[index]
        found[path] = figure(value)
    return found


def differences(first: HardwareProfile, second: HardwareProfile) -> list[tuple[str, str, str]]:
    """Path and both values of every figure in which two machines differ; `-` where one lacks it."""
    a, b = figures(first), figures(second)
    paths = dict.fromkeys([*a, *b])
    return [
        (path, a.get(path, "-"), b.get(path, "-")) for path in paths if a.get(path) != b.get(path)
    ]


def diff_table(
    profiles: tuple[HardwareProfile, HardwareProfile], rows: list[tuple[str, str, str]]
) -> Table:
    """What `differences` found, one figure a line."""
    table = new_table("figure", *(profile.name for profile in profiles))
    for column in table.columns:
        column.no_wrap, column.overflow = False, "fold"
    for row in rows:
        table.add_row(*row)
    return table
