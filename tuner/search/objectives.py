"""What a plan is judged by, and what it must keep to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import PositiveInt

from isotune.simulator.batch import Timer
from isotune.simulator.errors import DoesNotFitError, InputError
from isotune.simulator.number_types import number_type
from isotune.simulator.predict import GpuMemory, Scenario
from isotune.simulator.schedule import Plan
from isotune.tuner.accuracy import DropCosts
from isotune.tuner.choices import OBJECTIVES, ObjectiveName

Objective = Callable[[Plan], float]
"""Seconds of a plan, predicted or measured; what it raises fails the trial, not the search."""


class Deployment(Plan):
    """A plan, and the tensor-parallel size and batch it is made for."""

    tp: PositiveInt
    batch: PositiveInt

    @property
    def alone(self) -> Plan:
        """The plan by itself."""
        return Plan.model_validate(self.model_dump(exclude={"tp", "batch"}))


class Outcome(NamedTuple):
    """A trial's seconds, or why there are none; `failed` tells an error from a misfit."""

    seconds: float | None
    why: str = ""
    failed: bool = False


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Objectives of plans, all minimised, and constraints, met where at most zero.

    Throughput is tokens per second and GPU, and stands there as its inverse: the GPU-seconds that
    a token takes.
    """

    scenario: Scenario
    objectives: tuple[ObjectiveName, ...] = ("latency",)
    drop_costs: DropCosts | None = None
    accuracy_budget: float | None = None
    latency_limit: float | None = None

    def values(self, plan: Plan, seconds: float) -> list[float]:
        """The objectives of a plan that takes `seconds`."""
        table = {
            "latency": seconds,
            "throughput": self.gpu_seconds_per_token(plan, seconds),
            "accuracy_cost": self.accuracy_cost(plan),
            "transfer_loss": number_type(plan.comm_dtype).transfer or 0.0,
        }
        return [table[name] for name in self.objectives]

    def gpu_seconds_per_token(self, plan: Plan, seconds: float) -> float:
        """Seconds of all GPUs together for each token that the pass takes in."""
        work = self.scenario.workload
        tp, batch = work.tp, work.batch
        if isinstance(plan, Deployment):
            tp, batch = plan.tp, plan.batch
        return seconds * tp / (batch * work.tokens)

    def over(self, plan: Plan, seconds: float) -> list[float]:
        """By how much each limit is exceeded."""
        over = []
        if self.accuracy_budget is not None and self.drop_costs is not None:
            over.append(self.accuracy_cost(plan) - self.accuracy_budget)
        if self.latency_limit is not None:
            over.append(seconds - self.latency_limit)
        return over

    def accuracy_cost(self, plan: Plan) -> float:
        """Predicted relative growth of perplexity, drop set and transfer together."""
        return 0.0 if self.drop_costs is None else self.drop_costs.of(plan)


def check_objectives(names: Sequence[str], drop_costs: DropCosts | None) -> None:
    """Refuse objectives that do not exist or cannot be known.

    Raises:
        InputError: which, and what is allowed.
    """
    for name in names:
        if name not in OBJECTIVES:
            raise InputError(f"objectives: unknown {name!r} (allowed: {', '.join(OBJECTIVES)})")
    if "accuracy_cost" in names and drop_costs is None:
        raise InputError("objectives: accuracy_cost needs --sensitivity")


Evaluate = Callable[[Sequence[Plan]], list["Outcome"]]
"""Outcomes of plans, in their order."""


class Evaluator:
    """Outcomes of plans: predicted together, or by an objective of one's own, one by one."""

    def __init__(self, scenario: Scenario, objective: Objective | None = None) -> None:
        self._scenario, self._objective = scenario, objective
        self._timer = Timer(scenario)
        self._known: dict[Plan, Outcome] = {}
        self._fits: dict[tuple[str, tuple[int, ...]], str] = {}

    def __call__(self, plans: Sequence[Plan]) -> list[Outcome]:
        """One outcome per plan; a plan that occurred before is not evaluated again."""
        new = [plan for plan in dict.fromkeys(plans) if plan not in self._known]
        misfits = {plan: why for plan in new if (why := self._misfit(plan))}
        self._known |= {plan: Outcome(None, why) for plan, why in misfits.items()}
        fitting = [plan for plan in new if plan not in misfits]
        if self._objective is None:
            times = self._timer.seconds(fitting).tolist()
            self._known |= {
                plan: Outcome(seconds) for plan, seconds in zip(fitting, times, strict=True)
            }
        else:
            self._known |= {plan: self._measured(plan, self._objective) for plan in fitting}
        return [self._known[plan] for plan in plans]

    def _measured(self, plan: Plan, objective: Objective) -> Outcome:
        try:
            return Outcome(float(objective(plan)))
        except Exception as error:
            return Outcome(None, f"{type(error).__name__}: {error}", failed=True)

    def _misfit(self, plan: Plan) -> str:
        """Why the plan does not fit in memory, which its chunks alone decide; else nothing."""
        shape = plan.strategy, plan.chunks
        if shape not in self._fits:
            try:
                GpuMemory(self._scenario).check(plan)
                self._fits[shape] = ""
            except DoesNotFitError as error:
                self._fits[shape] = str(error)
        return self._fits[shape]
