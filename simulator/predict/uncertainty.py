"""How far off a prediction may be: errors of operation classes, carried through the schedule.

The errors of one class move together: every GEMM of a pass is too slow by the same unknown
factor, baseline and plan alike. The pass is timed again with each class slower by one standard
error; the changes, independent between classes, add up in quadrature. A saving is the difference
of two passes that share their factors, so what both contain cancels. Passes of other ranks or
engines share those of their kernels, but not those of their collectives (`LAYOUT_APART`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np

from isotune.simulator.architecture import Collective, Op
from isotune.simulator.machine import CLASSES

Z80 = 1.2815515594
"""Half width, in standard errors, of the interval that contains 80 % of a normal variable."""

LAYOUT_APART = frozenset(("collectives", "skew", "contention"))
"""Classes whose errors differ between layouts of one machine: other ranks, sizes and kinds.

`experiments/layout_intervals.py` counts how often intervals hold with and without them.
"""
ENGINE_APART = LAYOUT_APART | {"runtime"}
"""Classes whose errors differ between engines of one machine."""


def classes_of(op: Op) -> frozenset[str]:
    """The operation classes that an op's time depends on: its own, and the engine's.

    `runtime` is the clock and so slows all compute; `skew` slows all syncs.
    """
    return frozenset((op.error_class, "skew" if isinstance(op, Collective) else "runtime"))


@dataclass(frozen=True, kw_only=True)
class Factors:
    """What if each of `CLASSES` took so many times as long; 1 where a class is not named."""

    classes: Mapping[str, float]

    def of(self, op: Op) -> float:
        """The factor of an op's time."""
        return self.of_classes(classes_of(op))

    def of_classes(self, names: Collection[str]) -> float:
        """The factor of what depends on some classes."""
        return prod(self.classes[name] for name in names if name in self.classes)

    @property
    def contention(self) -> float:
        """The factor of what contention adds."""
        return self.classes.get("contention", 1.0)


class Passes(Protocol):
    """A pass and what it takes with each class slower by one standard error."""

    @property
    def latency(self) -> float:
        """Seconds as predicted."""

    @property
    def shifted(self) -> Sequence[float]:
        """Seconds with each of `CLASSES` slower."""


def latency_interval(run: Passes) -> tuple[float, float]:
    """The 80 % interval of a latency, seconds: lognormal, so never below zero."""
    changes = [np.log(shifted / run.latency) for shifted in run.shifted]
    half = Z80 * float(np.sqrt(np.sum(np.square(changes))))
    return run.latency * float(np.exp(-half)), run.latency * float(np.exp(half))


def saving_interval(
    plan: Passes, serial: Passes, apart: Collection[str] = ()
) -> tuple[float, float]:
    """The 80 % interval of 1 - plan / serial, a fraction; never above 1.

    The errors of the classes `apart` are independent in the two passes, all others the same.
    """
    saving = 1.0 - plan.latency / serial.latency
    changes: list[float] = []
    for name, ours, theirs in zip(CLASSES, plan.shifted, serial.shifted, strict=True):
        if name in apart:
            changes += [1.0 - ours / serial.latency - saving, 1.0 - plan.latency / theirs - saving]
        else:
            changes.append(1.0 - ours / theirs - saving)
    half = Z80 * float(np.sqrt(np.sum(np.square(changes))))
    return saving - half, min(saving + half, 1.0)
