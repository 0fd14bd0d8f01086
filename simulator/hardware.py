"""The hardware profile: one machine's figures, each with its source.

Profiles are YAML files with human units. `read_profile` takes a path or the name of a
bundled profile; nothing in a profile can run code.
"""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

import hw_profiles
from simulator.attention import AttentionParameters
from simulator.collectives import CollectiveParameters
from simulator.elementwise import ElementwiseParameters
from simulator.errors import InputError
from simulator.files import read_yaml, validate
from simulator.gemm import GemmParameters
from simulator.gpu import Gpu
from simulator.schema import Schema
from simulator.units import Bytes, BytesPerSecond, Seconds


class Node(Schema):
    """How the GPUs of one machine are joined."""

    gpus: int = Field(ge=1, le=1024, strict=True, description="GPUs in the node")
    link: Literal["nvlink", "pcie"] = Field(description="what carries the collectives")
    link_bandwidth: BytesPerSecond = Field(gt=0, description="per GPU, one direction")
    peer_to_peer: bool = Field(description="whether GPUs reach each other without host memory")


class Runtime(Schema):
    """What a serving engine adds to the kernels' own times."""

    launch_gap: Seconds = Field(ge=0, le=1e-4, description="idle time between two kernels")
    host_launch: Seconds = Field(
        ge=0, le=1e-3, description="host time per kernel when launched eagerly (no CUDA graph)"
    )
    event_wait: Seconds = Field(
        ge=0, le=1e-3, description="delay of a step that waits for the other stream"
    )
    sustained_clock: float = Field(
        gt=0.3, le=1.0, description="clock of a long run over the clock of a short burst"
    )
    memory_reserved: Bytes = Field(ge=0, description="CUDA context, NCCL buffers, fragmentation")


class HardwareProfile(Schema):
    """A machine. Every figure is covered by an entry of `sources`.

    A key of `sources` is the path of a figure (`gpu.memory`) or of a group of figures
    (`gemm`); the longest one that covers a figure is its source.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    description: str = Field(max_length=500)
    gpu: Gpu
    node: Node
    gemm: GemmParameters
    attention: AttentionParameters
    elementwise: ElementwiseParameters
    collectives: CollectiveParameters
    runtime: Runtime
    sources: dict[str, str]

    @model_validator(mode="after")
    def _every_figure_has_a_source(self) -> Self:
        paths = list(self.figures())
        for path in paths:
            if not self.source_of(path):
                raise ValueError(f"sources: {path} has no source (name it or a group above it)")
        for key in self.sources:
            if not any(_covers(key, path) for path in paths):
                raise ValueError(f"sources: {key!r} names no figure of this profile")
        return self

    def figures(self) -> Iterator[str]:
        """Paths of all figures, in the file's order."""
        for name in type(self).model_fields:
            if name not in ("name", "description", "sources"):
                yield from _leaves(getattr(self, name), name)

    def source_of(self, path: str) -> str:
        """The source of a figure or a group of figures, or an empty text."""
        keys = [key for key in self.sources if _covers(key, path)]
        return self.sources[max(keys, key=len)].strip() if keys else ""


def _covers(key: str, path: str) -> bool:
    return path == key or path.startswith(key + ".")


def _leaves(value: object, path: str) -> Iterator[str]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _leaves(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}")
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}.{index}")
    elif value is not None:
        yield path


def read_profile(name_or_path: str) -> HardwareProfile:
    """The profile in a YAML file, or the bundled one of that name (`.yaml` optional).

    Raises:
        InputError: no such file or profile, malformed YAML, or a figure that is missing,
            without source, of the wrong type or unit, or out of range.
    """
    path = Path(name_or_path)
    # Unlike Path.is_file this is false, not an OSError, for an overlong name.
    if not os.path.isfile(path):  # noqa: PTH113
        name = path.name.lower().removesuffix(".yaml").removesuffix(".yml")
        bundled = hw_profiles.find(name) if path.parent == Path() else None
        if bundled is None:
            raise InputError(_unknown(name_or_path, name))
        path = bundled
    return validate(
        HardwareProfile, read_yaml(path), path.name if path.parent == hw_profiles.FOLDER else path
    )


def _unknown(name_or_path: str, name: str) -> str:
    names = hw_profiles.names()
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"nearest: {', '.join(near)}; " if near else ""
    return f"hardware {name_or_path!r}: no such file or profile ({hint}bundled: {', '.join(names)})"
