"""Number types: what an element takes, which tensor cores multiply it, where it may be used.

One entry of `TYPES` is all that a new number type needs here. Names and aliases are what files,
tables and the command line may say; every other name is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from isotune.simulator.errors import InputError


@dataclass(frozen=True, kw_only=True)
class NumberType:
    """One number type.

    `bytes` is what one element takes, with its part of the scales of its group. `tensor_rate` is
    the field of `Gpu` with the dense rate of products whose operands are both of this type, None
    where no kernel multiplies it.

    `travels_as` is set for a type that activations may have: the type they have between the
    matrix products (residual stream, attention, KV cache, all-reduce). A type that travels as
    another one is only that of a product's operands: activations are quantised before it.
    `multiplies` names the types of weights that such activations are multiplied with; the own
    type where it is empty.

    `weights`: may be the type of stored weights; `block` is then how many columns and rows of
    them share a scale and so stay on one rank. `cache`: may be the type of a KV cache.
    `transfer` is set for a type that an all-reduce may send: the relative error of one element
    that it adds, at most. `switch_adds`: an NVLink switch can add it up (PTX
    `multimem.ld_reduce` has no int8 form).
    """

    name: str
    bytes: float
    label: str
    tensor_rate: str | None = None
    travels_as: str | None = None
    multiplies: tuple[str, ...] = ()
    weights: bool = False
    block: tuple[int, int] = (1, 1)
    cache: bool = False
    transfer: float | None = None
    switch_adds: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def quantises_activations(self) -> bool:
        """Whether activations have this type in matrix products only."""
        return self.travels_as not in (None, self.name)

    @property
    def partners(self) -> tuple[str, ...]:
        """The types of weights that quantised activations of this type are multiplied with."""
        return self.multiplies or (self.name,)


TYPES: tuple[NumberType, ...] = (
    NumberType(
        name="fp32", bytes=4.0, label="32-bit float", switch_adds=True, aliases=("float32", "float")
    ),
    NumberType(
        name="bf16",
        bytes=2.0,
        label="bfloat16",
        tensor_rate="bf16",
        travels_as="bf16",
        weights=True,
        cache=True,
        transfer=0.0,
        switch_adds=True,
        aliases=("bfloat16",),
    ),
    NumberType(
        name="fp16",
        bytes=2.0,
        label="16-bit float",
        tensor_rate="bf16",
        travels_as="fp16",
        weights=True,
        cache=True,
        switch_adds=True,
        aliases=("float16", "half"),
    ),
    NumberType(
        name="fp8",
        bytes=1.0,
        label="8-bit float",
        tensor_rate="fp8",
        travels_as="bf16",
        weights=True,
        cache=True,
        transfer=2.0**-4,  # half a unit in the last place of e4m3
        aliases=("fp8_e4m3", "fp8_e5m2"),
    ),
    NumberType(
        name="fp8_block",
        bytes=1.0 + 4 / 128**2,  # an fp32 scale per block of 128 by 128 weights
        label="8-bit float with block scales",
        tensor_rate="fp8",
        travels_as="bf16",
        weights=True,
        block=(128, 128),
    ),
    NumberType(
        name="mxfp8",
        bytes=1.0 + 1 / 32,  # OCP Microscaling Formats 1.0: an 8-bit exponent per 32 elements
        label="8-bit float with a scale per 32",
        tensor_rate="fp8",
        travels_as="bf16",
        multiplies=("mxfp8", "mxfp4"),
        weights=True,
        block=(1, 32),
    ),
    NumberType(
        name="int8",
        bytes=1.0,
        label="8-bit integer",
        tensor_rate="int8",
        travels_as="bf16",
        weights=True,
        transfer=2.0**-8,  # against the largest value of its scale group
        aliases=("uint8",),
    ),
    NumberType(
        name="int4",
        bytes=0.5 + 2 / 128,  # a 16-bit scale per group of 128, as GPTQ and AWQ usually store them
        label="4-bit integer",
        weights=True,
        aliases=("uint4",),
    ),
    NumberType(
        name="nvfp4",
        bytes=0.5 + 1 / 16,  # an 8-bit scale per 16 elements
        label="4-bit float with a scale per 16",
        tensor_rate="fp4",
        travels_as="bf16",
        weights=True,
        block=(1, 16),
    ),
    NumberType(
        name="mxfp4",
        bytes=0.5 + 1 / 32,  # OCP Microscaling Formats 1.0: an 8-bit exponent per 32 elements
        label="4-bit float with a scale per 32",
        weights=True,
        block=(1, 32),
    ),
)
_BY_NAME = {name: entry for entry in TYPES for name in (entry.name, *entry.aliases)}


def number_type(name: str) -> NumberType:
    """The number type of a name or alias.

    Raises:
        InputError: no such type.
    """
    if name not in _BY_NAME:
        raise InputError(f"unknown type {name!r:.40} (known: {', '.join(DTYPES)})")
    return _BY_NAME[name]


def loses(transfer: str) -> bool:
    """Whether an all-reduce that sends this type changes the sums.

    Raises:
        InputError: no such type.
    """
    return bool(number_type(transfer).transfer)


def bytes_of(name: str) -> float:
    """Bytes of one element.

    Raises:
        InputError: no such type.
    """
    return number_type(name).bytes


def _names(use: Callable[[NumberType], bool]) -> tuple[str, ...]:
    return tuple(entry.name for entry in TYPES if use(entry))


DTYPES = tuple(entry.name for entry in TYPES)
ACTIVATION_DTYPES = _names(lambda entry: entry.travels_as is not None)
WEIGHT_DTYPES = _names(lambda entry: entry.weights)
COMM_DTYPES = _names(lambda entry: entry.transfer is not None)
PLAIN_DTYPES = _names(lambda entry: entry.weights and entry.travels_as == entry.name)
KV_DTYPES = _names(lambda entry: entry.cache)
"""Names of all types, of those for activations, weights, what an all-reduce sends, weights that
are not quantised, and the KV cache."""


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How a matrix product is quantised: the types of its two operands, under one name."""

    name: str
    dtype: str
    weight_dtype: str
    label: str
    aliases: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether nothing is quantised."""
        return self.dtype == self.weight_dtype == number_type(self.dtype).travels_as


SCHEMES: tuple[Scheme, ...] = (
    Scheme(name="bf16", dtype="bf16", weight_dtype="bf16", label="not quantised"),
    Scheme(name="fp8", dtype="fp8", weight_dtype="fp8", label="fp8, scales per tensor or channel"),
    Scheme(
        name="fp8_wo",
        dtype="bf16",
        weight_dtype="fp8",
        label="fp8 weights, bf16 activations",
        aliases=("w8a16_fp8",),
    ),
    Scheme(
        name="fp8_block",
        dtype="fp8_block",
        weight_dtype="fp8_block",
        label="fp8, scales per block of 128 by 128 weights",
    ),
    Scheme(name="nvfp4", dtype="nvfp4", weight_dtype="nvfp4", label="NVFP4 operands"),
    Scheme(
        name="nvfp4_wo",
        dtype="bf16",
        weight_dtype="nvfp4",
        label="NVFP4 weights, bf16 activations",
        aliases=("w4a16_nvfp4",),
    ),
    Scheme(
        name="int8",
        dtype="bf16",
        weight_dtype="int8",
        label="int8 weights, bf16 activations",
        aliases=("int8_wo", "w8a16"),
    ),
    Scheme(
        name="int4",
        dtype="bf16",
        weight_dtype="int4",
        label="int4 weights, bf16 activations",
        aliases=("int4_wo", "w4a16"),
    ),
    Scheme(
        name="mxfp4",
        dtype="bf16",
        weight_dtype="mxfp4",
        label="MXFP4 weights, bf16 activations",
        aliases=("mxfp4_wo",),
    ),
    Scheme(
        name="w8a8",
        dtype="int8",
        weight_dtype="int8",
        label="int8 operands",
        aliases=("int8_w8a8",),
    ),
    Scheme(name="mxfp8", dtype="mxfp8", weight_dtype="mxfp8", label="MXFP8 operands"),
    Scheme(
        name="mxfp4_mxfp8",
        dtype="mxfp8",
        weight_dtype="mxfp4",
        label="MXFP4 weights, MXFP8 activations",
    ),
)
QUANTS = tuple(entry.name for entry in SCHEMES)
"""Names of all ways to quantise a product."""
_SCHEMES = {name: entry for entry in SCHEMES for name in (entry.name, *entry.aliases)}


def scheme(name: str) -> Scheme:
    """The way to quantise a product of a name or alias, such as those of tables of measurements.

    Raises:
        InputError: no such way.
    """
    if name not in _SCHEMES:
        raise InputError(f"unknown quantisation {name!r:.40} (known: {', '.join(QUANTS)})")
    return _SCHEMES[name]


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """How one product is quantised, and how its weights share scales.

    `weight_bytes` is what a weight takes with its part of a scale. Weights of `columns` columns
    and `rows` rows (along k) share a scale and stay on one rank; `cuts_experts`: engines have
    kernels that cut the groups of an expert all the same.
    """

    scheme: Scheme
    weight_bytes: float
    columns: int = 1
    rows: int = 1
    cuts_experts: bool = False

    @classmethod
    def like(cls, how: Scheme) -> "Quantised":
        """A product of these types, with the usual groups of its weights' type."""
        weights = number_type(how.weight_dtype)
        columns, rows = weights.block
        return cls(
            scheme=how,
            weight_bytes=weights.bytes,
            columns=columns,
            rows=rows,
            cuts_experts=weights.name in _INTEGER_BITS,
        )

    @classmethod
    def of(cls, name: str, group: int | None = None, zero_points: bool = False) -> "Quantised":
        """A product of a scheme; integers with scales (and `zero_points`) per `group` along k.

        `group` is that of the weights' type unless given, and -1 for one scale per column.
        """
        usual = cls.like(scheme(name))
        bits = _INTEGER_BITS.get(usual.scheme.weight_dtype)
        if bits is None or group is None:
            return usual
        if group <= 0:
            return replace(usual, weight_bytes=bits / 8, rows=1)
        scales = (2 + zero_points * bits / 8) / group
        return replace(usual, weight_bytes=bits / 8 + scales, rows=group)


_INTEGER_BITS = {"int8": 8, "int4": 4}
