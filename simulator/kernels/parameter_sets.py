"""Kernel parameters by number type and by engine: a default set, and named sets that differ.

A section of a profile is the default set. Below `sets` it may carry others, each for the number
types of the operands, for an engine, or for both; a set states what differs and inherits the rest
from the default set:

    gemm:
      launch: 2.5 us
      ...
      sets:
        fp8:
          dtype: fp8
          error: 0.06
          launch: 3.1 us
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Generic, NamedTuple, Self, TypeVar

from pydantic import ConfigDict, Field, model_validator

from isotune.simulator.errors import InputError
from isotune.simulator.io import Dtype, Schema, validate
from isotune.simulator.number_types import number_type

DEFAULT_RATE = "bf16"
"""The default set is that of types multiplied at this rate (bf16 and fp16: the same kernels)."""


class Operands(NamedTuple):
    """Number types of a kernel's operands: of activations, and of weights or cache."""

    dtype: str
    weight_dtype: str

    @classmethod
    def of(cls, dtype: str, weight_dtype: str | None = None) -> "Operands":
        """Weights have the activations' type unless another is given."""
        return cls(dtype, weight_dtype or dtype)

    @property
    def usual(self) -> bool:
        """Whether they are those of the default set."""
        return {number_type(name).tensor_rate for name in self} == {DEFAULT_RATE}

    def __str__(self) -> str:
        if self.dtype == self.weight_dtype:
            return f"{self.dtype} operands"
        return f"{self.weight_dtype} weights times {self.dtype} activations"


class KernelSet(Schema):
    """Figures of one number type, of one engine, or of both; the rest is the default set's."""

    model_config = ConfigDict(extra="allow")

    dtype: Dtype | None = Field(default=None, description="operands it is for")
    weight_dtype: Dtype | None = Field(default=None, description="of weights, where it differs")
    engine: str | None = Field(default=None, min_length=1, description="software it is for")
    error: float | None = Field(
        default=None, ge=0, le=1, description="relative standard error of these kernels in a pass"
    )

    @model_validator(mode="after")
    def _is_for_something(self) -> Self:
        if self.dtype is None and self.engine is None:
            raise ValueError("a set needs dtype, engine or both, which say what it is for")
        if self.weight_dtype is not None and self.dtype is None:
            raise ValueError("weight_dtype: needs dtype, the type of the activations, beside it")
        return self

    @property
    def stated(self) -> dict[str, Any]:
        """The parameters it states, as in the file."""
        return dict(self.model_extra or {})

    @property
    def operands(self) -> Operands | None:
        """The number types it is for; None: those of the default set."""
        return None if self.dtype is None else Operands.of(self.dtype, self.weight_dtype)

    def suits(self, operands: Operands, engine: str | None) -> bool:
        """Whether these operands under this engine may take it."""
        return self.operands in (None, operands) and self.engine in (None, engine)


KernelSets = dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")], KernelSet]
Parameters = TypeVar("Parameters", bound="KernelParameters")


@dataclass(frozen=True, kw_only=True)
class Selected(Generic[Parameters]):
    """The set that kernels of some operands take.

    `name` is the set's, empty for the default set; `error` the set's own standard error, None
    where the section's class error holds; `stands_in_for` says what was asked for and not
    measured, empty if the set was measured for exactly that; `stand_in` what took its place where
    that is no set of this section.
    """

    parameters: Parameters
    name: str = ""
    error: float | None = None
    stands_in_for: str = ""
    stand_in: str = ""

    @property
    def standing_in(self) -> str:
        """What stands in, in words."""
        return self.stand_in or f"{self.name or 'default'} set"

    def path(self, section: str) -> str:
        """Its path in a profile, and so in the profile's sources."""
        return f"{section}.sets.{self.name}" if self.name else section


class KernelParameters(Schema):
    """One section of a profile: the default set's figures, and the sets that differ from it."""

    sets: KernelSets = Field(default_factory=dict, description="by number type and engine")

    @model_validator(mode="after")
    def _sets_are_valid(self) -> Self:
        seen: dict[tuple[Operands | None, str | None], str] = {}
        for name, kernel_set in self.sets.items():
            twin = seen.setdefault((kernel_set.operands, kernel_set.engine), name)
            if twin != name:
                raise ValueError(f"sets.{name}: is for the same type and engine as {twin}")
            try:
                self.with_figures(kernel_set.stated)
            except InputError as error:
                raise ValueError(f"sets.{name}.{error}") from error
        return self

    @property
    def own_error(self) -> float | None:
        """The default set's own standard error; None where the section's class error holds."""
        return None

    def with_figures(self, stated: dict[str, Any]) -> Self:
        """The default set with some of its figures replaced.

        Raises:
            InputError: an unknown figure, or one of the wrong type, unit or range.
        """
        own = self.model_dump(mode="json", exclude={"sets"})
        return validate(type(self), _merged(own, stated), "")

    def of(
        self, dtype: str = "bf16", weight_dtype: str | None = None, engine: str | None = None
    ) -> Selected[Self]:
        """The set for operands of these types under this engine.

        A set for the type goes before one for the engine, one for both before either.
        """
        operands = Operands.of(dtype, weight_dtype)
        fitting = {n: s for n, s in self.sets.items() if s.suits(operands, engine)}
        best = max(
            fitting,
            key=lambda n: (fitting[n].dtype is not None, fitting[n].engine is not None),
            default="",
        )
        chosen = fitting.get(best)
        asked = []
        if not (operands.usual or (chosen and chosen.dtype)):
            asked.append(str(operands))
        if engine is not None and not (chosen and chosen.engine):
            asked.append(engine)
        return Selected(
            parameters=self if chosen is None else self.with_figures(chosen.stated),
            name=best,
            error=self.own_error if chosen is None else chosen.error,
            stands_in_for=" under ".join(asked),
        )


def _merged(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `other`, table by table."""
    both = {
        key: _merged(base[key], value)
        for key, value in other.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | other | both


def stated_figures(kernel_set: KernelSet) -> Iterator[tuple[str, Any]]:
    """Names and values of what a set states: its parameters, and its error."""
    yield from kernel_set.stated.items()
    if kernel_set.error is not None:
        yield "error", kernel_set.error
