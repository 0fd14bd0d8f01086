"""Options that several commands take, in classes that their requests inherit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args

from isotune import hw_profiles
from isotune.commands.options.parsers import (
    Choices,
    blocks,
    choice,
    counts,
    option,
    plain,
    real,
    whole,
)
from isotune.simulator.architecture import bundled_models
from isotune.simulator.engines import DEFAULT, ENGINES, LaunchMode
from isotune.simulator.number_types import (
    ACTIVATION_DTYPES,
    KV_DTYPES,
    QUANTS,
    SCHEMES,
    TYPES,
    WEIGHT_DTYPES,
)
from isotune.simulator.schedule import SEARCHABLE, SPD, Phase
from isotune.validation.choices import DEVICES

DEFAULT_MODEL = "llama-2-70b"
TECHNIQUES = (*SEARCHABLE, SPD)
"""Techniques that a search may choose."""


DTYPE_ALIASES = {alias: entry.name for entry in TYPES for alias in entry.aliases}
QUANT_ALIASES = {alias: entry.name for entry in SCHEMES for alias in entry.aliases}


PROFILES = Choices(hw_profiles.names())
"""The bundled machines, for completion."""
MODELS = Choices(bundled_models())
"""The bundled models, for completion."""


def hardware_option(
    help: str = "Machine: profile name, GPU name (8xH100), auto, or path of a profile", **more: Any
) -> Any:
    """`--hw`, a profile."""
    settings: dict[str, Any] = {"metavar": "NAME", "autocompletion": PROFILES.complete} | more
    return plain("--hw", help=f"{help}.", **settings)


def model_option(
    help: str = "Bundled name, Hugging Face id or folder, or config.json", **more: Any
) -> Any:
    """`--model`."""
    settings: dict[str, Any] = {"metavar": "NAME", "autocompletion": MODELS.complete} | more
    return plain("--model", help=f"{help}.", **settings)


def base_option(help: str) -> Any:
    """`--from`, a machine whose figures a new profile begins with."""
    return plain("--from", "NAME", help, autocompletion=PROFILES.complete)


def profile_name(path: Path) -> str:
    """The name of a profile that is written to a file and given no other."""
    return path.name.removesuffix(".yaml").removesuffix(".yml")


@dataclass(frozen=True, kw_only=True)
class MachineOption:
    """The machine."""

    PANEL: ClassVar = "Scenario"

    hw: Annotated[str | None, hardware_option(show_default=False)] = None


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Model, phase, number types and launch: what a pass has, wherever it runs."""

    PANEL: ClassVar = "Scenario"

    model: Annotated[str | None, model_option(show_default=DEFAULT_MODEL)] = None
    read_as: Annotated[
        str | None,
        plain("--as", "FAMILY", "Read an unknown decoder's config as one of this family."),
    ] = None
    phase: Annotated[
        str | None, choice("--phase", get_args(Phase), "Phase", show_default="prefill")
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
    quant: Annotated[
        str | None,
        choice(
            "--quant",
            QUANTS,
            "How the matrix products of the blocks are quantised",
            aliases=QUANT_ALIASES,
            show_default="as the checkpoint is",
        ),
    ] = None
    kv_dtype: Annotated[
        str | None,
        choice(
            "--kv-dtype",
            KV_DTYPES,
            "KV cache",
            aliases=DTYPE_ALIASES,
            show_default="the checkpoint's, else --dtype",
        ),
    ] = None
    runtime: Annotated[
        str | None,
        choice(
            "--runtime",
            get_args(LaunchMode),
            "How kernels are launched",
            show_default="as the engine does; cuda_graph without one",
        ),
    ] = None

    def __post_init__(self) -> None:
        """Carry the family in the model's name, which plan files and results keep."""
        if self.read_as is not None:
            name = f"{self.model or DEFAULT_MODEL} as {self.read_as}"
            object.__setattr__(self, "model", name)
            object.__setattr__(self, "read_as", None)

    @property
    def pass_fields(self) -> dict[str, Any]:
        """Phase, number types and launch, as `isotune.scenario` takes them."""
        names = ("phase", "dtype", "weight_dtype", "quant", "kv_dtype", "runtime")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class CaseOptions(MachineOption, ModelOptions):
    """Machine, model and what does not depend on how many lengths are asked for."""

    PANEL: ClassVar = "Scenario"

    engine: Annotated[
        str | None,
        choice("--engine", ENGINES, "Serving engine whose pass it is", show_default=DEFAULT),
    ] = None


DeviceOption = Annotated[
    str | None, choice("--device", DEVICES, "Device", show_default="cuda if there")
]
TimeoutOption = Annotated[
    float,
    option("--timeout", real(1.0), "S", "Seconds without progress after which the run is ended."),
]
DropOption = Annotated[
    tuple[int, ...] | None,
    option(
        "--drop", blocks, "BLOCKS", "Blocks whose attention all-reduce is dropped, such as 0-3,7."
    ),
]
_EXPERT_RANKS = "Ranks that whole experts are divided over: 1, or all GPUs (tp x cp x dp)."
_CONTEXT_GROUPS = "Groups of --tp GPUs that share the tokens of every prompt (context parallelism)."
_DATA_GROUPS = "Groups of GPUs (--tp x --cp) that share the requests (attention data parallelism)."
ExpertRanks = Annotated[int | None, option("--ep", whole(1), "N", _EXPERT_RANKS, show_default="1")]
ContextGroups = Annotated[
    int | None, option("--cp", whole(1), "N", _CONTEXT_GROUPS, show_default="1")
]
DataGroups = Annotated[int | None, option("--dp", whole(1), "N", _DATA_GROUPS, show_default="1")]
_MORE = " Several are compared."
SeveralExpertRanks = Annotated[
    tuple[int, ...] | None,
    option("--ep", counts, "N[,N]", _EXPERT_RANKS + _MORE, show_default="1"),
]
SeveralContextGroups = Annotated[
    tuple[int, ...] | None,
    option("--cp", counts, "N[,N]", _CONTEXT_GROUPS + _MORE, show_default="1"),
]
SeveralDataGroups = Annotated[
    tuple[int, ...] | None,
    option("--dp", counts, "N[,N]", _DATA_GROUPS + _MORE, show_default="1"),
]
Mix = Annotated[
    str | None,
    plain(
        "--mix",
        "GROUPS",
        "A mixed batch, COUNTxNEW@CONTEXT by comma: 1x2048@6144,64x1@1500 is a part of a prompt, "
        "2048 tokens after 6144, with 64 decodes at 1500.",
        show_default=False,
    ),
]
EpochsOption = Annotated[int, option("--epochs", whole(1), "N", "Most epochs of distillation.")]
FolderOfPlan = Annotated[
    Path | None, plain("--model", "FOLDER", "Hugging Face folder.", show_default="the plan's")
]
NewName = Annotated[
    str | None,
    plain("--name", "NAME", "Name of the new profile.", show_default="the output file's"),
]
TraceFile = Annotated[
    Path | None,
    plain(
        "--trace", "FILE", "Write the timeline as a trace for Perfetto (JSON).", show_default=False
    ),
]
