"""The search where tensor-parallel size and batch are to be chosen too.

Fewer GPUs take longer and leave the others to other requests; a larger batch takes longer and
serves more of them. So deployments are judged by throughput per GPU beside latency: the front
shows what each millisecond buys, and a latency limit picks the cheapest that is fast enough.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import optuna

from isotune.simulator.errors import InputError
from isotune.simulator.predict import Prediction, Scenario, predict
from isotune.simulator.schedule import Plan
from isotune.tuner.search.best_plan import Options, exact_of, judge_of, space_of
from isotune.tuner.search.objectives import Deployment, Evaluate, Evaluator
from isotune.tuner.search.study import Progress, Settings, Trials, run_study
from isotune.tuner.search.trial import Trial
from isotune.tuner.space import Space

Scenarios = dict[tuple[int, int], Scenario]
"""The scenario of each tensor-parallel size and batch."""


@dataclass(frozen=True, kw_only=True)
class DeploymentSpace(Space):
    """Plans of several tensor-parallel sizes and batches; `scenario` gives the rest."""

    tps: tuple[int, ...]
    batches: tuple[int, ...]

    def at(self, tp: int, batch: int) -> Space:
        """The plans of one deployment, from the same parameters as all others."""
        own = {field.name: getattr(self, field.name) for field in fields(Space)}
        return Space(**own | {"scenario": self.scenario.with_workload(tp=tp, batch=batch)})

    def plan(self, trial: optuna.trial.BaseTrial) -> Deployment:
        """The deployment a trial's parameters stand for."""
        tp = trial.suggest_categorical("tp", self.tps)
        batch = trial.suggest_categorical("batch", self.batches)
        plan = self.at(tp, batch).plan(trial)
        if tp == 1:  # nothing to overlap, drop or send
            plan = Plan()
        return deployed(plan, tp, batch)

    def parameters(self, plan: Plan) -> dict[str, object]:
        """The trial parameters that stand for a deployment."""
        deployment = cast(Deployment, plan)
        tp, batch = deployment.tp, deployment.batch
        return {"tp": tp, "batch": batch} | self.at(tp, batch).parameters(plan)

    def neighbours(self, plan: Plan) -> Iterator[Plan]:
        """The same plan on other GPUs, and other plans one step away."""
        deployment = cast(Deployment, plan)
        if deployment.tp > 1:
            others = (tp for tp in self.tps if tp not in (1, deployment.tp))
            yield from (plan.model_copy(update={"tp": tp}) for tp in others)
            yield from self.at(deployment.tp, deployment.batch).neighbours(plan)


@dataclass(frozen=True, kw_only=True)
class DeploymentResult:
    """The chosen deployment's prediction, and what the study did; its front is the answer."""

    best: Prediction
    trials: Trials
    options: Options


def deployed(plan: Plan, tp: int, batch: int) -> Deployment:
    """A plan for this many GPUs and requests."""
    return Deployment.model_validate(plan.model_dump() | {"tp": tp, "batch": batch})


def search_deployments(
    scenario: Scenario,
    tps: Sequence[int],
    batches: Sequence[int],
    options: Options,
    progress: Progress | None = None,
) -> DeploymentResult:
    """Search plans, `tps` and `batches` together; the best in the first objective is chosen.

    Raises:
        InputError: a `tp` that is impossible, an objective of one's own (it would not know which
            deployment it is asked about), or no plan that fits and keeps to the limits.
    """
    if options.objective is not None:
        raise InputError("several --tp or --batch are compared by prediction, not by real runs")
    options.check()
    scenarios = {
        (tp, batch): scenario.with_workload(tp=tp, batch=batch) for tp in tps for batch in batches
    }
    widest = space_of(scenarios[max(tps), max(batches)], options)
    space = DeploymentSpace(**vars(widest), tps=tuple(tps), batches=tuple(batches))
    trials = run_study(
        space,
        judge_of(scenario, options),
        _evaluate_each(scenarios),
        Settings(trials=options.trials, seed=options.seed, sampler=options.sampler),
        _starts(scenarios, options),
        progress,
    )
    chosen = _chosen(trials)
    best = predict(scenarios[chosen.tp, chosen.batch], chosen.alone)
    return DeploymentResult(best=best, trials=trials, options=options)


def _evaluate_each(scenarios: Scenarios) -> Evaluate:
    """Tries each deployment's plan in its own scenario, those of one scenario together."""
    evaluators = {size: Evaluator(scenario) for size, scenario in scenarios.items()}

    def evaluate(plans: Sequence[Plan]) -> list[Trial]:
        deployments = [cast(Deployment, plan) for plan in plans]
        trials: dict[Plan, Trial] = {}
        for (tp, batch), evaluator in evaluators.items():
            members = [plan for plan in deployments if (plan.tp, plan.batch) == (tp, batch)]
            for plan, trial in zip(members, evaluator([m.alone for m in members]), strict=True):
                trials[plan] = replace(trial, plan=plan)
        return [trials[plan] for plan in plans]

    return evaluate


def _starts(scenarios: Scenarios, options: Options) -> list[Plan]:
    """Serial, and the best split, of every deployment."""
    plans: list[Plan] = [deployed(Plan(), *size) for size in scenarios]
    for size, scenario in scenarios.items():
        exact = exact_of(space_of(scenario, options), options) if scenario.workload.tp > 1 else None
        if exact is not None:
            plans.append(deployed(exact.plan, *size))
    return plans


def _chosen(trials: Trials) -> Deployment:
    if not trials.front:
        reason = next(iter(trials.why), "none is fast enough")
        raise InputError(f"no deployment within the limits: {reason}")
    return cast(Deployment, trials.front[0].plan)


def front_rows(result: DeploymentResult) -> list[dict[str, Any]]:
    """The front as plain data: latency in seconds, throughput in tokens per second and GPU."""
    work = result.best.scenario.workload

    def row(trial: Trial) -> dict[str, Any]:
        plan = cast(Deployment, trial.plan)
        gpus = plan.tp * work.cp * work.dp
        return {
            "tp": plan.tp,
            "batch": plan.batch,
            "latency_s": trial.seconds,
            "tokens_per_s_per_gpu": plan.batch * work.tokens / (trial.seconds * gpus),
            "plan": plan.alone.model_dump(mode="json"),
        }

    return [row(trial) for trial in result.trials.front]
