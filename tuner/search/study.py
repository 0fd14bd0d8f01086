"""Optuna's loop in batches: ask for some plans, evaluate them together, tell."""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Self

import optuna
from optuna.trial import TrialState

from isotune.simulator.io import heard
from isotune.simulator.schedule import Plan
from isotune.tuner.choices import SamplerName
from isotune.tuner.search.objectives import Evaluate, Judge
from isotune.tuner.search.samplers import sampler_of
from isotune.tuner.search.trial import Trial, distributions_of
from isotune.tuner.space import Space, labelled

Progress = Callable[[int, int], None]
"""Called with how many trials have ended and how many there will be."""
AT_ONCE = 8
_REFINED = 8


@dataclass(frozen=True, kw_only=True)
class Trials:
    """What a study did: `tried` are its trials that ended.

    `best` is the fastest plan within the limits, None if there is none; `front` the plans that
    no other beats in every objective. `mine` is how many trials of a shared study this process
    ran, `run_again` how many of its trials were put up again, as their worker died, was interrupted
    or lost the storage; `distributions` the range of each parameter, in Optuna's own JSON.
    Two are equal that found the same, however long they took.
    """

    tried: tuple[Trial, ...] = field(repr=False)
    seconds: float = field(compare=False)
    best: Trial | None
    front: tuple[Trial, ...]
    importances: dict[str, float] = field(default_factory=dict)
    distributions: dict[str, Any] = field(default_factory=dict, repr=False)
    interrupted: bool = False
    mine: int | None = None
    run_again: int = 0
    stopped_at_bound: bool = False

    @classmethod
    def of(cls, study: optuna.Study, judge: Judge, tried: Mapping[int, Trial], **more: Any) -> Self:
        """What a study did whose trials that ended are `tried`, by their numbers."""
        feasible = [trial for trial in tried.values() if trial.values and trial.feasible]
        best = min(feasible, key=lambda trial: trial.seconds, default=None)
        # Of trials with the same objectives the front has the first.
        front = {tuple(trial.values): trial.number for trial in reversed(study.best_trials)}
        return cls(
            tried=tuple(tried.values()),
            best=best,
            front=tuple(tried[number] for _, number in sorted(front.items())),
            importances=importances(study, judge, best),
            distributions=distributions_of(
                trial for trial in study.get_trials(deepcopy=False) if trial.number in tried
            ),
            **more,
        )

    @property
    def run(self) -> int:
        """How many trials ended."""
        return len(self.tried)

    @property
    def pruned(self) -> int:
        """How many plans did not fit in memory."""
        return sum(trial.state == "PRUNED" for trial in self.tried)

    @property
    def failed(self) -> int:
        """How many trials ended with an error."""
        return sum(trial.state == "FAIL" for trial in self.tried)

    @property
    def why(self) -> dict[str, int]:
        """The reasons of trials without a result, and how many had each."""
        return dict(Counter(trial.why for trial in self.tried if trial.why))

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
    begun, interrupted, stopped = time.perf_counter(), False, False
    most = float("inf") if settings.trials is None else settings.trials
    stop_at = -1.0 if settings.stop_at is None else settings.stop_at
    tried: dict[int, Trial] = {}
    plans: set[Plan] = set()
    try:
        while len(tried) < most and not stopped and time.monotonic() < settings.deadline:
            if settings.sampler == "auto":
                refined = settings.at_once // 2 or len(tried) % 2
                _refine(study, space, tried.values(), plans, refined)
            asked = [study.ask() for _ in range(int(min(settings.at_once, most - len(tried))))]
            batch = [space.plan(trial) for trial in asked]
            plans.update(batch)
            for trial, found in zip(asked, evaluate(batch), strict=True):
                judged = judge.judged(found, trial.params)
                limit(trial, judged)
                study.tell(trial, judged.values or None, TrialState[judged.state])
                tried[trial.number] = judged
                stopped |= judged.feasible and judged.seconds <= stop_at
            if progress and settings.trials is not None:
                progress(len(tried), settings.trials)
    except KeyboardInterrupt:
        heard()
        interrupted = True
    return Trials.of(
        study,
        judge,
        tried,
        seconds=time.perf_counter() - begun,
        interrupted=interrupted,
        stopped_at_bound=stopped,
    )


def _refine(
    study: optuna.Study, space: Space, tried: Collection[Trial], plans: set[Plan], most: int
) -> None:
    """Have untried neighbours of the best plans tried next: samplers rarely take the last step."""
    results = [trial for trial in tried if trial.values]
    ranked = sorted(results, key=lambda trial: (not trial.feasible, trial.values))
    best = list(dict.fromkeys(trial.plan for trial in ranked))[:_REFINED]
    near = (plan for item in best for plan in space.neighbours(item) if plan not in plans)
    for plan in islice(near, most):
        plans.add(plan)
        study.enqueue_trial(space.parameters(plan))


def new_study(judge: Judge, settings: Settings) -> optuna.Study:
    """A study in memory."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    objectives = len(judge.objectives)
    return optuna.create_study(
        directions=["minimize"] * objectives,
        sampler=sampler_of(settings.sampler, settings.seed, objectives),
    )


def limit(trial: optuna.Trial, judged: Trial) -> None:
    """Say to Optuna by how much a trial exceeds each limit."""
    for name, excess in judged.excess.items():
        trial.set_constraint(name, excess)


def importances(study: optuna.Study, judge: Judge, best: Trial | None) -> dict[str, float]:
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
