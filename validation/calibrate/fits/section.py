"""A section of a profile, and how rows estimate it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from isotune.simulator.kernels import Array
from isotune.simulator.machine import HardwareProfile, OpError
from isotune.validation.calibrate.estimate import Parameter
from isotune.validation.tables import Rows

Weights = Callable[[Rows], Array]


def equal_weights(rows: Rows) -> Array:
    """Every row counts the same."""
    return np.ones(len(rows))


@dataclass(frozen=True, kw_only=True, eq=False)
class Section:
    """Parameters of one kind of kernel, and the rows that speak about them.

    `paths` are dotted paths in the profile; `variants` are profiles that differ in choices no
    derivative can follow (a tile size), the base first. `dtype` is that of the set of kernel
    parameters which the rows measure, None for the default set.
    """

    key: str
    groups: tuple[Rows, ...]
    paths: tuple[str, ...]
    variants: tuple[HardwareProfile, ...]
    weights: Weights = equal_weights
    dtype: str | None = None

    @property
    def op(self) -> str:
        """The operation its rows measure."""
        return self.groups[0].op

    @property
    def path(self) -> str:
        """Dotted path of what it estimates in a profile: a section, or a set below it."""
        return self.key if self.dtype is None else f"{self.key}.sets.{self.dtype}"


@dataclass(frozen=True, kw_only=True)
class SectionReport:
    """What happened to one section; `before` are the base's errors on the same rows."""

    key: str
    op: str
    error: OpError
    before: OpError
    parameters: tuple[Parameter, ...]


def paths_of(prefix: str, names: Sequence[str]) -> tuple[str, ...]:
    """Dotted paths of fields below `prefix`."""
    return tuple(f"{prefix}.{name}" for name in names)
