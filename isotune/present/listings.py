"""Lists of machines and models, one machine with its sources, and how two differ."""

from collections.abc import Mapping, Sequence

from isotune.present.phrases import figure, percent
from isotune.present.section import Cell, Column, Section, Table
from isotune.simulator.architecture import Model
from isotune.simulator.machine import HardwareProfile


def profiles_section(profiles: Sequence[HardwareProfile]) -> Section:
    """One line per machine."""
    columns = (
        Column(name="name"),
        Column(name="GPUs", digits=0),
        _right("link"),
        _right("GB/s"),
        _right("memory"),
        Column(name="kernels"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            item.name,
            item.node.gpus,
            item.node.link.replace("_", " "),
            f"{item.node.link_bandwidth / 1e9:g}",
            f"{item.gpu.memory / 1e9:.0f} GB",
            f"of {item.derived_from}" if item.inherits("gemm") else "measured",
        )
        for item in profiles
    ]
    note = "GB/s: per GPU, one direction. kernels: of whom, where not measured."
    note += "\nWhat a machine is, and every figure with its source: isotune hw show NAME"
    return _listing(Table(title="Machines", columns=columns, rows=tuple(rows), note=note))


def errors_section(profiles: Sequence[HardwareProfile]) -> Section:
    """Errors of every calibrated section, on rows held back from its fit."""
    columns = (
        Column(name="name"),
        Column(name="rows of"),
        *(_right(name) for name in ("fitted", "held back", "mean", "median", "p90", "bias")),
    )
    rows: list[tuple[Cell, ...]] = []
    for item in profiles:
        if item.calibration is None or item.inherits("gemm"):
            continue
        for op, error in item.calibration.errors.items():
            held = str(error.held_back) if error.held_back else "0 (of the fit)"
            off = (percent(x) for x in (error.mape, error.median, error.p90))
            bias = f"{error.bias * 100:+.1f} %"
            rows.append((item.name, op.replace("_", " "), str(error.rows), held, *off, bias))
    return _listing(Table(title="Errors", columns=columns, rows=tuple(rows)))


def profile_section(profile: HardwareProfile) -> Section:
    """Every figure of a machine with its source."""
    texts = dict.fromkeys(map(profile.source_of, profile.figures()))
    numbers = {text: number for number, text in enumerate(texts, 1)}
    columns = Column(name="figure"), _right("value"), Column(name="source")
    rows: list[tuple[Cell, ...]] = [
        (path, value, f"[{numbers[profile.source_of(path)]}]")
        for path, value in figures(profile).items()
    ]
    return Section(
        kind="machine",
        verdict=profile.name,
        title=profile.description,
        cautions=tuple(profile.cautions()),
        tables=(Table(title="Figures", columns=columns, rows=tuple(rows)),),
        notes=tuple(f"[{number}] {text}" for text, number in numbers.items()),
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


def differences_section(
    profiles: tuple[HardwareProfile, HardwareProfile], rows: Sequence[tuple[str, str, str]]
) -> Section:
    """What `differences` found, one figure a line."""
    if not rows:
        return Section(kind="listing", title="", verdict="The same in every figure.")
    columns = (
        Column(name="figure", fold=True),
        *(_right(profile.name, fold=True) for profile in profiles),
    )
    return _listing(Table(title="Differences", columns=columns, rows=tuple(rows)))


def models_section(models: Sequence[Model]) -> Section:
    """One line per model, and what there is to say about some of them."""
    columns = (
        Column(name="name"),
        _right("parameters"),
        *(Column(name=name, digits=0) for name in ("blocks", "hidden", "heads", "KV heads")),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            item.name,
            f"{item.parameters / 1e9:.2f} B",
            *(str(n) for n in (item.num_hidden_layers, item.hidden_size)),
            *(str(n) for n in (item.num_attention_heads, item.num_key_value_heads)),
        )
        for item in models
    ]
    notes = tuple(f"{item.name}: {item.note}" for item in models if item.note)
    return _listing(Table(title="Models", columns=columns, rows=tuple(rows)), notes)


def fields_section(fields: Mapping[str, object]) -> Section:
    """Names and values, one a line."""
    columns = Column(name="field"), _right("value", fold=True)
    rows: list[tuple[Cell, ...]] = []
    for name, value in fields.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        rows.append((name, f"{value:,}" if whole else str(value)))
    return _listing(Table(title="Fields", columns=columns, rows=tuple(rows)))


def _right(name: str, *, fold: bool = False) -> Column:
    """A column of texts that stand to the right, as numbers do."""
    return Column(name=name, digits=0, fold=fold)


def _listing(table: Table, notes: tuple[str, ...] = ()) -> Section:
    return Section(kind="listing", title="", verdict="", tables=(table,), notes=notes)
