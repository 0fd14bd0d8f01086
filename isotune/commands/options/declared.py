"""Options that several commands take, in classes that their requests inherit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args

import typer

from isotune import hw_profiles
from isotune.commands.options.parsers import Choices, choice
from isotune.simulator.architecture import bundled_models
from isotune.simulator.io import Schema
from isotune.simulator.number_types import ACTIVATION_DTYPES, TYPES, WEIGHT_DTYPES
from isotune.simulator.schedule import SEARCHABLE, SPD, Phase, Workload
from isotune.validation.choices import DEVICES


def _types(what: str, names: tuple[str, ...]) -> str:
    return f"{what}: {', '.join(names[:-1])} or {names[-1]}."


DEFAULT_MODEL = "llama-2-70b"
TECHNIQUES = (*SEARCHABLE, SPD)
"""Techniques that a search may choose."""


DTYPE_ALIASES = {alias: entry.name for entry in TYPES for alias in entry.aliases}


def allowed(schema: type[Schema], field: str) -> tuple[str, ...]:
    """The names that a field of a schema takes."""
    names: tuple[str, ...] = get_args(schema.model_fields[field].annotation)
    return names


PROFILES = Choices(hw_profiles.names())
"""The bundled machines, for completion."""
MODELS = Choices(bundled_models())
"""The bundled models, for completion."""


def hardware_option(
    help: str = "Machine: bundled profile name, or path of a profile", **more: Any
) -> Any:
    """`--hw`, a profile."""
    settings: dict[str, Any] = {"metavar": "NAME", "autocompletion": PROFILES.complete} | more
    return typer.Option("--hw", help=f"{help}.", **settings)


def model_option(
    help: str = "Bundled name, Hugging Face folder, or config.json", **more: Any
) -> Any:
    """`--model`."""
    settings: dict[str, Any] = {"metavar": "NAME", "autocompletion": MODELS.complete} | more
    return typer.Option("--model", help=f"{help}.", **settings)


def profile_name(path: Path) -> str:
    """The name of a profile that is written to a file and given no other."""
    return path.name.removesuffix(".yaml").removesuffix(".yml")


@dataclass(frozen=True, kw_only=True)
class CaseOptions:
    """Machine, model and what does not depend on how many lengths are asked for."""

    PANEL: ClassVar = "Scenario"

    hw: Annotated[str | None, hardware_option(show_default=False)] = None
    model: Annotated[str | None, model_option(show_default=DEFAULT_MODEL)] = None
    phase: Annotated[
        str | None,
        choice("--phase", get_args(Phase), "Phase", show_default="prefill"),
    ] = None
    dtype: Annotated[
        str | None,
        choice(
            "--dtype", ACTIVATION_DTYPES, "Activations", aliases=DTYPE_ALIASES, show_default="bf16"
        ),
    ] = None
    weight_dtype: Annotated[
        str | None,
        choice(
            "--weight-dtype",
            WEIGHT_DTYPES,
            "Weights",
            aliases=DTYPE_ALIASES,
            show_default="--dtype",
        ),
    ] = None
    runtime: Annotated[
        str | None,
        choice(
            "--runtime",
            allowed(Workload, "runtime"),
            "How kernels are launched",
            show_default="cuda_graph",
        ),
    ] = None


DeviceOption = Annotated[
    str | None, choice("--device", DEVICES, "Device", show_default="cuda if there")
]
TraceFile = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        metavar="FILE",
        help="Write the timeline as a trace for Perfetto (JSON).",
        show_default=False,
    ),
]
