"""A section of a profile, and how rows estimate it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from isotune.simulator.kernels import Array, Operands
from isotune.simulator.machine import OpError
from isotune.validation.calibrate.estimate import Parameter
from isotune.validation.tables import Rows

Weights = Callable[[Rows], Array]


def equal_weights(rows: Rows) -> Array:
    """Every row counts the same."""
    return np.ones(len(rows))


@dataclass(frozen=True, kw_only=True, eq=False)
class Section:
    """Parameters of one kind of kernel, and the rows that speak about them.

    `paths` are dotted paths in the profile; `choices` are values at dotted paths that no
    derivative can follow (a tile size), the base's first. `set_name` is that of the set of kernel
    parameters which the rows measure, None for the default set; `left_out` says which rows of the
    operation are not among the groups.
    """

    key: str
    groups: tuple[Rows, ...]
    paths: tuple[str, ...]
    choices: tuple[Mapping[str, Any], ...] = ({},)
    weights: Weights = equal_weights
    set_name: str | None = None
    left_out: str = ""

    @property
    def operands(self) -> Operands:
        """Types of what its rows multiply."""
        return self.groups[0].operands

    @property
    def op(self) -> str:
        """The operation its rows measure."""
        return self.groups[0].op

    @property
    def path(self) -> str:
        """Dotted path of what it estimates in a profile: a section, or a set below it."""
        return self.key if self.set_name is None else f"{self.key}.sets.{self.set_name}"


@dataclass(frozen=True, kw_only=True)
class SectionReport:
    """What happened to one section; `before` are the base's errors on the same rows."""

    key: str
    op: str
    error: OpError
    before: OpError
    parameters: tuple[Parameter, ...]
    left_out: str = ""


def by_type(groups: tuple[Rows, ...]) -> list[tuple[str | None, tuple[Rows, ...]]]:
    """Rows by the set they measure: the usual types' (None, first), then each other type's."""
    found: dict[str | None, tuple[Rows, ...]] = {}
    for rows in groups:
        name = None if rows.operands.usual else rows.dtype
        found[name] = (*found.get(name, ()), rows)
    return sorted(found.items(), key=lambda item: item[0] or "")


def paths_of(prefix: str, names: Sequence[str]) -> tuple[str, ...]:
    """Dotted paths of fields below `prefix`."""
    return tuple(f"{prefix}.{name}" for name in names)
