"""The front door: what a plan takes on a scenario, beside the serial baseline."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from simulator.costs import Pricer, Rows, StepCost
from simulator.errors import InputError
from simulator.memory import Memory, check_memory
from simulator.plan import Plan, check_plan
from simulator.program import Op, Program, Step, expand
from simulator.scenario import Scenario
from simulator.timeline import Timeline, simulate

SERIAL = Plan()


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a plan takes; all times in seconds.

    `compute_s` and `comm_s` are the plan's steps with the GPU to themselves, C and M.
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
    overlapped_s: float
    bound_s: float
    op_seconds: Mapping[Op, float]
    memory: Memory
    program: Program
    timeline: Timeline

    @property
    def saving(self) -> float:
        """Share of the serial latency that the plan saves."""
        return 1.0 - self.latency_s / self.serial_latency_s

    @property
    def contention_s(self) -> float:
        """What the plan's compute steps lose to the syncs beside them."""
        return max(0.0, self.latency_s - self.exposed_comm_s - self.compute_s)


class ProgramCosts:
    """Prices of one program's steps, each role priced once; see `timeline.StepCosts`."""

    def __init__(self, program: Program, pricer: Pricer, contention: bool = True) -> None:
        self._role_of, players = program.roles()
        self.prices = [pricer.step(*_shape(program.steps[player])) for player in players]
        self._seconds = [float(price.seconds) for price in self.prices]
        self._slowdowns: dict[tuple[int, int], tuple[float, float]] = {}
        self._pricer = pricer
        self._contention = contention
        runtime = pricer.scenario.hardware.runtime
        self.event_wait = runtime.event_wait if contention else 0.0

    def price(self, step: int) -> StepCost:
        """The full price of a step."""
        return self.prices[self._role_of[step]]

    def seconds(self, step: int) -> float:
        """Time of a step with the GPU to itself."""
        return self._seconds[self._role_of[step]]

    def slowdowns(self, compute: int, sync: int) -> tuple[float, float]:
        """How many times longer a compute step and a sync take while both are in flight."""
        if not self._contention:
            return 1.0, 1.0
        pair = self._role_of[compute], self._role_of[sync]
        if pair not in self._slowdowns:
            slower = self._pricer.slowdowns(self.prices[pair[0]], self.prices[pair[1]])
            self._slowdowns[pair] = float(slower[0]), float(slower[1])
        return self._slowdowns[pair]


def _shape(step: Step) -> tuple[tuple[Op, ...], Rows]:
    chunk = step.chunk
    return step.ops, Rows(step.rows, chunk.requests, chunk.tokens, chunk.start)


@dataclass(frozen=True, eq=False)
class _Run:
    """A program with its prices and its timeline."""

    program: Program
    costs: ProgramCosts
    timeline: Timeline

    def alone(self, syncs: bool) -> float:
        """Seconds of all syncs, or of all compute steps, with the GPU to themselves."""
        steps = enumerate(self.program.steps)
        return sum(self.costs.seconds(index) for index, step in steps if step.is_sync is syncs)

    @cached_property
    def computing(self) -> float:
        times = zip(self.program.steps, self.timeline.starts, self.timeline.ends, strict=True)
        return sum(end - start for step, start, end in times if not step.is_sync)

    def op_seconds(self) -> dict[Op, float]:
        total: dict[Op, float] = {}
        for index in range(len(self.program.steps)):
            for op, cost in self.costs.price(index).parts:
                total[op] = total.get(op, 0.0) + float(cost.seconds)
        return total


def predict(scenario: Scenario, plan: Plan = SERIAL, *, contention: bool = True) -> Prediction:
    """Predict a plan's latency and where it goes.

    `contention=False` asks what an ideal machine would do, on which collectives take nothing
    from the compute beside them.

    Raises:
        InputError: the plan does not suit the scenario.
        DoesNotFitError: its memory exceeds the GPU's.
    """
    check_plan(plan, scenario.model, scenario.workload)
    sms = scenario.hardware.gpu.sms
    if plan.comm_sms is not None and plan.comm_sms > sms:
        raise InputError(f"plan: comm_sms: the GPU has {sms} SMs, not {plan.comm_sms}")
    needed = check_memory(scenario, plan)
    run = _run(scenario, plan, contention)
    serial = run if plan == SERIAL else _run(scenario, SERIAL, contention)
    compute, comm = run.alone(syncs=False), run.alone(syncs=True)
    return Prediction(
        scenario=scenario,
        plan=plan,
        latency_s=run.timeline.latency,
        serial_latency_s=serial.timeline.latency,
        compute_s=compute,
        comm_s=comm,
        exposed_comm_s=run.timeline.latency - run.computing,
        overlapped_s=run.timeline.overlapped,
        bound_s=max(min(compute, serial.alone(syncs=False)), comm),
        op_seconds=run.op_seconds(),
        memory=needed,
        program=run.program,
        timeline=run.timeline,
    )


def _run(scenario: Scenario, plan: Plan, contention: bool) -> _Run:
    program = expand(scenario.model, scenario.workload, plan)
    costs = ProgramCosts(program, Pricer(scenario, plan.comm_dtype, plan.comm_sms), contention)
    return _Run(program, costs, simulate(program, costs))
