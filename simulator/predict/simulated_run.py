"""A program with its costs and its timeline, and the same with one operation class slower."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from isotune.simulator.architecture import Op
from isotune.simulator.automaton import Automaton, DropSets, cheapest, handles, structure
from isotune.simulator.machine import CLASSES
from isotune.simulator.predict.scenario import Scenario
from isotune.simulator.predict.step_cost import CostModel, StepCost, rows_of
from isotune.simulator.predict.uncertainty import Factors
from isotune.simulator.schedule import Plan, Program, Timeline, expand, simulate


class ProgramCosts:
    """Costs of one program's steps, each role once; see `timeline.StepCosts`."""

    def __init__(self, program: Program, cost_model: CostModel, contention: bool = True) -> None:
        self._role_of, players = program.roles()
        self.roles = {program.steps[player].role: role for role, player in enumerate(players)}
        self.step_costs = [
            cost_model.step(step.ops, rows_of(step))
            for step in map(program.steps.__getitem__, players)
        ]
        self._seconds = [float(cost.seconds) for cost in self.step_costs]
        self._slowdowns: dict[tuple[int, int], tuple[float, float]] = {}
        self._cost_model = cost_model
        self._contention = contention
        runtime = cost_model.scenario.hardware.runtime
        self.event_wait = runtime.event_wait if contention else 0.0

    @property
    def scenario(self) -> Scenario:
        """What the costs are for."""
        return self._cost_model.scenario

    def role_of(self, step: int) -> int:
        """The role a step plays (see `Program.roles`)."""
        return self._role_of[step]

    def step_cost(self, step: int) -> StepCost:
        """The full cost of a step."""
        return self.step_costs[self._role_of[step]]

    @cached_property
    def op_seconds(self) -> list[dict[Op, float]]:
        """Time of each op of each role."""
        found: list[dict[Op, float]] = []
        for cost in self.step_costs:
            seconds: dict[Op, float] = {}
            for op, part in cost.parts:
                seconds[op] = seconds.get(op, 0.0) + float(part.seconds)
            found.append(seconds)
        return found

    def seconds(self, step: int) -> float:
        """Time of a step with the GPU to itself."""
        return self._seconds[self._role_of[step]]

    def slowdowns(self, compute: int, sync: int) -> tuple[float, float]:
        """How many times longer a compute step and a sync take while both are in flight."""
        return self.pair_slowdowns(self._role_of[compute], self._role_of[sync])

    def pair_slowdowns(self, compute: int, sync: int) -> tuple[float, float]:
        """The same of two roles."""
        if not self._contention:
            return 1.0, 1.0
        pair = compute, sync
        if pair not in self._slowdowns:
            slower = self._cost_model.slowdowns(self.step_costs[pair[0]], self.step_costs[pair[1]])
            self._slowdowns[pair] = float(slower[0]), float(slower[1])
        return self._slowdowns[pair]


class _Shifted:
    """Costs of a program whose ops take other factors of time; see `timeline.StepCosts`."""

    def __init__(self, costs: ProgramCosts, factors: Factors) -> None:
        self._costs = costs
        self._excess = factors.contention - 1.0
        self.by_role = [
            sum(factors.of(op) * value for op, value in ops.items()) for ops in costs.op_seconds
        ]
        self.event_wait = costs.event_wait

    def seconds(self, step: int) -> float:
        return self.by_role[self._costs.role_of(step)]

    def slowdowns(self, compute: int, sync: int) -> tuple[float, float]:
        return self.grown(*self._costs.slowdowns(compute, sync))

    def grown(self, first: float, second: float) -> tuple[float, float]:
        """Two slowdowns with contention as strong as it is here."""
        return first + self._excess * (first - 1.0), second + self._excess * (second - 1.0)


def _fast(costs: ProgramCosts, plan: Plan, shifted: Sequence[_Shifted]) -> tuple[float, ...]:
    """Seconds of a plan under each of some costs, as `simulate` has them.

    Equal to 1e-9: the automaton adds up blocks, the timeline steps.
    """
    work = costs.scenario.workload
    repeating = structure(costs.scenario.model, work.tp, plan.strategy, len(plan.chunks))
    blocks = costs.scenario.model.num_hidden_layers
    drops = DropSets.repeated(plan.dropped, blocks)
    seconds = np.full((len(shifted), len(repeating.roles)), np.nan)
    slowdowns = np.full((len(shifted), 2 * len(repeating.pairs)), np.nan)
    known = [
        (index, costs.roles[role])
        for index, role in enumerate(repeating.roles)
        if role in costs.roles
    ]
    place = dict(known)
    for row, one in enumerate(shifted):
        for index, role in known:
            seconds[row, index] = one.by_role[role]
        for column, (compute, sync) in enumerate(repeating.pairs):
            if compute in place and sync in place:
                pair = costs.pair_slowdowns(place[compute], place[sync])
                slowdowns[row, 2 * column : 2 * column + 2] = one.grown(*pair)
    rows, latency = np.arange(len(shifted)), np.empty(len(shifted))
    cheapest().walk(
        repeating.layout,
        blocks,
        seconds,
        slowdowns,
        costs.event_wait,
        rows,
        drops.masks,
        drops.periods,
        rows,
        Automaton.empty(repeating.layout.tail),
        latency,
    )
    return tuple(latency.tolist())


@dataclass(frozen=True, eq=False)
class SimulatedRun:
    """A program with its costs and its timeline; `plan` is what it was expanded from."""

    program: Program
    costs: ProgramCosts
    timeline: Timeline
    plan: Plan | None = None

    @classmethod
    def of(cls, scenario: Scenario, plan: Plan, contention: bool = True) -> Self:
        """Expand a plan, work out its costs, and run it on the reference timeline."""
        program = expand(scenario.model, scenario.workload, plan)
        costs = ProgramCosts(
            program, CostModel(scenario, plan.comm_dtype, plan.comm_sms), contention
        )
        return cls(program, costs, simulate(program, costs), plan)

    def under(self, factors: Factors) -> float:
        """Seconds if ops and contention took so many times as long."""
        return simulate(self.program, _Shifted(self.costs, factors)).latency

    @property
    def latency(self) -> float:
        """Seconds as predicted."""
        return self.timeline.latency

    @cached_property
    def shifted(self) -> tuple[float, ...]:
        """Seconds with each operation class slower by one standard error."""
        errors = self.costs.scenario.class_errors()
        factors = [Factors(classes={name: 1.0 + errors[name]}) for name in CLASSES]
        if self.plan is None or not handles(self.plan.how):
            return tuple(map(self.under, factors))
        return _fast(self.costs, self.plan, [_Shifted(self.costs, one) for one in factors])

    @cached_property
    def alone(self) -> tuple[float, float]:
        """Seconds of all compute steps and of all syncs, with the GPU to themselves."""
        seconds: tuple[list[float], list[float]] = ([], [])
        for index, step in enumerate(self.program.steps):
            seconds[step.is_sync].append(self.costs.seconds(index))
        return sum(seconds[False]), sum(seconds[True])

    @cached_property
    def computing(self) -> float:
        """Seconds during which a compute step runs."""
        times = zip(self.program.steps, self.timeline.starts, self.timeline.ends, strict=True)
        return sum(end - start for step, start, end in times if not step.is_sync)

    def op_seconds(self) -> dict[Op, float]:
        """Seconds of each op, all steps together."""
        place: dict[Op, int] = {}
        by_role = [
            [(place.setdefault(op, len(place)), value) for op, value in seconds.items()]
            for seconds in self.costs.op_seconds
        ]
        total = [0.0] * len(place)
        for index in range(len(self.program.steps)):
            for at, seconds in by_role[self.costs.role_of(index)]:
                total[at] += seconds
        return {op: total[at] for op, at in place.items()}
