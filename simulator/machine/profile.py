"""The hardware profile: one machine's figures, each with its source.

Profiles are YAML files with human units. `read_profile` takes a path or the name of a
bundled profile; nothing in a profile can run code.
"""

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from isotune import hw_profiles
from isotune.simulator.errors import InputError
from isotune.simulator.io import (
    Bytes,
    BytesPerSecond,
    Schema,
    Seconds,
    did_you_mean,
    read_yaml,
    validate,
)
from isotune.simulator.kernels import (
    AttentionParameters,
    CollectiveParameters,
    ElementwiseParameters,
    ExpertsParameters,
    GemmParameters,
    Gpu,
    InterNode,
    KernelParameters,
    KernelSet,
    LatentAttentionParameters,
    Network,
    Selected,
    analytic_latent,
    stated_figures,
)
from isotune.simulator.machine.detect import AUTO, Found, this_machine
from isotune.simulator.machine.error_model import CLASSES, SECTION_OF, Errors
from isotune.simulator.machine.inherit import ORIGIN, resolve
from isotune.simulator.machine.nearest import differences_from, nearest_machine


class Node(Schema):
    """How the GPUs of one machine are joined."""

    gpus: int = Field(ge=1, le=1024, strict=True, description="GPUs in the node")
    link: Literal["nvlink", "pcie", "infinity_fabric"] = Field(
        description="what carries the collectives"
    )
    link_bandwidth: BytesPerSecond = Field(ge=1e6, le=1e15, description="per GPU, one direction")
    peer_to_peer: bool = Field(description="whether GPUs reach each other without host memory")


class Runtime(Schema):
    """What a serving engine adds to the kernels' own times."""

    launch_gap: Seconds = Field(
        ge=0, le=1e-4, description="idle time between two kernels launched one by one"
    )
    graph_overlap: Seconds = Field(
        ge=0, le=1e-5, description="part of a kernel's launch that a CUDA graph hides"
    )
    host_launch: Seconds = Field(
        ge=0, le=1e-3, description="host time per kernel when launched eagerly (no CUDA graph)"
    )
    eager_step: Seconds = Field(
        ge=0, le=0.1, description="host time per pass of an eager engine: schedule, sample"
    )
    sync_skew: Seconds = Field(
        ge=0, le=1e-2, description="wait for the slowest rank at an all-reduce"
    )
    event_wait: Seconds = Field(
        ge=0, le=1e-3, description="delay of a step that waits for the other stream"
    )
    sustained_clock: float = Field(
        gt=0.3, le=1.0, description="clock of a long run over the clock of a short burst"
    )
    memory_interference: float = Field(
        ge=0,
        le=5,
        description="growth of a kernel's time beside a collective that takes all of memory "
        "bandwidth, in proportion below (queues of L2, crossbar and memory; power)",
    )
    memory_reserved: Bytes = Field(ge=0, description="CUDA context, NCCL buffers, fragmentation")


class OpError(Schema):
    """How far a calibrated profile was off rows it was not fitted to; errors as fractions.

    With `held_back: 0` there were too few rows to keep any back, and the errors are the fit's.
    """

    rows: int = Field(ge=1, description="rows it was fitted to")
    held_back: int = Field(ge=0, description="rows the errors below were measured on")
    mape: float = Field(ge=0, description="mean of |predicted / measured - 1|")
    median: float = Field(ge=0, description="median of |predicted / measured - 1|")
    p90: float = Field(ge=0, description="90th percentile of |predicted / measured - 1|")
    bias: float = Field(gt=-1, description="median of predicted / measured - 1")


class Calibration(Schema):
    """Which measurements a profile was fitted to, when, and how well it predicts others."""

    tables: tuple[str, ...] = Field(min_length=1, description="file names of the measurements")
    base: str = Field(description="the profile it started from")
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="year-month-day")
    errors: dict[str, OpError] = Field(description="by operation: gemm, attention, ...")


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
    latent_attention: LatentAttentionParameters | None = Field(
        default=None, description="multi-head latent attention, where it was measured"
    )
    experts: ExpertsParameters | None = Field(
        default=None, description="routed experts as one grouped kernel, where it was measured"
    )
    elementwise: ElementwiseParameters
    collectives: CollectiveParameters
    runtime: Runtime
    errors: Errors
    inter_node: InterNode | None = None
    calibration: Calibration | None = None
    derived_from: str | None = Field(
        default=None, description="measured relative whose kernels it inherits"
    )
    collectives_from: str | None = Field(
        default=None, description="measured relative whose collectives it inherits"
    )
    derived_error_factor: float = Field(
        default=1.0, ge=1, le=10, description="widens intervals of figures nobody measured here"
    )
    sources: dict[str, str]

    @model_validator(mode="after")
    def _every_figure_has_a_source(self) -> Self:
        paths = list(self.figures())
        for path in paths:
            if not self.source_of(path):
                raise ValueError(f"sources: {path} has no source (name it or a group above it)")
        for name in self.kernel_sets():
            if not any(_covers(name, key) for key in self.sources):
                raise ValueError(f"sources: {name} has no source of its own")
        for key in self.sources:
            if not any(_covers(key, path) for path in paths):
                raise ValueError(f"sources: {key!r} names no figure of this profile")
        return self

    def __repr__(self) -> str:
        return f"<HardwareProfile {self.name}>"

    def figures(self) -> Iterator[str]:
        """Paths of all figures, in the file's order."""
        for name in type(self).model_fields:
            if name not in _NO_FIGURES:
                yield from _leaves(getattr(self, name), name)

    def kernel_sets(self) -> Iterator[str]:
        """Paths of all sets of kernel parameters beside the default ones."""
        for name in type(self).model_fields:
            section = getattr(self, name)
            if isinstance(section, KernelParameters):
                yield from (f"{name}.sets.{key}" for key in section.sets)

    def latent_kernels(
        self, dtype: str = "bf16", engine: str | None = None
    ) -> Selected[LatentAttentionParameters]:
        """The set of latent attention for a cache of this type under this engine.

        On a machine where nobody measured it, what follows from the machine's grouped-query
        attention, with twice its error.
        """
        if self.latent_attention is not None:
            return self.latent_attention.of(dtype, engine=engine)
        return Selected(
            parameters=analytic_latent(self.attention),
            error=2 * self.errors.attention,
            stands_in_for="this kernel",
            stand_in="grouped-query attention",
        )

    def expert_kernels(
        self, dtype: str = "bf16", weight_dtype: str | None = None, engine: str | None = None
    ) -> Selected[ExpertsParameters]:
        """The set of the experts' kernels for operands of these types under this engine.

        Raises:
            InputError: a machine on which nobody measured them.
        """
        if self.experts is None:
            raise InputError(f"experts of {self.name} were not measured")
        return self.experts.of(dtype, weight_dtype, engine)

    def inherits(self, section: str) -> bool:
        """Whether a section comes from another machine, with nothing of its own.

        Of collectives that is their default's; other algorithms may have been measured here.
        """
        if section == "collectives":
            own = self.own_algorithms()
            return self.derived_from is not None and self.collectives.default not in own
        texts = [text for key, text in self.sources.items() if _covers(section, key)]
        inherited = bool(texts) and all(text.startswith(ORIGIN) for text in texts)
        return self.derived_from is not None and inherited

    def own_algorithms(self) -> tuple[str, ...]:
        """The all-reduce algorithms whose lines do not come from another machine."""
        return tuple(
            name
            for name in self.collectives.algorithms
            if not self.source_of(f"collectives.algorithms.{name}.protocols").startswith(ORIGIN)
        )

    @property
    def max_ranks(self) -> int:
        """GPUs of all its nodes."""
        return self.node.gpus * (self.inter_node.nodes if self.inter_node else 1)

    def network_of(self, stride: int) -> Network | None:
        """What joins several nodes for groups of every `stride`-th rank, or nothing if one is all.

        Such a group has the GPUs of a node that are so far apart.
        """
        if self.inter_node is None:
            return None
        return Network(max(1, self.node.gpus // stride), self.inter_node)

    @property
    def network(self) -> Network | None:
        """What joins several nodes for ranks that stand side by side."""
        return self.network_of(1)

    def stand_ins(self, *chosen: tuple[str, Selected[Any]]) -> tuple[str, ...]:
        """What the default sets of some sections stand in for, one sentence each."""
        return tuple(
            f"{section} of {self.name} was not measured for {found.stands_in_for}: its "
            f"{found.standing_in} stands in."
            for section, found in chosen
            if found.stands_in_for
        )

    def cautions(self, tp: int = 1) -> tuple[str, ...]:
        """What a reader must know before trusting a prediction for `tp` GPUs of this machine."""
        found = []
        kernels = [name for name in ("gemm", "attention") if self.inherits(name)]
        parts = ["kernels"] if len(kernels) == 2 else kernels
        origins = {self.derived_from: parts} if parts else {}
        if self.inherits("collectives"):
            link = self.collectives_from or self.derived_from
            origins[link] = [*origins.get(link, ()), "collectives"]
        if origins:
            whose = ", ".join(f"{' and '.join(part)} of {name}" for name, part in origins.items())
            found.append(
                f"{self.name} was not measured in full: {whose} stand in, scaled to its "
                f"specification; errors count {self.derived_error_factor:g} times theirs."
            )
        if tp > self.node.gpus:
            found.append(
                f"tp {tp} spans {tp // self.node.gpus} nodes: the network between them is not "
                "calibrated."
            )
        return tuple(found)

    def class_errors(self, *chosen: tuple[str, Selected[Any]]) -> dict[str, float]:
        """Relative standard error by operation class, wider where a section is inherited.

        Sets of kernel parameters that state their own error replace that of their class.
        """
        own = {section: found.error for section, found in chosen if found.error is not None}
        return {
            name: own.get(name, getattr(self.errors, name))
            * (self.derived_error_factor if self.inherits(SECTION_OF[name]) else 1.0)
            for name in CLASSES
        }

    def source_of(self, path: str) -> str:
        """The source of a figure or a group of figures, or an empty text."""
        keys = [key for key in self.sources if _covers(key, path)]
        return self.sources[max(keys, key=len)].strip() if keys else ""


_NO_FIGURES = {
    "name",
    "description",
    "calibration",
    "derived_from",
    "collectives_from",
    "derived_error_factor",
    "sources",
}


def _covers(key: str, path: str) -> bool:
    return path == key or path.startswith(key + ".")


def _leaves(value: object, path: str) -> Iterator[str]:
    if isinstance(value, KernelSet):
        value = dict(stated_figures(value))
    if isinstance(value, BaseModel):
        # Sets after the figures they differ from.
        for name in sorted(type(value).model_fields, key=lambda name: name == "sets"):
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

    A bundled one is also found by the name of its GPU as nvidia-smi prints it, with the number of
    GPUs before it (`8xH100`), and by `auto`, which asks nvidia-smi on this machine.

    Raises:
        InputError: no such file or profile, another number of GPUs than the profile has, malformed
            YAML, or a figure that is missing, without source, of the wrong type or unit, or out of
            range.
    """
    count: int | None
    if name_or_path == AUTO:
        found = this_machine()
        name, count = found.name, found.count
        if hw_profiles.find(name) is None:
            raise InputError(_no_profile_of(found))
    else:
        name, count = _counted(name_or_path)
    path = _locate(name)
    profile = _bundled(path) if path.parent == hw_profiles.FOLDER else _read(path, path)
    gpus = profile.node.gpus
    if count is not None and count != gpus:
        fewer = f"--hw {profile.name} --tp {count} for {count} of them, or " * (count < gpus)
        raise InputError(
            f"hardware {name_or_path!r}: {profile.name} describes {gpus} GPUs, not {count} "
            f"(allowed: {fewer}a profile of your own: isotune hw new NAME --from {profile.name})"
        )
    return profile


@cache
def _bundled(path: Path) -> HardwareProfile:
    """A bundled profile, read once: it does not change while isotune runs."""
    return _read(path, path.name)


def _read(path: Path, where: object) -> HardwareProfile:
    return validate(HardwareProfile, _resolved(path, where), where)


def bundled_profiles() -> list[HardwareProfile]:
    """All bundled machines, by name."""
    return [read_profile(name) for name in hw_profiles.names()]


def _no_profile_of(found: Found) -> str:
    """That no bundled profile describes the GPUs here, and which machine is most like them."""
    resembles = nearest_machine(found, bundled_profiles())
    if resembles is None:
        return _unknown(found.name, found.name.lower())
    but = ", ".join(differences_from(found, resembles))
    return (
        f"hardware {AUTO!r}: no profile of {found.count} x {found.name}; the nearest machine is "
        f"{resembles.name}{f' ({but})' * bool(but)}: isotune hw new NAME --from {resembles.name}"
    )


def _counted(text: str) -> tuple[str, int | None]:
    """A name without the number of GPUs before it, and that number."""
    match = re.fullmatch(r"([0-9]{1,4}) ?[xX] ?(\S.*)", text)
    if match is None or os.path.isfile(text):  # noqa: PTH113 (as in `_locate`)
        return text, None
    return match[2], int(match[1])


def _resolved(path: Path, where: object) -> dict[str, Any]:
    """The file's data, with what it inherits; a relative's path counts from the file's folder."""

    def read(name: str) -> dict[str, Any]:
        beside = path.parent / name
        if path.parent == hw_profiles.FOLDER:  # whatever the working folder has of that name
            beside = hw_profiles.find(name) or beside
        found = beside if os.path.isfile(beside) else _locate(name)  # noqa: PTH113 (as in `_locate`)
        data = read_yaml(found)
        if "derived_from" not in data:
            validate(HardwareProfile, data, found.name)
        return data

    return resolve(read_yaml(path), where, read)


def _locate(name_or_path: str) -> Path:
    path = Path(name_or_path)
    # Unlike Path.is_file this is false, not an OSError, for an overlong name.
    if os.path.isfile(path):  # noqa: PTH113
        return path
    name = re.sub(r"\.ya?ml$", "", path.name.lower())
    bundled = hw_profiles.find(name) if path.parent == Path() else None
    if bundled is None:
        raise InputError(_unknown(name_or_path, name))
    return bundled


def _unknown(name_or_path: str, name: str) -> str:
    names = hw_profiles.names()
    return (
        f"hardware {name_or_path!r:.80}: no such file or profile "
        f"({did_you_mean(name, names)}bundled: {', '.join(names)})"
    )
