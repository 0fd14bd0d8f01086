"""The front door: what a plan takes on a scenario, beside the serial baseline."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from isotune.simulator.architecture import Op
from isotune.simulator.errors import InputError
from isotune.simulator.predict.gpu_memory import GpuMemory, Memory
from isotune.simulator.predict.scenario import Scenario
from isotune.simulator.predict.simulated_run import SimulatedRun
from isotune.simulator.predict.step_cost import Message
from isotune.simulator.predict.uncertainty import latency_interval, saving_interval
from isotune.simulator.schedule import Plan, Program, Timeline, check_plan

SERIAL = Plan()


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a plan takes; all times in seconds.

    `compute_s` and `comm_s` are the plan's steps with the GPU to themselves, C and M.
    `op_seconds` has the ops by name, and
    `op_sections` the section of the profile that each one's figures come from.
    `exposed_comm_s` is the time in which no compute runs: communication not hidden, and the
    waits around it. `bound_s` = max(C, M) is what perfect overlap without contention takes,
    with the smaller of the plan's and the baseline's C.
    """

    scenario: Scenario
    plan: Plan
    latency_s: float
    serial_latency_s: float
    compute_s: float
    comm_s: float
    exposed_comm_s: float
    bound_s: float
    op_seconds: Mapping[str, float]
    op_sections: Mapping[str, str]
    memory: Memory
    run: SimulatedRun
    serial: SimulatedRun

    @property
    def baseline(self) -> "Prediction":
        """The serial pass; one that does not fit in memory is predicted all the same."""
        if self.run is self.serial:
            return self
        needed = GpuMemory(self.scenario).of(SERIAL)
        return _of_runs(self.scenario, SERIAL, needed, self.serial, self.serial)

    @property
    def all_reduces(self) -> tuple[Message, ...]:
        """Its all-reduces by operation and size, with the algorithm that carries each."""
        return self.run.all_reduces

    @property
    def program(self) -> Program:
        """The plan's steps."""
        return self.run.program

    @property
    def timeline(self) -> Timeline:
        """When each step runs."""
        return self.run.timeline

    @property
    def overlapped_s(self) -> float:
        """Seconds during which a compute step and a collective both run."""
        return self.timeline.overlapped

    @cached_property
    def latency_interval_s(self) -> tuple[float, float]:
        """The 80 % interval of the latency, from the errors of the profile's operation classes."""
        return latency_interval(self.run)

    @cached_property
    def saving_interval(self) -> tuple[float, float]:
        """The 80 % interval of the saving; what baseline and plan share cancels."""
        return saving_interval(self.run, self.serial)

    @property
    def saving_is_certain(self) -> bool:
        """Whether the saving's interval lies on one side of zero."""
        low, high = self.saving_interval
        return low > 0.0 or high < 0.0

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader must know: of the machine's figures, and of the strategy."""
        how = self.plan.how
        said = (f"{how.label}: {text}" for text in (how.caveat, how.assumes) if text)
        return (*self.scenario.cautions(), *said)

    @property
    def saving(self) -> float:
        """Share of the serial latency that the plan saves."""
        return 1.0 - self.latency_s / self.serial_latency_s

    @property
    def contention_s(self) -> float:
        """What the plan's compute steps lose to the syncs beside them."""
        return max(0.0, self.latency_s - self.exposed_comm_s - self.compute_s)


def predict(
    scenario: Scenario, plan: Plan = SERIAL, *, contention: bool = True, must_fit: bool = True
) -> Prediction:
    """Predict a plan's latency and where it goes.

    `contention=False` asks what an ideal machine would do, on which collectives take nothing
    from the compute beside them. `must_fit=False` asks what a pass would take that memory has no
    room for.

    Raises:
        InputError: the plan does not suit the scenario.
        DoesNotFitError: its memory exceeds the GPU's, and it must not.
    """
    check_plan(plan, scenario.model, scenario.workload)
    sms = scenario.hardware.gpu.sms
    if plan.comm_sms is not None and plan.comm_sms > sms:
        raise InputError(f"plan: comm_sms: the GPU has {sms} SMs, not {plan.comm_sms}")
    memory = GpuMemory(scenario)
    needed = memory.check(plan) if must_fit else memory.of(plan)
    serial = _baseline(scenario, contention)
    run = serial if plan == SERIAL else SimulatedRun.of(scenario, plan, contention)
    return _of_runs(scenario, plan, needed, run, serial)


def _of_runs(
    scenario: Scenario, plan: Plan, needed: Memory, run: SimulatedRun, serial: SimulatedRun
) -> Prediction:
    compute, comm = run.alone
    ops = run.op_seconds()
    return Prediction(
        scenario=scenario,
        plan=plan,
        latency_s=run.latency,
        serial_latency_s=serial.latency,
        compute_s=compute,
        comm_s=comm,
        exposed_comm_s=run.exposed,
        bound_s=max(min(compute, serial.alone[0]), comm),
        op_seconds=_by_name(ops),
        op_sections={op.name: scenario.section_of(op) for op in ops},
        memory=needed,
        run=run,
        serial=serial,
    )


def _baseline(scenario: Scenario, contention: bool) -> SimulatedRun:
    """The serial run, which every plan of a scenario is compared with."""
    key = "serial run", contention
    if key not in scenario.remembered:
        scenario.remembered[key] = SimulatedRun.of(scenario, SERIAL, contention)
    run: SimulatedRun = scenario.remembered[key]
    return run


def _by_name(seconds: Mapping[Op, float]) -> dict[str, float]:
    total: dict[str, float] = {}
    for op, value in seconds.items():
        total[op.name] = total.get(op.name, 0.0) + value
    return total
