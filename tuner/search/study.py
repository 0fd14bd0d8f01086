"""Optuna's loop in batches: ask for some plans, evaluate them together, tell."""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import optuna
from optuna.trial import TrialState

from isotune.simulator.schedule import Plan
from isotune.tuner.choices import SamplerName
from isotune.tuner.search.history import History, history_of
from isotune.tuner.search.objectives import Evaluate, Judge
from isotune.tuner.search.samplers import sampler_of
from isotune.tuner.space import Space, labelled

Progress = Callable[[int, int], None]
"""Called with how many trials are done and how many there will be."""
AT_ONCE = 8
_REFINED = 8
OVER = "over"
COST = "accuracy_cost"


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A plan that a trial tried: its seconds, objectives, and whether it keeps to the limits."""

    plan: Plan
    seconds: float
    values: tuple[float, ...]
    feasible: bool


@dataclass(frozen=True, kw_only=True)
class Trials:
    """What a study did.

    `best` is the fastest plan within the limits, None if there is none; `front` the plans that
    no other beats in every objective. `why` counts the reasons of trials without a result;
    `mine` how many of a shared study this process ran; `history` is every trial. Two are equal
    that found the same, however long they took.
    """

    run: int
    pruned: int
    failed: int
    seconds: float = field(compare=False)
    best: Evaluated | None
    front: tuple[Evaluated, ...]
    importances: dict[str, float] = field(default_factory=dict)
    why: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False
    mine: int | None = None
    stopped_at_bound: bool = False
    history: History = field(default_factory=History, repr=False)

    @property
    def per_second(self) -> float:
        """Trials per second."""
        return self.run / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long to search and how.

    No trial begins after `deadline` (seconds of `time.monotonic`); `trials` None means until then.
    `stop_at` are seconds below which no plan of the space goes.
    """

    trials: int | None = 200
    deadline: float = float("inf")
    seed: int = 0
    sampler: SamplerName = "auto"
    at_once: int = AT_ONCE
    stop_at: float | None = None


def run_study(
    space: Space,
    judge: Judge,
    evaluate: Evaluate,
    settings: Settings,
    starts: Sequence[Plan] = (),
    progress: Progress | None = None,
) -> Trials:
    """Search `space` from the plans in `starts` on; the same seed gives the same trials."""
    study = new_study(judge, settings)
    for plan in starts:
        study.enqueue_trial(space.parameters(plan), skip_if_exists=True)
    begun, done, interrupted, stopped = time.perf_counter(), 0, False, False
    most = float("inf") if settings.trials is None else settings.trials
    seen: list[Evaluated] = []
    tried: set[Plan] = set()
    why: Counter[str] = Counter()
    pruned = failed = 0
    try:
        while done < most and not stopped and time.monotonic() < settings.deadline:
            if settings.sampler == "auto":
                _refine(study, space, seen, tried, settings.at_once // 2 or done % 2)
            asked = [study.ask() for _ in range(int(min(settings.at_once, most - done)))]
            plans = [space.plan(trial) for trial in asked]
            tried.update(plans)
            for trial, plan, outcome in zip(asked, plans, evaluate(plans), strict=True):
                if outcome.seconds is None:
                    why[outcome.why] += 1
                    failed, pruned = failed + outcome.failed, pruned + (not outcome.failed)
                    state = TrialState.FAIL if outcome.failed else TrialState.PRUNED
                    study.tell(trial, state=state)
                else:
                    seen.append(tell(study, trial, judge, plan, outcome.seconds))
                    at_bound = settings.stop_at is not None and seen[-1].feasible
                    stopped |= at_bound and seen[-1].seconds <= (settings.stop_at or 0.0)
            done += len(asked)
            if progress and settings.trials is not None:
                progress(done, settings.trials)
    except KeyboardInterrupt:
        interrupted = True
    taken = time.perf_counter() - begun
    feasible = [item for item in seen if item.feasible]
    best = min(feasible, key=lambda item: item.seconds, default=None)
    return Trials(
        run=done,
        pruned=pruned,
        failed=failed,
        seconds=taken,
        best=best,
        front=pareto(feasible),
        importances=importances(study, judge, best),
        why=dict(why),
        interrupted=interrupted,
        stopped_at_bound=stopped,
        history=history_of(study.get_trials(deepcopy=False), OVER, COST),
    )


def _refine(
    study: optuna.Study, space: Space, seen: Sequence[Evaluated], tried: set[Plan], most: int
) -> None:
    """Have untried neighbours of the best plans tried next: samplers rarely take the last step."""
    ranked = sorted(seen, key=lambda item: (not item.feasible, item.values))
    best = list(dict.fromkeys(item.plan for item in ranked))[:_REFINED]
    near = (plan for item in best for plan in space.neighbours(item) if plan not in tried)
    for plan in islice(near, most):
        tried.add(plan)
        study.enqueue_trial(space.parameters(plan))


def new_study(judge: Judge, settings: Settings) -> optuna.Study:
    """A study in memory."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    limits = limits_of if judge.over(Plan(), 0.0) else None
    objectives = len(judge.objectives)
    return optuna.create_study(
        directions=["minimize"] * objectives,
        sampler=sampler_of(settings.sampler, settings.seed, objectives, limits),
    )


def limits_of(trial: optuna.trial.FrozenTrial) -> list[float]:
    """By how much a trial exceeds each limit, as `tell` noted it."""
    return list(trial.user_attrs.get(OVER, ()))


def tell(
    study: optuna.Study, trial: optuna.Trial, judge: Judge, plan: Plan, seconds: float
) -> Evaluated:
    """Report a plan's result to the study."""
    values, over = judge.values(plan, seconds), judge.over(plan, seconds)
    if over:
        trial.set_user_attr(OVER, over)
    if judge.drop_costs is not None:
        trial.set_user_attr(COST, judge.accuracy_cost(plan))
    study.tell(trial, values)
    return Evaluated(plan=plan, seconds=seconds, values=tuple(values), feasible=keeps(over))


def keeps(over: Sequence[float]) -> bool:
    """Whether a plan keeps to its limits, given by how much it exceeds each."""
    return all(excess <= 1e-12 for excess in over)


def pareto(items: Sequence[Evaluated]) -> tuple[Evaluated, ...]:
    """Those that no other equals or beats in every objective, each set of values once."""
    front: list[Evaluated] = []
    for item in sorted(items, key=lambda item: item.values):
        if not any(_covers(other.values, item.values) for other in front):
            front.append(item)
    return tuple(front)


def _covers(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True))


def importances(study: optuna.Study, judge: Judge, best: Evaluated | None) -> dict[str, float]:
    """Share of each parameter of the best plan in the variation of the first objective.

    By the parameter's name for people; empty if unknown.
    """
    if best is None:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        several = len(judge.objectives) > 1
        try:
            shares = optuna.importance.get_param_importances(
                study,
                evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
                target=(lambda trial: float(trial.values[0])) if several else None,
            )
        except (ValueError, RuntimeError):
            return {}
    return labelled({name: float(share) for name, share in shares.items()}, best.plan)
