"""What a plan is judged by, and what it must keep to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import PositiveInt

from isotune.simulator.architecture import AXES, Parallelism
from isotune.simulator.batch import Timer
from isotune.simulator.errors import DoesNotFitError, InputError
from isotune.simulator.io import check_known
from isotune.simulator.number_types import number_type
from isotune.simulator.predict import GpuMemory, Scenario
from isotune.simulator.schedule import Plan
from isotune.tuner.accuracy import DropCosts
from isotune.tuner.choices import OBJECTIVES, ObjectiveName
from isotune.tuner.search.trial import Trial

_ROUNDING = 1e-12
"""What a limit may be exceeded by: costs that add up to it are sums of rounded numbers."""
Objective = Callable[[Plan], float]
"""Seconds of a plan, predicted or measured; what it raises fails the trial, not the search."""


class Deployment(Plan):
    """A plan, and the GPUs and the batch it is made for."""

    tp: PositiveInt
    ep: PositiveInt = 1
    cp: PositiveInt = 1
    dp: PositiveInt = 1
    batch: PositiveInt

    @property
    def ranks(self) -> Parallelism:
        """How the GPUs share model and batch."""
        return Parallelism(tp=self.tp, ep=self.ep, cp=self.cp, dp=self.dp)

    @property
    def alone(self) -> Plan:
        """The plan by itself."""
        return Plan.model_validate(self.model_dump(exclude={*AXES, "batch"}))


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
        gpus, batch = work.parallelism.gpus, work.batch
        if isinstance(plan, Deployment):
            gpus, batch = plan.ranks.gpus, plan.batch
        return seconds * gpus / (batch * work.tokens)

    def excess(self, plan: Plan, seconds: float) -> dict[str, float]:
        """By how much each limit is exceeded; at most zero where it is kept to."""
        excess = {}
        if self.accuracy_budget is not None and self.drop_costs is not None:
            excess["accuracy"] = self.accuracy_cost(plan) - self.accuracy_budget
        if self.latency_limit is not None:
            excess["latency"] = seconds - self.latency_limit
        return {name: min(0.0, by) if by <= _ROUNDING else by for name, by in excess.items()}

    def judged(self, trial: Trial, params: Mapping[str, Any] | None = None) -> Trial:
        """The trial with its parameters and, where it has a result, what that is worth."""
        trial = replace(trial, params=dict(params or {}))
        if trial.state != "COMPLETE":
            return trial
        return replace(
            trial,
            values=tuple(self.values(trial.plan, trial.seconds)),
            excess=self.excess(trial.plan, trial.seconds),
            accuracy_cost=None if self.drop_costs is None else self.accuracy_cost(trial.plan),
        )

    def accuracy_cost(self, plan: Plan) -> float:
        """Predicted relative growth of perplexity, drop set and transfer together."""
        return 0.0 if self.drop_costs is None else self.drop_costs.of(plan)


def check_objectives(names: Sequence[str], drop_costs: DropCosts | None) -> None:
    """Refuse objectives that do not exist or cannot be known.

    Raises:
        InputError: which, and what is allowed.
    """
    check_known("objectives", names, OBJECTIVES)
    if "accuracy_cost" in names and drop_costs is None:
        raise InputError("objectives: accuracy_cost needs --sensitivity")


Evaluate = Callable[[Sequence[Plan]], list[Trial]]
"""One trial of each plan, in their order."""


class Evaluator:
    """Tries plans: all together by prediction, or one by one by an objective of one's own."""

    def __init__(self, scenario: Scenario, objective: Objective | None = None) -> None:
        self._scenario, self._objective = scenario, objective
        self._timer = Timer(scenario)
        self._known: dict[Plan, Trial] = {}
        self._fits: dict[tuple[str, tuple[int, ...]], str] = {}

    def __call__(self, plans: Sequence[Plan]) -> list[Trial]:
        """One trial per plan; a plan that occurred before is not evaluated again."""
        new = [plan for plan in dict.fromkeys(plans) if plan not in self._known]
        self._known |= {plan: pruned for plan in new if (pruned := self._misfit(plan))}
        fitting = [plan for plan in new if plan not in self._known]
        if self._objective is None:
            times = self._timer.seconds(fitting).tolist()
            trials = [Trial(plan=plan, seconds=s) for plan, s in zip(fitting, times, strict=True)]
        else:
            trials = [self._measured(plan, self._objective) for plan in fitting]
        self._known |= {trial.plan: trial for trial in trials}
        return [self._known[plan] for plan in plans]

    def _measured(self, plan: Plan, objective: Objective) -> Trial:
        try:
            return Trial(plan=plan, seconds=float(objective(plan)))
        except Exception as error:
            return Trial(plan=plan, state="FAIL", why=f"{type(error).__name__}: {error}")

    def _misfit(self, plan: Plan) -> Trial | None:
        """The pruned trial of a plan that does not fit in memory, which its chunks alone decide."""
        shape = plan.strategy, plan.chunks
        if shape not in self._fits:
            try:
                GpuMemory(self._scenario).check(plan)
                self._fits[shape] = ""
            except DoesNotFitError as error:
                self._fits[shape] = str(error)
        why = self._fits[shape]
        return Trial(plan=plan, state="PRUNED", why=why) if why else None
