"""The search where the layout of the GPUs and the batch are to be chosen too.

Fewer GPUs take longer and leave the others to other requests; a larger batch takes longer and
serves more of them. So deployments are judged by throughput per GPU beside latency: the front
shows what each millisecond buys, and a latency limit picks the cheapest that is fast enough.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import product
from typing import Any, cast

import optuna

from isotune.simulator.architecture import Parallelism, Ranks
from isotune.simulator.errors import InputError
from isotune.simulator.predict import Prediction, Scenario, predict
from isotune.simulator.schedule import Plan, check_plan
from isotune.tuner.search.best_plan import Options, exact_of, judge_of, space_of
from isotune.tuner.search.objectives import Deployment, Evaluate, Evaluator
from isotune.tuner.search.study import Progress, Settings, Trials, run_study
from isotune.tuner.search.trial import Trial
from isotune.tuner.space import Space

Scenarios = dict[tuple[Parallelism, int], Scenario]
"""The scenario of each layout and batch."""


@dataclass(frozen=True, kw_only=True)
class DeploymentSpace(Space):
    """Plans of several layouts and batches; `scenario` gives the rest."""

    layouts: tuple[Parallelism, ...]
    batches: tuple[int, ...]

    def at(self, ranks: Parallelism, batch: int) -> Space:
        """The plans of one deployment, from the same parameters as all others."""
        own = {one.name: getattr(self, one.name) for one in fields(Space)}
        return Space(**own | {"scenario": _placed(self.scenario, ranks, batch)})

    def plan(self, trial: optuna.trial.BaseTrial) -> Deployment:
        """The deployment a trial's parameters stand for."""
        names = [ranks.key for ranks in self.layouts]
        ranks = self.layouts[names.index(trial.suggest_categorical("layout", names))]
        batch = trial.suggest_categorical("batch", self.batches)
        here = self.at(ranks, batch)
        return deployed(_possible(here.plan(trial), here.scenario), ranks, batch)

    def parameters(self, plan: Plan) -> dict[str, object]:
        """The trial parameters that stand for a deployment."""
        deployment = cast(Deployment, plan)
        ranks, batch = deployment.ranks, deployment.batch
        return {"layout": ranks.key, "batch": batch} | self.at(ranks, batch).parameters(plan)

    def neighbours(self, plan: Plan) -> Iterator[Plan]:
        """The same plan on other GPUs, and other plans one step away."""
        deployment = cast(Deployment, plan)
        ranks, batch = deployment.ranks, deployment.batch
        if ranks.communicates:
            for other in self.layouts:
                if other.communicates and other != ranks:
                    there = self.at(other, batch).scenario
                    yield deployed(_possible(deployment.alone, there), other, batch)
            here = self.at(ranks, batch)
            for near in here.neighbours(plan):
                alone = cast(Deployment, near).alone
                yield deployed(_possible(alone, here.scenario), ranks, batch)


@dataclass(frozen=True, kw_only=True)
class DeploymentResult:
    """The chosen deployment's prediction, and what the study did; its front is the answer."""

    best: Prediction
    trials: Trials
    options: Options
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Layouts that cannot be, and why."""
    assumed: Mapping[str, tuple[Parallelism, ...]] = field(default_factory=dict)
    """What a reader must know of other layouts, but not of the best one."""


def deployed(plan: Plan, ranks: Parallelism, batch: int) -> Deployment:
    """A plan for these GPUs and this many requests."""
    return Deployment.model_validate(plan.model_dump() | asdict(ranks) | {"batch": batch})


def _placed(scenario: Scenario, ranks: Parallelism, batch: int) -> Scenario:
    return scenario.with_workload(**asdict(ranks), batch=batch)


def _possible(plan: Plan, scenario: Scenario) -> Plan:
    """The plan where the scenario can run it and it has anything to overlap, else serial."""
    if not scenario.workload.parallelism.communicates:
        return Plan()
    try:
        check_plan(plan, scenario.model, scenario.workload)
    except InputError:
        return Plan()
    return plan


def layouts_of(
    scenario: Scenario, **sizes: Sequence[int]
) -> tuple[tuple[Parallelism, ...], dict[str, str]]:
    """The layouts that sizes of each axis make, and those that cannot be with the reason.

    Combinations that divide experts over a part of the ranks, or need more GPUs than there are,
    are no layouts.

    Raises:
        InputError: none of them can be.
    """
    every = [
        Parallelism(**dict(zip(sizes, combined, strict=True)))
        for combined in product(*sizes.values())
    ]
    most = scenario.hardware.max_ranks
    wanted = [ranks for ranks in every if not ranks.contradiction and ranks.gpus <= most]
    if not wanted:
        raise InputError(every[0].contradiction or f"{every[0].text}: there are {most} GPUs")
    found: list[Parallelism] = []
    left_out: dict[str, str] = {}
    for ranks in wanted:
        try:
            _placed(scenario, ranks, scenario.workload.batch)
        except InputError as error:
            left_out[ranks.key] = str(error)
        else:
            found.append(ranks)
    if not found:
        raise InputError(next(iter(left_out.values())))
    return tuple(found), left_out


def search_deployments(
    scenario: Scenario,
    layouts: Sequence[Ranks],
    batches: Sequence[int],
    options: Options,
    progress: Progress | None = None,
) -> DeploymentResult:
    """Search plans, `layouts` and `batches` together; the best in the first objective is chosen.

    Raises:
        InputError: a layout that is impossible, an objective of one's own (it would not know which
            deployment it is asked about), or no plan that fits and keeps to the limits.
    """
    if options.objective is not None:
        raise InputError("several layouts or batches are compared by prediction, not by real runs")
    options.check()
    ranks = tuple(map(Parallelism.of, layouts))
    scenarios = {(one, batch): _placed(scenario, one, batch) for one in ranks for batch in batches}
    # The one whose GPUs share the most matrices has the most all-reduces to overlap and drop.
    widest = space_of(scenarios[max(ranks, key=lambda one: one.tp), max(batches)], options)
    space = DeploymentSpace(**vars(widest), layouts=ranks, batches=tuple(batches))
    trials = run_study(
        space,
        judge_of(scenario, options),
        _evaluate_each(scenarios),
        Settings(trials=options.trials, seed=options.seed, sampler=options.sampler),
        _starts(scenarios, options),
        progress,
    )
    chosen = _chosen(trials)
    best = predict(scenarios[chosen.ranks, chosen.batch], chosen.alone)
    assumed = _assumed_of_others(scenarios, best)
    return DeploymentResult(best=best, trials=trials, options=options, assumed=assumed)


def _assumed_of_others(
    scenarios: Scenarios, best: Prediction
) -> dict[str, tuple[Parallelism, ...]]:
    """The cautions of the layouts that are not the best one's."""
    known, found = set(best.cautions), dict[str, dict[Parallelism, None]]()
    for (ranks, _), scenario in scenarios.items():
        for caution in scenario.cautions():
            if caution not in known:
                found.setdefault(caution, {})[ranks] = None
    return {caution: tuple(ranks) for caution, ranks in found.items()}


def _evaluate_each(scenarios: Scenarios) -> Evaluate:
    """Tries each deployment's plan in its own scenario, those of one scenario together."""
    evaluators = {size: Evaluator(scenario) for size, scenario in scenarios.items()}

    def evaluate(plans: Sequence[Plan]) -> list[Trial]:
        deployments = [cast(Deployment, plan) for plan in plans]
        trials: dict[Plan, Trial] = {}
        for size, evaluator in evaluators.items():
            members = [plan for plan in deployments if (plan.ranks, plan.batch) == size]
            for plan, trial in zip(members, evaluator([m.alone for m in members]), strict=True):
                trials[plan] = replace(trial, plan=plan)
        return [trials[plan] for plan in plans]

    return evaluate


def _starts(scenarios: Scenarios, options: Options) -> list[Plan]:
    """Serial, and the best split, of every deployment."""
    plans: list[Plan] = [deployed(Plan(), *size) for size in scenarios]
    for size, scenario in scenarios.items():
        communicates = scenario.workload.parallelism.communicates
        exact = exact_of(space_of(scenario, options), options) if communicates else None
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
        return asdict(plan.ranks) | {
            "batch": plan.batch,
            "latency_s": trial.seconds,
            "tokens_per_s_per_gpu": plan.batch * work.tokens / (trial.seconds * plan.ranks.gpus),
            "plan": plan.alone.model_dump(mode="json"),
        }

    return [row(trial) for trial in result.trials.front]
