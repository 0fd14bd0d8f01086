"""The search where tensor-parallel size and batch are to be chosen too.

Fewer GPUs take longer and leave the others to other requests; a larger batch takes longer and
serves more of them. So deployments are judged by throughput per GPU beside latency: the front
shows what each millisecond buys, and a latency limit picks the cheapest that is fast enough.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import optuna

from isotune.simulator.errors import InputError
from isotune.simulator.predict import Prediction, Scenario, predict
from isotune.simulator.schedule import Plan
from isotune.tuner.search.best_plan import Options, exact_of, judge_of, space_of
from isotune.tuner.search.objectives import Deployment, Evaluator, Outcome
from isotune.tuner.search.study import Evaluated, Progress, Settings, Trials, run_study
from isotune.tuner.space import Space


@dataclass(frozen=True, kw_only=True)
class DeploymentSpace(Space):
    """Plans of several tensor-parallel sizes and batches; `scenario` gives the rest."""

    tps: tuple[int, ...]
    batches: tuple[int, ...]

    def at(self, tp: int, batch: int) -> Space:
        """The plans of one deployment, from the same parameters as all others."""
        return Space(
            scenario=self.scenario.with_workload(tp=tp, batch=batch),
            strategies=self.strategies,
            comm_dtypes=self.comm_dtypes,
            drop_order=self.drop_order,
            most_chunks=self.most_chunks,
        )

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
        here = cast(Deployment, plan)
        found = self.at(here.tp, here.batch).parameters(plan)
        return {"tp": here.tp, "batch": here.batch} | found

    def neighbours(self, plan: Plan) -> Iterator[Plan]:
        """The same plan on other GPUs, and other plans one step away."""
        here = cast(Deployment, plan)
        if here.tp > 1:
            others = (tp for tp in self.tps if tp not in (1, here.tp))
            yield from (plan.model_copy(update={"tp": tp}) for tp in others)
            yield from self.at(here.tp, here.batch).neighbours(plan)


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
    there = {
        (tp, batch): scenario.with_workload(tp=tp, batch=batch) for tp in tps for batch in batches
    }
    widest = space_of(there[max(tps), max(batches)], options)
    space = DeploymentSpace(
        scenario=widest.scenario,
        strategies=widest.strategies,
        comm_dtypes=widest.comm_dtypes,
        drop_order=widest.drop_order,
        most_chunks=widest.most_chunks,
        tps=tuple(tps),
        batches=tuple(batches),
    )
    trials = run_study(
        space,
        judge_of(scenario, options),
        _Evaluators({place: Evaluator(at) for place, at in there.items()}),
        Settings(trials=options.trials, seed=options.seed, sampler=options.sampler),
        _starts(there, options),
        progress,
    )
    chosen = _chosen(trials)
    best = predict(there[chosen.tp, chosen.batch], chosen.alone)
    return DeploymentResult(best=best, trials=trials, options=options)


class _Evaluators:
    """Each deployment's plan, evaluated where it belongs."""

    def __init__(self, evaluators: dict[tuple[int, int], Evaluator]) -> None:
        self._evaluators = evaluators

    def __call__(self, plans: Sequence[Plan]) -> list[Outcome]:
        places: dict[tuple[int, int], list[int]] = {}
        deployments = [cast(Deployment, plan) for plan in plans]
        for index, plan in enumerate(deployments):
            places.setdefault((plan.tp, plan.batch), []).append(index)
        found: dict[int, Outcome] = {}
        for place, members in places.items():
            outcomes = self._evaluators[place]([deployments[index].alone for index in members])
            found |= dict(zip(members, outcomes, strict=True))
        return [found[index] for index in range(len(plans))]


def _starts(there: dict[tuple[int, int], Scenario], options: Options) -> list[Plan]:
    """Serial, and the best split, of every deployment."""
    plans: list[Plan] = [deployed(Plan(), *place) for place in there]
    for place, scenario in there.items():
        exact = exact_of(space_of(scenario, options), options) if scenario.workload.tp > 1 else None
        if exact is not None:
            plans.append(deployed(exact.plan, *place))
    return plans


def _chosen(trials: Trials) -> Deployment:
    if not trials.front:
        reason = next(iter(trials.why), "none is fast enough")
        raise InputError(f"no deployment within the limits: {reason}")
    return cast(Deployment, trials.front[0].plan)


def front_rows(result: DeploymentResult) -> list[dict[str, Any]]:
    """The front as plain data: latency in seconds, throughput in tokens per second and GPU."""
    work = result.best.scenario.workload

    def row(item: Evaluated) -> dict[str, Any]:
        plan = cast(Deployment, item.plan)
        return {
            "tp": plan.tp,
            "batch": plan.batch,
            "latency_s": item.seconds,
            "tokens_per_s_per_gpu": plan.batch * work.tokens / (item.seconds * plan.tp),
            "plan": plan.alone.model_dump(mode="json"),
        }

    return [row(item) for item in result.trials.front]
