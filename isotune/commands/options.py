"""Options that several commands share, and how their texts are read."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from isotune.simulator.errors import InputError
from isotune.simulator.number_types import ACTIVATION_DTYPES, COMM_DTYPES, WEIGHT_DTYPES
from isotune.simulator.schedule import SEARCHABLE, SPD, STRATEGIES, steps_of


def _types(what: str, names: tuple[str, ...]) -> str:
    return f"{what}: {', '.join(names[:-1])} or {names[-1]}."


DEFAULT_MODEL = "llama-2-70b"
TECHNIQUES = (*SEARCHABLE, SPD)
"""Techniques that a search may choose."""


def tokens(text: str) -> int:
    """`4096` or `4k` (k = 1024) as a number of tokens."""
    match = re.fullmatch(r"(-?[0-9]{1,12})([kK]?)", text)
    if match is None:
        raise InputError(f"{text!r:.60} is not a number of tokens such as 4096 or 4k")
    return int(match[1]) * (1024 if match[2] else 1)


def fraction(text: str) -> float:
    """`1%` or `0.01` as a fraction."""
    number, scale = (text[:-1], 100.0) if text.endswith("%") else (text, 1.0)
    try:
        value = float(number) / scale
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise InputError(f"{text!r} is not a share between 0 and 1, such as 1% or 0.01")
    return value


def sizes(text: str) -> tuple[int, ...]:
    """`2432,1664` as sizes."""
    return tuple(tokens(part.strip()) for part in text.split(",") if part.strip())


def counts(text: str) -> tuple[int, ...]:
    """`2,4,8` as counts, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,5}", part) and int(part) for part in parts):
        raise InputError(f"{text!r:.60} is not a number above 0, or several such as 2,4,8")
    return tuple(dict.fromkeys(map(int, parts)))


def blocks(text: str) -> tuple[int, ...]:
    """`0-3,7` as block numbers, sorted; an empty text drops nothing."""
    found: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise InputError(f"{part!r:.60} is not a block or a range of blocks such as 0-3,7")
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def names(text: str) -> tuple[str, ...]:
    """`iso,spd` as names of techniques."""
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in found:
        if name in STRATEGIES and name not in SEARCHABLE:
            raise InputError(
                f"{name}: a search never chooses it ({STRATEGIES[name].caveat or 'no engine'}; "
                f"isotune predict --strategy {name} predicts it)"
            )
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
TraceFile = Annotated[
    Path | None,
    typer.Option(
        "--trace", help="Write the timeline as a trace for Perfetto (JSON).", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
