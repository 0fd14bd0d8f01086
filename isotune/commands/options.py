"""Options that several commands take, in classes that their requests inherit."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args

import typer

from isotune import hw_profiles
from isotune.commands.output import print_result, show
from isotune.commands.parsers import Choices, choice
from isotune.simulator.architecture import bundled_models
from isotune.simulator.errors import InputError
from isotune.simulator.io import Schema
from isotune.simulator.number_types import ACTIVATION_DTYPES, COMM_DTYPES, TYPES, WEIGHT_DTYPES
from isotune.simulator.schedule import SEARCHABLE, SPD, Workload, steps_of
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


def hardware_option(
    help: str = "Machine: bundled profile name, or path of a profile", **more: Any
) -> Any:
    """`--hw`, a profile."""
    complete = Choices(hw_profiles.names()).complete
    return typer.Option("--hw", metavar="NAME", help=f"{help}.", autocompletion=complete, **more)


def model_option(
    help: str = "Bundled name, Hugging Face folder, or config.json", **more: Any
) -> Any:
    """`--model`."""
    complete = Choices(bundled_models()).complete
    return typer.Option("--model", metavar="NAME", help=f"{help}.", autocompletion=complete, **more)


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """How the result is printed."""

    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False

    def emit(self, kind: str, data: dict[str, Any], views: Callable[[], Iterable[Any]]) -> None:
        """Print a result: as JSON, or the views of it, which are made only then."""
        if self.as_json:
            print_result(kind, data)
            return
        for view in views():
            show(view)


@dataclass(frozen=True, kw_only=True)
class CaseOptions:
    """Machine, model and what does not depend on how many lengths are asked for."""

    PANEL: ClassVar = "Scenario"

    hw: Annotated[str | None, hardware_option(show_default=False)] = None
    model: Annotated[str | None, model_option(show_default=DEFAULT_MODEL)] = None
    phase: Annotated[
        str | None,
        choice("--phase", allowed(Workload, "phase"), "Phase", show_default="prefill"),
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


# The options of commands that are no requests yet.


def names(text: str) -> tuple[str, ...]:
    """`iso,spd` as names of techniques."""
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in found:
        if name not in TECHNIQUES:
            raise InputError(f"unknown technique {name!r:.60} (allowed: {', '.join(TECHNIQUES)})")
    if not found:
        raise InputError(f"no technique given (allowed: {', '.join(TECHNIQUES)})")
    return found


def treatment_names(text: str) -> tuple[str, ...]:
    """`bias,bias+distil` as treatments of a dropped block: recovery steps in their order."""
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in found:
        steps_of(name)
    return found


Parsed = TypeVar("Parsed")


def read(parse: Callable[[str], Parsed], option: str, text: str | None) -> Parsed | None:
    """An option's text as a value, None if it was not given.

    Raises:
        InputError: names the option, the text, and what is allowed.
    """
    try:
        return None if text is None else parse(text)
    except InputError as error:
        raise InputError(f"{option}: {error}") from error


Hardware = Annotated[
    str | None,
    typer.Option("--hw", help="Bundled profile name, or path of a profile.", show_default=False),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Bundled name, Hugging Face folder, or config.json.",
        show_default=DEFAULT_MODEL,
    ),
]
Tp = Annotated[
    int | None, typer.Option("--tp", help="Tensor-parallel size.", show_default="the whole node")
]
Batch = Annotated[int | None, typer.Option("--batch", help="Requests.", show_default="1")]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt", metavar="TOKENS", help="Prompt length; 4k = 4096.", show_default="4096"
    ),
]
PhaseOption = Annotated[
    str | None, typer.Option("--phase", help="prefill or decode.", show_default="prefill")
]
DtypeOption = Annotated[
    str | None,
    typer.Option("--dtype", help=_types("Activations", ACTIVATION_DTYPES), show_default="bf16"),
]
WeightDtypeOption = Annotated[
    str | None,
    typer.Option("--weight-dtype", help=_types("Weights", WEIGHT_DTYPES), show_default="--dtype"),
]
RuntimeOption = Annotated[
    str | None,
    typer.Option("--runtime", help="cuda_graph or eager.", show_default="cuda_graph"),
]
CommDtypeOption = Annotated[
    str | None,
    typer.Option(
        "--comm-dtype",
        help=_types("What an all-reduce sends", COMM_DTYPES),
        show_default="bf16",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
