"""The engines, by listing: one YAML file and one name each."""

from functools import cache
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, WithJsonSchema

from isotune.simulator.engines.engine import Engine
from isotune.simulator.errors import InputError
from isotune.simulator.io import did_you_mean, read_yaml, validate

FOLDER = Path(__file__).parent
ENGINES: Final = ("nccl", "vllm", "sglang", "trtllm", "tokenweave", "executor")
"""Every engine's name, which is that of its file."""
DEFAULT: Final = "nccl"
"""The engine unless another is asked for: no engine's choices, the library for every message."""


@cache
def engine_named(name: str) -> Engine:
    """The engine of a name.

    Raises:
        InputError: there is none of this name.
    """
    if name not in ENGINES:
        raise InputError(
            f"engine {name!r:.40}: there is none of this name "
            f"({did_you_mean(name, ENGINES)}allowed: {', '.join(ENGINES)})"
        )
    path = FOLDER / f"{name}.yaml"
    return validate(Engine, read_yaml(path), path.name)


def _known(name: str) -> str:
    if name not in ENGINES:
        raise ValueError(f"unknown engine {name!r:.40} (allowed: {', '.join(ENGINES)})")
    return name


EngineName = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(ENGINES)})
]
"""A field that holds the name of an engine."""
