"""How far off a prediction may be: errors of operation classes, carried through the schedule.

The errors of one class move together: every GEMM of a pass is too slow by the same unknown
factor, baseline and plan alike. The pass is timed again with each class slower by one standard
error; the changes, independent between classes, add up in quadrature. A saving is the difference
of two passes that share their factors, so what both contain cancels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np

from isotune.simulator.schedule import SYNCS, Op

Z80 = 1.2815515594
"""Half width, in standard errors, of the interval that contains 80 % of a normal variable."""

_GEMMS = frozenset({Op.QKV, Op.ATTENTION_OUT, Op.MLP_UP, Op.MLP_DOWN, Op.LM_HEAD})


def class_of(op: Op) -> str:
    """The operation class of an op; what the host does is `runtime`."""
    if op in SYNCS:
        return "collectives"
    if op in _GEMMS:
        return "gemm"
    return {Op.ATTENTION: "attention", Op.HOST: "runtime"}.get(op, "elementwise")


def slower(seconds: Mapping[Op, float], name: str, error: float) -> float:
    """Seconds of a step, given by op, if class `name` is slower by a factor 1 + `error`.

    `runtime` is the clock and so slows all compute; `skew` slows all syncs.
    """
    return sum(
        value * (1.0 + error) if name in (class_of(op), _engine(op)) else value
        for op, value in seconds.items()
    )


def _engine(op: Op) -> str:
    return "skew" if op in SYNCS else "runtime"


@dataclass(frozen=True, kw_only=True)
class Factors:
    """What if ops took so many times as long, and contention took so many times as much."""

    ops: Mapping[Op, float]
    contention: float = 1.0

    @classmethod
    def of(cls, classes: Mapping[str, float]) -> "Factors":
        """From a factor for each of some `CLASSES`."""
        ops = {
            op: prod(classes.get(name, 1.0) for name in {class_of(op), _engine(op)}) for op in Op
        }
        return cls(ops=ops, contention=classes.get("contention", 1.0))


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


def saving_interval(plan: Passes, serial: Passes) -> tuple[float, float]:
    """The 80 % interval of 1 - plan / serial, a fraction; never above 1."""
    saving = 1.0 - plan.latency / serial.latency
    pairs = zip(plan.shifted, serial.shifted, strict=True)
    changes = [1.0 - ours / theirs - saving for ours, theirs in pairs]
    half = Z80 * float(np.sqrt(np.sum(np.square(changes))))
    return saving - half, min(saving + half, 1.0)
