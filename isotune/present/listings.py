"""Lists of machines, models and engines, one with its sources, and how two differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from isotune.present.phrases import figure, percent
from isotune.present.section import Section, Table, number, table, text
from isotune.simulator.architecture import Model, Quantisation, picture
from isotune.simulator.engines import DEFAULT, Engine
from isotune.simulator.machine import HardwareProfile


def profiles_section(profiles: Sequence[HardwareProfile]) -> Section:
    """One line per machine."""
    note = "GB/s: per GPU, one direction. kernels: of whom, where not measured."
    note += "\nWhat a machine is, and every figure with its source: isotune hw show NAME"
    return _listing(
        table(
            "Machines",
            profiles,
            text("name", lambda machine: machine.name),
            number("GPUs", lambda machine: machine.node.gpus),
            number("link", lambda machine: machine.node.link.replace("_", " ")),
            number("GB/s", lambda machine: f"{machine.node.link_bandwidth / 1e9:g}"),
            number("memory", lambda machine: f"{machine.gpu.memory / 1e9:.0f} GB"),
            text("kernels", _kernels),
            note=note,
        )
    )


def _kernels(machine: HardwareProfile) -> str:
    return f"of {machine.derived_from}" if machine.inherits("gemm") else "measured"


def errors_section(profiles: Sequence[HardwareProfile]) -> Section:
    """Errors of every calibrated section, on rows held back from its fit."""
    errors = [
        (profile.name, op, error)
        for profile in profiles
        if profile.calibration is not None and not profile.inherits("gemm")
        for op, error in profile.calibration.errors.items()
    ]
    return _listing(
        table(
            "Errors",
            errors,
            text("name", lambda name, *_: name),
            text("rows of", lambda _, op, __: op.replace("_", " ")),
            number("fitted", lambda *row: str(row[2].rows)),
            number("held back", lambda *row: str(row[2].held_back or "0 (of the fit)")),
            number("mean", lambda *row: percent(row[2].mape)),
            number("median", lambda *row: percent(row[2].median)),
            number("p90", lambda *row: percent(row[2].p90)),
            number("bias", lambda *row: f"{row[2].bias * 100:+.1f} %"),
        )
    )


def profile_section(profile: HardwareProfile) -> Section:
    """Every figure of a machine with its source."""
    texts = dict.fromkeys(map(profile.source_of, profile.figures()))
    numbers = {text: number for number, text in enumerate(texts, 1)}
    sourced = table(
        "Figures",
        figures(profile).items(),
        text("figure", lambda path, _: path),
        number("value", lambda _, value: value),
        text("source", lambda path, _: f"[{numbers[profile.source_of(path)]}]"),
    )
    return Section(
        kind="machine",
        verdict=profile.name,
        title=profile.description,
        cautions=tuple(profile.cautions()),
        tables=(sourced,),
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
    first, second = profiles
    return _listing(
        table(
            "Differences",
            rows,
            text("figure", lambda path, *_: path, fold=True),
            number(first.name, lambda *row: row[1], fold=True),
            number(second.name, lambda *row: row[2], fold=True),
        )
    )


def models_section(models: Sequence[Model]) -> Section:
    """One line per model, and what there is to say about some of them."""
    notes = tuple(f"{model.name}: {model.note}" for model in models if model.note)
    listed = table(
        "Models",
        models,
        text("name", lambda model: model.name),
        number("parameters", lambda model: f"{model.parameters / 1e9:.2f} B"),
        number("blocks", lambda model: str(model.num_hidden_layers)),
        number("hidden", lambda model: str(model.hidden_size)),
        number("heads", lambda model: str(model.num_attention_heads)),
        number("KV heads", lambda model: str(model.num_key_value_heads)),
        text("products", lambda model: _products(model.quantisation)),
    )
    return _listing(listed, notes)


def _products(stored: Quantisation | None) -> str:
    """The number types in which a checkpoint stores its quantised products."""
    return "" if stored is None else ", ".join(stored.schemes)


def model_section(model: Model, fields: Mapping[str, object]) -> Section:
    """A model's fields, one a line, and its kinds of blocks."""
    named = {
        name: value
        for name, value in fields.items()
        if name not in _IN_TABLES and value not in (None, "")
    }
    sizes = table(
        "Fields",
        named.items(),
        text("field", lambda name, _: name),
        number("value", lambda _, value: _field_text(value), fold=True),
    )
    letters = [picture([kind]) for kind in range(len(model.kinds))]
    kinds = table(
        "Blocks",
        zip(letters, model.kinds, strict=True),
        text("kind", lambda letter, _: letter),
        number("blocks", lambda letter, _: str(model.pattern.count(letters.index(letter)))),
        text("made of", lambda _, kind: kind.text, fold=True),
        note=f"pattern: {model.picture}",
    )
    cautions = tuple(f"{part} is left out." for part in model.left_out_parts)
    return Section(kind="listing", title="", verdict="", tables=(sizes, kinds), cautions=cautions)


_IN_TABLES = ("pattern", "kinds", "left_out_parts", "differences")


def _field_text(value: object) -> str:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}" if whole else str(value)


def engines_section(engines: Sequence[Engine]) -> Section:
    """One line per engine."""
    note = f"{DEFAULT} is the engine unless --engine names another."
    note += "\nWhat one does, and every fact with its source: isotune engines show NAME"
    return _listing(
        table(
            "Engines",
            engines,
            text("name", lambda engine: engine.name),
            text("version", lambda engine: engine.version, fold=True),
            text("what it is", lambda engine: engine.description, fold=True),
            note=note,
        )
    )


def engine_section(engine: Engine) -> Section:
    """Every fact of an engine with its source."""
    sources = engine.sources()
    texts = dict.fromkeys(sources.values())
    numbers = {text: number for number, text in enumerate(texts, 1)}
    facts = table(
        "Facts",
        engine.facts().items(),
        text("fact", lambda path, _: path),
        text("value", lambda _, value: value, fold=True),
        text("source", lambda path, _: f"[{numbers[sources[path]]}]" if path in sources else ""),
        note="all_reduce: the first that takes a message carries it.",
    )
    return Section(
        kind="engine",
        verdict=f"{engine.title} {engine.version}",
        title=engine.description,
        cautions=engine.assumed,
        tables=(facts,),
        notes=tuple(f"[{number}] {text}" for text, number in numbers.items()),
    )


def engine_differences(first: Engine, second: Engine) -> list[tuple[str, str, str]]:
    """Path and both values of every fact in which two engines differ; `-` where one lacks it."""
    a, b = first.facts(), second.facts()
    paths = sorted({*a, *b}, key=[*a, *b].index)
    return [
        (path, a.get(path, "-"), b.get(path, "-")) for path in paths if a.get(path) != b.get(path)
    ]


def engine_differences_section(
    engines: tuple[Engine, Engine], rows: Sequence[tuple[str, str, str]]
) -> Section:
    """What `engine_differences` found, one fact a line."""
    if not rows:
        return Section(kind="listing", title="", verdict="The same in every fact.")
    first, second = engines
    return _listing(
        table(
            "Differences",
            rows,
            text("fact", lambda path, *_: path, fold=True),
            text(first.name, lambda *row: row[1], fold=True),
            text(second.name, lambda *row: row[2], fold=True),
        )
    )


def doctor_section(facts: Mapping[str, Any]) -> Section:
    """What `isotune doctor` found: what is here, the extras, and the next commands."""
    here = table(
        "Here",
        _found(facts),
        text("what", lambda what, _: what),
        text("found", lambda _, found: found, fold=True),
        headless=True,
    )
    extras = table(
        "Extras",
        facts["extras"],
        text("extra", lambda extra: extra["name"]),
        text("missing", lambda extra: " ".join(extra["missing"]) or "nothing", fold=True),
        text("brings", lambda extra: extra["brings"], fold=True),
        note="pip install 'isotune[EXTRA]' installs what is missing.",
    )
    steps = table(
        "Next", facts["next"], text("command", lambda command: command, fold=True), headless=True
    )
    return Section(kind="listing", title="", verdict="", tables=(here, extras, steps))


def _found(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    gpus, torch, profile = facts["gpus"], facts["torch"], facts["profile"]
    versions = "not installed"
    if torch is not None:
        parts = (("CUDA", torch.get("cuda")), ("NCCL", torch.get("nccl")))
        named = [f"{name} {found or 'not here'}" for name, found in parts]
        versions = ", ".join([torch["version"], torch.get("trouble") or ", ".join(named)])
    return [
        ("isotune", f"{facts['isotune']} on Python {facts['python']}, {facts['cpus']} CPUs"),
        ("GPUs", facts["gpus_trouble"] if gpus is None else _gpus_text(gpus)),
        ("torch", versions),
        ("profile", _profile_text(profile, known=gpus is not None)),
    ]


def _gpus_text(gpus: Mapping[str, Any]) -> str:
    memory = f"{gpus['memory'] / 1e9:.0f} GB" if gpus["memory"] else "memory unknown"
    link = gpus["link"] or "unknown"
    joined = f", joined by {link}" if gpus["count"] > 1 else ""
    architecture = gpus["architecture"] or "architecture unknown"
    return f"{gpus['count']} x {gpus['name']} ({memory}, {architecture}){joined}"


def _profile_text(profile: Mapping[str, Any] | None, *, known: bool) -> str:
    if profile is None:
        why = "the driver does not say which machine is near" if known else "no GPU to look one up"
        return f"none: {why}"
    kind = "this GPU" if profile["of_this_gpu"] else "the nearest machine"
    kernels = "measured" if profile["measured"] else "kernels of a relative"
    differs = f"; it has {', '.join(profile['differs'])}" if profile["differs"] else ""
    return f"{profile['name']}: {kind}, {kernels}{differs}"


def _listing(table: Table, notes: tuple[str, ...] = ()) -> Section:
    return Section(kind="listing", title="", verdict="", tables=(table,), notes=notes)
