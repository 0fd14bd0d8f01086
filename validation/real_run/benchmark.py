"""Starts a benchmark of many plans, and gathers what its ranks measured."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from isotune.simulator.schedule import Measurement, Plan, Program, expand
from isotune.validation.ranks import leads, placements, run
from isotune.validation.real_run.benchmark_job import BenchmarkJob, Study
from isotune.validation.real_run.comparison import Collected
from isotune.validation.real_run.fits_machine import check_machine
from isotune.validation.real_run.machine_record import MachineRecord
from isotune.validation.real_run.messages import FinalRound, Message, PlanStarted
from isotune.validation.real_run.run_validation import step_words
from isotune.validation.real_run.setup import Setup


@dataclass(frozen=True, kw_only=True, eq=False)
class BenchmarkRun:
    """The plans in the order in which they first ran, with all their complete rounds.

    `finals` has the plans that met again at the end, on those last rounds alone; empty if it
    did not come to that. `machine` is what rank 0 ran on. `failure` is the one line of a run that
    ended early.
    """

    measured: tuple[tuple[Plan, Measurement], ...]
    finals: tuple[tuple[Plan, Measurement], ...]
    machine: MachineRecord | None = None
    failure: str | None = None


@dataclass
class _Gathered:
    """What the ranks have sent so far."""

    setup: Setup
    collected: Collected
    plans: dict[int, Plan] = field(default_factory=dict)
    final: FinalRound = field(default_factory=lambda: FinalRound((), 0))

    def take(self, rank: int, message: Message) -> None:
        match message:
            case PlanStarted():
                self.plans[message.number] = message.plan
            case FinalRound():
                self.final = message
            case _:
                self.collected.take(rank, message)

    def program(self, number: int) -> Program:
        scenario = self.setup.scenario
        return expand(scenario.model, scenario.workload, self.plans[number])

    def words(self, reported: int) -> str:
        """See `step_words`; the plans become known as they run."""
        names = {number: f"plan {number}" for number in self.plans}
        programs = {number: self.program(number) for number in self.plans}
        return step_words(reported, names, programs)

    def run(self, failure: str | None) -> BenchmarkRun:
        return BenchmarkRun(
            measured=self._measured(self.plans, 0),
            finals=self._measured(self.final.numbers, self.final.round),
            machine=self.collected.machine,
            failure=failure,
        )

    def _measured(self, numbers: Iterable[int], first: int) -> tuple[tuple[Plan, Measurement], ...]:
        """The plans that have complete rounds, with those from the round `first` on."""
        by_number = {
            number: self.collected.measurement(number, self.program(number), first)
            for number in numbers
        }
        return tuple(
            (self.plans[number], ran) for number, ran in by_number.items() if ran is not None
        )


def run_benchmark(
    setup: Setup,
    study: Study,
    *,
    timeout_s: float,
    on_message: Callable[[], None] = lambda: None,
) -> BenchmarkRun | None:
    """Let a study measure plans of a setup; None in a process that does not lead.

    A run that fails, or is interrupted, keeps what was measured: see `BenchmarkRun.failure`.

    Raises:
        InputError: the workload does not fit this machine or number of ranks.
    """
    gathered = _Gathered(setup, Collected(ranks=setup.ranks))

    def take(rank: int, message: Any) -> None:
        gathered.take(rank, message)
        on_message()

    local = placements(setup.ranks)
    check_machine(setup, local)
    failure = run(
        BenchmarkJob(setup, study),
        local,
        device=setup.device,
        timeout_s=timeout_s,
        on_message=take,
        where=gathered.words,
    )
    return gathered.run(failure) if leads() else None
