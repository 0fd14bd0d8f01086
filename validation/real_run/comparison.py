"""Predicted beside measured: the result of a validation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from isotune.simulator.predict import Prediction, predict
from isotune.simulator.schedule import (
    Measurement,
    Program,
    StepTimes,
    Timeline,
    exposed_comm_s,
    kind_seconds,
    measurement,
    timeline_of,
)
from isotune.validation.real_run.machine_record import MachineRecord
from isotune.validation.real_run.messages import Message, Numbers, PeakMemory, TimedRun
from isotune.validation.real_run.setup import Setup

HOST_BOUND = 0.7
"""Share of a run's time from which on enqueueing its kernels decides how long it takes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A program as it was predicted and as it ran (None until its first repeat is complete).

    `host_s` is how long the host took to enqueue it, the slowest rank's, the median over repeats;
    None where the host runs the steps itself.
    """

    prediction: Prediction
    measured: Measurement | None
    host_s: float | None = None

    @property
    def host_bound(self) -> bool:
        """Whether the device may have waited for the host, so that no kernel's time shows."""
        ran, host = self.measured, self.host_s
        return ran is not None and host is not None and host > HOST_BOUND * ran.median_s

    def kinds(self) -> dict[str, tuple[float, float | None]]:
        """Predicted and measured seconds of each kind of step."""
        predicted = kind_seconds(self.prediction.program, self.prediction.timeline)
        if self.measured is None:
            return {kind: (seconds, None) for kind, seconds in predicted.items()}
        ran = kind_seconds(self.measured.program, self.measured.timeline)
        return {kind: (seconds, ran[kind]) for kind, seconds in predicted.items()}

    @property
    def measured_exposed_s(self) -> float | None:
        """Exposed communication of the measured timeline."""
        ran = self.measured
        return None if ran is None else exposed_comm_s(ran.program, ran.timeline)


@dataclass(kw_only=True)
class Collected:
    """What the ranks have sent so far."""

    ranks: int
    numbers: Numbers | None = None
    machine: MachineRecord | None = None
    peak_bytes: dict[int, float] = field(default_factory=dict)
    times: dict[tuple[int, int], dict[int, StepTimes]] = field(default_factory=dict)

    def take(self, rank: int, message: Message) -> None:
        """Take in a message of a rank; see `ValidateJob`."""
        match message:
            case Numbers():
                self.numbers = message
            case MachineRecord():
                self.machine = message
            case PeakMemory():
                self.peak_bytes[rank] = message.bytes
            case TimedRun():
                self.times.setdefault((message.program, message.repeat), {})[rank] = message.times

    def measurement(self, number: int, program: Program, first: int = 0) -> Measurement | None:
        """The repeats of a program, from `first` on, that all ranks have finished."""
        runs: list[list[Timeline]] = []
        for (which, repeat), by_rank in sorted(self.times.items()):
            if which == number and repeat >= first and len(by_rank) == self.ranks:
                runs.append([timeline_of(program, times) for times in by_rank.values()])
        return measurement(program, runs) if runs else None

    def host_s(self, number: int) -> float | None:
        """Seconds in which the host enqueued a program; see `Comparison`."""
        repeats = [
            max(times.host for times in by_rank.values())
            for (which, _), by_rank in self.times.items()
            if which == number and len(by_rank) == self.ranks
        ]
        return (median(repeats) or None) if repeats else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Validation:
    """A validation's result. `failure` is the one line of a run that ended early."""

    setup: Setup
    numbers: Numbers | None
    plan: Comparison
    serial: Comparison
    peak_bytes: Mapping[int, float]
    machine: MachineRecord | None = None
    failure: str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know beside the numbers: of the setup, the machine and the host."""
        found = list(self.setup.notes)
        if self.machine is not None:
            found += self.machine.notes(self.setup.scenario.hardware)
        for name, run in (("serial run", self.serial), ("plan", self.plan)):
            if run.host_bound:
                assert run.host_s is not None
                found.append(
                    f"the {name} is host-bound: enqueueing its kernels takes "
                    f"{run.host_s * 1e3:.2f} ms, so its time is not the device's "
                    "(--launch graph)"
                )
        return tuple(found)

    @property
    def measured_saving(self) -> float | None:
        """Share of the serial latency that the plan saved, in the same job."""
        if self.plan.measured is None or self.serial.measured is None:
            return None
        return 1.0 - self.plan.measured.median_s / self.serial.measured.median_s


def validation(setup: Setup, collected: Collected, failure: str | None = None) -> Validation:
    """What was collected, beside the prediction of the same plan and of the serial run."""
    serial_run = predict(setup.scenario, must_fit=bool(setup.baseline))
    both = predict(setup.scenario, setup.plan), serial_run
    plan, serial = (
        Comparison(
            prediction=p,
            measured=collected.measurement(number, p.program),
            host_s=collected.host_s(number),
        )
        for p, number in zip(both, (1, 0), strict=True)
    )
    return Validation(
        setup=setup,
        numbers=collected.numbers,
        plan=plan,
        serial=serial,
        peak_bytes=collected.peak_bytes,
        machine=collected.machine,
        failure=failure,
    )
