"""The quantisation of a checkpoint, from its `quantization_config` or hf_quant_config.json.

One class per method, with the field names of the files. What a method may say and we cannot price
is refused, never read as something else.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictBool, StrictStr

from isotune.simulator.architecture.quantisation import Names, Quantisation
from isotune.simulator.errors import InputError
from isotune.simulator.io import read_json, validate
from isotune.simulator.number_types import Quantised

Modules = Annotated[tuple[StrictStr, ...], Field(max_length=100_000)]


class _Method(BaseModel, ABC):
    """What a method says; fields without a bearing on speed or size are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, defer_build=True)

    @abstractmethod
    def read(self) -> Quantisation:
        """What it means.

        Raises:
            ValueError: it says what we cannot price.
        """


class _Layer(BaseModel):
    """An entry of ModelOpt's `quantized_layers`."""

    quant_algo: StrictStr
    group_size: int | None = None

    @property
    def quantised(self) -> Quantised:
        return _modelopt(self.quant_algo, self.group_size)


def _layer_rules(layers: dict[str, _Layer]) -> tuple[tuple[Names, Quantised], ...]:
    """A rule for each way in which some layers are quantised."""
    ways: dict[Quantised, list[str]] = {}
    for name, layer in layers.items():
        ways.setdefault(layer.quantised, []).append(name)
    return tuple((Names.of(names), how) for how, names in ways.items())


class _Fp8(_Method):
    """`fp8`: scales per tensor, or per block of weights with those of activations per token."""

    activation_scheme: Literal["dynamic", "static"] = "dynamic"
    weight_block_size: tuple[Literal[128], Literal[128]] | None = None
    modules_to_not_convert: Modules | None = Field(
        default=None, validation_alias=AliasChoices("modules_to_not_convert", "ignored_layers")
    )
    ignore: Modules = ()
    quantized_layers: dict[str, _Layer] = Field(default_factory=dict)

    def read(self) -> Quantisation:
        return Quantisation(
            method="fp8",
            usual=Quantised.of("fp8" if self.weight_block_size is None else "fp8_block"),
            left_out=Names.of((*(self.modules_to_not_convert or ()), *self.ignore)),
            rules=_layer_rules(self.quantized_layers),
        )


class _Fbgemm(_Method):
    """`fbgemm_fp8`: scales per row of weights and per token."""

    modules_to_not_convert: Modules | None = None

    def read(self) -> Quantisation:
        return Quantisation(
            method="fbgemm_fp8",
            usual=Quantised.of("fp8"),
            left_out=Names.of(self.modules_to_not_convert or ()),
        )


class _Numbers(BaseModel):
    """Weights or activations of a group of compressed-tensors."""

    num_bits: int
    type: Literal["int", "float"]
    strategy: StrictStr | None = None
    group_size: int | None = None
    symmetric: StrictBool = True
    block_structure: tuple[int, int] | None = None

    @property
    def kind(self) -> tuple[str, int]:
        return self.type, self.num_bits

    def __str__(self) -> str:
        return f"{self.num_bits}-bit {self.type}"


_OPERANDS = {
    (("float", 8), ("float", 8)): "fp8",
    (("float", 8), None): "fp8_wo",
    (("int", 8), ("int", 8)): "w8a8",
    (("int", 8), None): "int8",
    (("int", 4), None): "int4",
    (("float", 4), ("float", 4)): "nvfp4",
    (("float", 4), None): "nvfp4_wo",
    (("float", 4), ("float", 8)): "mxfp4_mxfp8",
}
"""The scheme of (weights, activations) of compressed-tensors; None is not quantised."""
_MX_GROUP = 32
_BLOCK = (128, 128)


class _Group(BaseModel):
    """Modules of compressed-tensors that are quantised alike."""

    targets: Modules = ("Linear",)
    weights: _Numbers | None
    input_activations: _Numbers | None = None

    @property
    def quantised(self) -> Quantised | None:
        weights, activations = self.weights, self.input_activations
        if weights is None:
            return None
        name = _OPERANDS.get((weights.kind, None if activations is None else activations.kind))
        if name is None:
            allowed = ", ".join(dict.fromkeys(_OPERANDS.values()))
            raise ValueError(
                f"config_groups: {weights} weights with "
                f"{activations or 'unquantised'} activations are not supported (allowed: {allowed})"
            )
        if weights.strategy == "block":
            if name != "fp8" or weights.block_structure not in (None, _BLOCK):
                raise ValueError("config_groups: blocks of weights other than fp8 of 128 by 128")
            name = "fp8_block"
        if name == "nvfp4_wo" and weights.group_size == _MX_GROUP:
            name = "mxfp4"
        group = weights.group_size if weights.strategy == "group" else -1
        return Quantised.of(name, group, zero_points=not weights.symmetric)


class _CompressedTensors(_Method):
    """`compressed-tensors`: groups of modules; those of class Linear where no name is given."""

    config_groups: dict[str, _Group] = Field(min_length=1)
    ignore: Modules = ()
    kv_cache_scheme: _Numbers | Literal["FP8"] | None = None

    def read(self) -> Quantisation:
        usual: Quantised | None = None
        rules = []
        for group in self.config_groups.values():
            how = group.quantised
            if how is None:
                continue
            if "Linear" in group.targets:
                usual = how
            else:
                rules.append((Names.of(group.targets), how))
        return Quantisation(
            method="compressed-tensors",
            usual=usual,
            rules=tuple(rules),
            left_out=Names.of(self.ignore),
            kv_cache=_cache(self.kv_cache_scheme),
        )


def _cache(scheme: _Numbers | str | None) -> str | None:
    """The type of the KV cache that a scheme of compressed-tensors or ModelOpt means."""
    if scheme is None:
        return None
    if scheme == "FP8" or (isinstance(scheme, _Numbers) and scheme.kind == ("float", 8)):
        return "fp8"
    raise ValueError(f"kv_cache_scheme: {scheme} is not supported (allowed: 8-bit float)")


_ALGORITHMS = {
    "FP8": "fp8",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8",
    "FP8_PB_WO": "fp8_block",
    "NVFP4": "nvfp4",
    "NVFP4_AWQ": "nvfp4",
    "W4A16_NVFP4": "nvfp4_wo",
    "W4A16_AWQ": "int4",
    "W4A16": "int4",
    "W8A16": "int8",
    "W8A8_SQ_PER_CHANNEL": "w8a8",
    "MXFP8": "mxfp8",
}
_MIXED = "MIXED_PRECISION"


def _modelopt(algorithm: str, group: int | None) -> Quantised:
    if algorithm not in _ALGORITHMS:
        raise ValueError(
            f"quant_algo: {algorithm!r:.40} is not supported (allowed: "
            f"{', '.join((*_ALGORITHMS, _MIXED))})"
        )
    return Quantised.of(_ALGORITHMS[algorithm], group)


class _ModelOpt(_Method):
    """`modelopt`: one algorithm, or one per layer (MIXED_PRECISION)."""

    quant_algo: StrictStr
    group_size: int | None = None
    quantized_layers: dict[str, _Layer] = Field(default_factory=dict)
    exclude_modules: Modules | None = None
    ignore: Modules | None = None
    kv_cache_quant_algo: Literal["FP8"] | None = None
    kv_cache_scheme: _Numbers | Literal["FP8"] | None = None

    def read(self) -> Quantisation:
        mixed = self.quant_algo == _MIXED
        return Quantisation(
            method="modelopt",
            usual=None if mixed else _modelopt(self.quant_algo, self.group_size),
            left_out=Names.of((*(self.exclude_modules or ()), *(self.ignore or ()))),
            rules=_layer_rules(self.quantized_layers),
            kv_cache="fp8" if self.kv_cache_quant_algo else _cache(self.kv_cache_scheme),
        )


class _Awq(_Method):
    """`awq`: 4-bit weights with scales and zero points per group."""

    bits: Literal[4] = Field(validation_alias=AliasChoices("bits", "w_bit"))
    group_size: int = Field(
        default=128, validation_alias=AliasChoices("group_size", "q_group_size")
    )
    zero_point: StrictBool = True
    modules_to_not_convert: Modules | None = None

    def read(self) -> Quantisation:
        return Quantisation(
            method="awq",
            usual=Quantised.of("int4", self.group_size, self.zero_point),
            left_out=Names.of(self.modules_to_not_convert or ()),
        )


class _Gptq(_Method):
    """`gptq`: 4- or 8-bit weights; zero points are stored whether used or not."""

    bits: Literal[4, 8]
    group_size: int = 128
    lm_head: StrictBool = False
    dynamic: dict[str, dict[str, Any]] = Field(default_factory=dict)
    modules_to_not_convert: Modules | None = None

    def read(self) -> Quantisation:
        changed = [name for name in self.dynamic if not name.startswith("-:")]
        if changed:
            raise ValueError(f"dynamic: {changed[0]!r:.60} is not supported (allowed: -:REGEX)")
        how = Quantised.of(f"int{self.bits}", self.group_size, zero_points=True)
        skipped = (f"re:{name.removeprefix('-:')}" for name in self.dynamic)
        return Quantisation(
            method="gptq",
            usual=how,
            left_out=Names.of((*(self.modules_to_not_convert or ()), *skipped)),
            rules=((Names.of(("lm_head",)), how),) if self.lm_head else (),
        )


class _Mxfp4(_Method):
    """`mxfp4`: the experts' weights."""

    modules_to_not_convert: Modules | None = None

    def read(self) -> Quantisation:
        return Quantisation(
            method="mxfp4",
            usual=Quantised.of("mxfp4"),
            left_out=Names.of(self.modules_to_not_convert or ()),
            experts_only=True,
        )


_BNB_BLOCK = 64


class _BitsAndBytes(_Method):
    """`bitsandbytes`: 4-bit weights in blocks of 64, or LLM.int8()."""

    load_in_4bit: StrictBool = False
    load_in_8bit: StrictBool = False
    llm_int8_skip_modules: Modules | None = None

    def read(self) -> Quantisation:
        if self.load_in_4bit == self.load_in_8bit:
            raise ValueError("load_in_4bit, load_in_8bit: one of them must be true")
        how = Quantised.of("int4", _BNB_BLOCK) if self.load_in_4bit else Quantised.of("w8a8")
        return Quantisation(
            method="bitsandbytes",
            usual=how,
            left_out=Names.of(self.llm_int8_skip_modules or ()),
            note="kernels of bitsandbytes were not measured: "
            f"those of {how.scheme.label} stand in.",
        )


METHODS: dict[str, type[_Method]] = {
    "fp8": _Fp8,
    "fbgemm_fp8": _Fbgemm,
    "compressed-tensors": _CompressedTensors,
    "modelopt": _ModelOpt,
    "awq": _Awq,
    "gptq": _Gptq,
    "mxfp4": _Mxfp4,
    "bitsandbytes": _BitsAndBytes,
}
"""The supported values of `quant_method`."""
_VARIANTS = {
    "awq_marlin": "awq",
    "gptq_marlin": "gptq",
    "modelopt_fp4": "modelopt",
    "modelopt_mixed": "modelopt",
}
"""Names that engines give to a method with other kernels."""


def read_quantisation(config: dict[str, Any], file: Path) -> Quantisation | None:
    """The quantisation of a checkpoint; None if its weights are as trained.

    Args:
        config: the content of its config.json.
        file: where it lies; a hf_quant_config.json is looked for beside a config.json.

    Raises:
        InputError: an unknown method, or something of one that is not supported.
    """
    section = _section(config)
    if section is not None:
        return _read(section, f"{file}: quantization_config")
    beside = file.with_name("hf_quant_config.json")
    if file.name != "config.json" or not beside.is_file():
        return None
    content = read_json(beside)
    section = content.get("quantization", content)
    return _read(section if isinstance(section, dict) else {}, str(beside))


def _section(config: dict[str, Any]) -> dict[str, Any] | None:
    for place in (config, config.get("text_config")):
        if isinstance(place, dict):
            for key in ("quantization_config", "compression_config"):
                if isinstance(place.get(key), dict) and place[key]:
                    return dict(place[key])
    return None


def _read(section: dict[str, Any], where: str) -> Quantisation:
    given = section.get("quant_method", _implied(section))
    method = _VARIANTS.get(given, given) if isinstance(given, str) else given
    if not isinstance(method, str) or method not in METHODS:
        found = f"{given!r:.60} is not supported" if given else "missing"
        raise InputError(f"{where}: quant_method: {found} (allowed: {', '.join(METHODS)})")
    stated = validate(METHODS[method], section, where)
    try:
        return stated.read()
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _implied(section: dict[str, Any]) -> str | None:
    """The method of a section that does not name it."""
    signs = {
        "quant_algo": "modelopt",
        "config_groups": "compressed-tensors",
        "load_in_4bit": "bitsandbytes",
    }
    return next((method for sign, method in signs.items() if sign in section), None)
