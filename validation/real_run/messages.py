"""What the ranks of a validation or benchmark send."""

from dataclasses import dataclass
from typing import get_args

from isotune.simulator.schedule import Plan, StepTimes
from isotune.validation.real_run.machine_record import MachineRecord


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Logits of the plan beside the reference's: the largest difference over the largest logit."""

    max_rel_error: float
    tolerance: float
    reference: str
    dtype: str
    positions: int

    @property
    def ok(self) -> bool:
        """Whether they are the same, up to rounding."""
        return self.max_rel_error <= self.tolerance


@dataclass(frozen=True)
class TimedRun:
    """When the steps of one run of a program ran on one rank.

    `program` is 0 for serial and 1 for the plan in a validation, the plan's number in a benchmark.
    """

    program: int
    repeat: int
    times: StepTimes


@dataclass(frozen=True)
class PeakMemory:
    """A rank's peak memory: of the device, or of the process on CPU; bytes."""

    bytes: float


@dataclass(frozen=True)
class PlanStarted:
    """A plan's number in a benchmark; sent by rank 0 before the plan's first run."""

    number: int
    plan: Plan


@dataclass(frozen=True)
class FinalRound:
    """The plans that are compared once more at the end, and the first round of that."""

    numbers: tuple[int, ...]
    round: int


Message = Numbers | TimedRun | PeakMemory | PlanStarted | FinalRound | MachineRecord
MESSAGES: tuple[type[Message], ...] = get_args(Message)
