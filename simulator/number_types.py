"""Number types: what an element takes, which tensor cores multiply it, where it may be used.

One entry of `TYPES` is all that a new number type needs here. Names and aliases are what files,
tables and the command line may say; every other name is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass

from isotune.simulator.errors import InputError


@dataclass(frozen=True, kw_only=True)
class NumberType:
    """One number type.

    `bytes` is what one element takes. `tensor_rate` is the field of `Gpu` with the dense rate of
    products whose operands are both of this type, None where no kernel multiplies it.

    `travels_as` is set for a type that activations may have: the type they have between the
    matrix products (residual stream, attention, KV cache, all-reduce). A type that travels as
    another one is only that of a product's operands: activations are quantised before it.

    `weights`: may be the type of stored weights. `transfer` is set for a type that an all-reduce
    may send: the relative error of one element that it adds, at most. `switch_adds`: an NVLink
    switch can add it up (PTX `multimem.ld_reduce` has no int8 form).
    """

    name: str
    bytes: float
    label: str
    tensor_rate: str | None = None
    travels_as: str | None = None
    weights: bool = False
    transfer: float | None = None
    switch_adds: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def quantises_activations(self) -> bool:
        """Whether activations have this type in matrix products only."""
        return self.travels_as not in (None, self.name)


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
        transfer=2.0**-4,  # half a unit in the last place of e4m3
        aliases=("fp8_e4m3", "fp8_e5m2"),
    ),
    NumberType(
        name="int8",
        bytes=1.0,
        label="8-bit integer",
        weights=True,
        transfer=2.0**-8,  # against the largest value of its scale group
        aliases=("uint8",),
    ),
    NumberType(name="int4", bytes=0.5, label="4-bit integer", weights=True),
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
"""Names of all types, of those for activations, for weights, for what an all-reduce sends."""
