"""One pass of a plan: how long it takes, where the time goes, and what if some kernels were slower.

Steps that differ only in their block cost the same: each such *role* is costed once. Where blocks
come in a few kinds the automaton runs them; any other program runs on the reference timeline, step
by step. Both give the same times (to 1e-9), and the timeline is there whenever it is asked for.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Protocol, Self

import numpy as np

from isotune.simulator.architecture import Collective, Op
from isotune.simulator.automaton import (
    END,
    HEAD,
    Array,
    Automaton,
    DropSets,
    Structure,
    cheapest,
    idle_seconds,
    part_of,
    structure,
)
from isotune.simulator.machine import CLASSES
from isotune.simulator.predict.scenario import Scenario
from isotune.simulator.predict.step_cost import CostModel, Message
from isotune.simulator.predict.step_shape import StepCost, rows_of
from isotune.simulator.predict.uncertainty import Factors, classes_of
from isotune.simulator.schedule import (
    COMPUTE,
    Plan,
    Program,
    Step,
    StepCosts,
    Timeline,
    expand,
    simulate,
)

AS_PREDICTED = Factors(classes={})


class RoleCosts:
    """What each role costs, as predicted or if operation classes took other factors of time."""

    def __init__(
        self, steps: Mapping[int, Step], cost_model: CostModel, contention: bool = True
    ) -> None:
        """Cost a step of each role, by the role's number."""
        self.steps = steps
        self.step_costs = {
            role: cost_model.step(step.ops, rows_of(step)) for role, step in steps.items()
        }
        self._cost_model, self._contention = cost_model, contention
        self._slowdowns: dict[tuple[int, int], tuple[float, float]] = {}
        self.event_wait = cost_model.scenario.hardware.runtime.event_wait if contention else 0.0

    @cached_property
    def op_seconds(self) -> dict[int, dict[Op, float]]:
        """Seconds of each op of each role."""
        by_role: dict[int, dict[Op, float]] = {}
        for role, cost in self.step_costs.items():
            seconds = by_role.setdefault(role, {})
            for op, kernel in cost.parts:
                seconds[op] = seconds.get(op, 0.0) + float(kernel.seconds)
        return by_role

    def seconds(self, factors: Factors = AS_PREDICTED) -> dict[int, float]:
        """Seconds of each role with the GPU to itself."""
        if factors is AS_PREDICTED:
            return {role: float(cost.seconds) for role, cost in self.step_costs.items()}
        factor = {names: factors.of_classes(names) for names in set().union(*self._class_seconds)}
        return {
            role: sum(factor[names] * value for names, value in seconds.items())
            for role, seconds in zip(self.steps, self._class_seconds, strict=True)
        }

    @cached_property
    def _class_seconds(self) -> list[dict[frozenset[str], float]]:
        """Seconds of each role's ops that depend on the same operation classes."""
        by_role: list[dict[frozenset[str], float]] = []
        for ops in self.op_seconds.values():
            seconds: dict[frozenset[str], float] = {}
            for op, value in ops.items():
                names = classes_of(op)
                seconds[names] = seconds.get(names, 0.0) + value
            by_role.append(seconds)
        return by_role

    def slowdowns(
        self, compute: int, sync: int, factors: Factors = AS_PREDICTED
    ) -> tuple[float, float]:
        """How many times longer two roles take while steps of both are in flight."""
        if not self._contention:
            return 1.0, 1.0
        pair = compute, sync
        if pair not in self._slowdowns:
            slower = self._cost_model.slowdowns(self.step_costs[compute], self.step_costs[sync])
            self._slowdowns[pair] = float(slower[0]), float(slower[1])
        first, second = self._slowdowns[pair]
        excess = factors.contention - 1.0
        return first + excess * (first - 1.0), second + excess * (second - 1.0)


class ProgramCosts:
    """Costs of a program's steps; see `timeline.StepCosts`."""

    def __init__(self, program: Program, cost_model: CostModel, contention: bool = True) -> None:
        self.role_of, representatives = program.roles()
        steps = {role: program.steps[index] for role, index in enumerate(representatives)}
        self.by_role = RoleCosts(steps, cost_model, contention)
        self._under = _StepCosts(self.role_of, self.by_role, AS_PREDICTED)
        self.event_wait = self.by_role.event_wait

    def step_cost(self, step: int) -> StepCost:
        """The full cost of a step."""
        return self.by_role.step_costs[self.role_of[step]]

    def seconds(self, step: int) -> float:
        """Time of a step with the GPU to itself."""
        return self._under.seconds(step)

    def slowdowns(self, compute: int, sync: int) -> tuple[float, float]:
        """How many times longer a compute step and a sync take while both are in flight."""
        return self._under.slowdowns(compute, sync)

    def under(self, factors: Factors) -> StepCosts:
        """The costs if operation classes took so many times as long."""
        return _StepCosts(self.role_of, self.by_role, factors)


class _StepCosts:
    """Costs of a program's steps under some factors; see `timeline.StepCosts`."""

    def __init__(self, role_of: Sequence[int], costs: RoleCosts, factors: Factors) -> None:
        self._role_of, self._costs, self._factors = role_of, costs, factors
        self._seconds = costs.seconds(factors)
        self.event_wait = costs.event_wait

    def seconds(self, step: int) -> float:
        return self._seconds[self._role_of[step]]

    def slowdowns(self, compute: int, sync: int) -> tuple[float, float]:
        return self._costs.slowdowns(self._role_of[compute], self._role_of[sync], self._factors)


class _Pass(Protocol):
    """How a pass is run: what its roles cost, how often each occurs, and what all steps take."""

    costs: RoleCosts

    @property
    def counts(self) -> Mapping[int, int]:
        """How often each role occurs."""

    def latencies(self, factors: Sequence[Factors]) -> tuple[float, ...]:
        """Seconds of the pass under each of the factors."""

    def exposed(self) -> float:
        """Seconds in which no compute step runs."""


class _RepeatingBlocks:
    """A pass of blocks of a few kinds, on the automaton."""

    def __init__(
        self, repeating: Structure, plan: Plan, cost_model: CostModel, contention: bool
    ) -> None:
        work = cost_model.scenario.workload.share
        self._structure, self._dropped = repeating, plan.dropped
        parts = Counter(self._parts)
        times = repeating.times
        occurring = sum(times[part] * count for part, count in parts.items()).tolist()
        steps = self._structure.steps(work, plan.chunks)
        self.counts: Mapping[int, int] = {
            role: occurring[role] for role in steps if occurring[role]
        }
        self.costs = RoleCosts({role: steps[role] for role in self.counts}, cost_model, contention)

    @cached_property
    def _parts(self) -> list[int]:
        """The parts of the program in the order in which they run."""
        dropped, pattern = frozenset(self._dropped), self._structure.layout.pattern.tolist()
        blocks = [part_of(kind, block in dropped) for block, kind in enumerate(pattern)]
        return [HEAD, *blocks, END]

    def latencies(self, factors: Sequence[Factors]) -> tuple[float, ...]:
        drops = DropSets.repeated(self._dropped, len(self._structure.layout.pattern))
        rows, latency = np.arange(len(factors)), np.empty(len(factors))
        layout = self._structure.layout
        cheapest().walk(
            layout,
            *self._table(factors),
            self.costs.event_wait,
            rows,
            drops.masks,
            drops.periods,
            rows,
            Automaton.empty(layout),
            latency,
        )
        return tuple(latency.tolist())

    def exposed(self) -> float:
        seconds, slowdowns = self._table([AS_PREDICTED])
        wait = self.costs.event_wait
        idle = idle_seconds(self._structure.layout, self._parts, seconds[0], slowdowns[0], wait)
        in_line = (
            count * seconds[0, role]
            for role, count in self.counts.items()
            if self.costs.steps[role].is_sync and self.costs.steps[role].lane == COMPUTE
        )
        return idle + float(sum(in_line))

    def _table(self, factors: Sequence[Factors]) -> tuple[Array, Array]:
        """Seconds [factors, roles] and slowdowns [factors, 2 * pairs]; NaN what does not occur."""
        pairs = self._structure.pairs
        seconds = np.full((len(factors), len(self._structure.roles)), np.nan)
        for row, some in enumerate(factors):
            for role, value in self.costs.seconds(some).items():
                seconds[row, role] = value
        slower = np.full((len(pairs), 2), np.nan)
        for at, (compute, sync) in enumerate(pairs):
            if compute in self.counts and sync in self.counts:
                slower[at] = self.costs.slowdowns(compute, sync)
        excess = np.array([[some.contention - 1.0] for some in factors])
        return seconds, slower.ravel() + excess * (slower.ravel() - 1.0)


class _AnyProgram:
    """A pass on the reference timeline."""

    def __init__(self, program: Program, costs: ProgramCosts, timeline: Timeline) -> None:
        self._program, self._timeline, self._costs = program, timeline, costs
        self.costs = costs.by_role
        self.counts: Mapping[int, int] = Counter(costs.role_of)

    def latencies(self, factors: Sequence[Factors]) -> tuple[float, ...]:
        return tuple(
            self._timeline.latency
            if some is AS_PREDICTED
            else simulate(self._program, self._costs.under(some)).latency
            for some in factors
        )

    def exposed(self) -> float:
        return self._timeline.latency - sum(
            end - start
            for step, start, end in zip(
                self._program.steps, self._timeline.starts, self._timeline.ends, strict=True
            )
            if not step.is_sync
        )


class SimulatedRun:
    """One pass of a plan, in seconds."""

    def __init__(self, plan: Plan, cost_model: CostModel, contention: bool = True) -> None:
        """A pass of a plan that suits the cost model's scenario.

        `contention=False` asks what it would take if collectives took nothing from compute.
        """
        self.plan = plan
        self._cost_model, self._contention = cost_model, contention

    @classmethod
    def of(cls, scenario: Scenario, plan: Plan, contention: bool = True) -> Self:
        """A pass at the costs that the scenario's machine has."""
        return cls(plan, CostModel.of(scenario, plan), contention)

    @property
    def scenario(self) -> Scenario:
        """Model, hardware and workload."""
        return self._cost_model.scenario

    @cached_property
    def program(self) -> Program:
        """Every step."""
        return expand(self.scenario.model, self.scenario.workload, self.plan)

    @cached_property
    def costs(self) -> ProgramCosts:
        """Costs of the program's steps."""
        return ProgramCosts(self.program, self._cost_model, self._contention)

    @cached_property
    def timeline(self) -> Timeline:
        """When each step of the program runs, by the reference."""
        return simulate(self.program, self.costs)

    @cached_property
    def _pass(self) -> _Pass:
        ranks, chunks = self.scenario.workload.parallelism, len(self.plan.chunks)
        repeating = structure(self.scenario.model, ranks, self.plan.strategy, chunks)
        if repeating is not None:
            return _RepeatingBlocks(repeating, self.plan, self._cost_model, self._contention)
        return _AnyProgram(self.program, self.costs, self.timeline)

    @cached_property
    def _latencies(self) -> tuple[float, ...]:
        """As predicted, and with each operation class slower by one standard error."""
        errors = self.scenario.class_errors()
        shifts = (Factors(classes={name: 1.0 + errors[name]}) for name in CLASSES)
        return self._pass.latencies([AS_PREDICTED, *shifts])

    @property
    def latency(self) -> float:
        """Seconds as predicted."""
        return self._latencies[0]

    @property
    def shifted(self) -> tuple[float, ...]:
        """Seconds with each of `CLASSES` slower by one standard error."""
        return self._latencies[1:]

    def under(self, factors: Factors) -> float:
        """Seconds if ops and contention took so many times as long."""
        return self._pass.latencies([factors])[0]

    @cached_property
    def alone(self) -> tuple[float, float]:
        """Seconds of all compute steps and of all syncs, with the GPU to themselves."""
        totals = [0.0, 0.0]
        seconds = self._pass.costs.seconds()
        for role, count in self._pass.counts.items():
            totals[self._pass.costs.steps[role].is_sync] += count * seconds[role]
        return totals[0], totals[1]

    @cached_property
    def exposed(self) -> float:
        """Seconds in which no compute step runs."""
        return self._pass.exposed()

    @cached_property
    def all_reduces(self) -> tuple[Message, ...]:
        """Its all-reduces by operation and size, in the order in which they first run."""
        found: dict[tuple[Op, int], Message] = {}
        for role, count in self._pass.counts.items():
            step = self._pass.costs.steps[role]
            op = step.ops[0]
            if not isinstance(op, Collective) or op.kind != "all_reduce":
                continue
            rows = int(np.asarray(step.rows))
            if self._cost_model.among(op)[0] == 1 or rows == 0:
                continue
            seconds = float(self._pass.costs.step_costs[role].seconds)
            known = found.get((op, rows))
            found[op, rows] = (
                self._cost_model.message(op, rows, seconds, count)
                if known is None
                else replace(known, count=known.count + count)
            )
        return tuple(found.values())

    def op_seconds(self) -> dict[Op, float]:
        """Seconds of each op, all steps together, in the order in which they first run."""
        total: dict[Op, float] = {}
        for role, count in self._pass.counts.items():
            for op, seconds in self._pass.costs.op_seconds[role].items():
                total[op] = total.get(op, 0.0) + count * seconds
        return total
