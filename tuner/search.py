"""`isotune search`: Optuna over the space of plans, an exact reference beside it."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import optuna

from simulator.errors import DoesNotFitError
from simulator.memory import check_memory
from simulator.plan import STRATEGIES, CommDtype, Plan, Strategy
from simulator.predict import SERIAL, Prediction, predict
from simulator.scenario import Scenario
from tuner.accuracy import ASSUMED_SHARE, Sensitivity, assumed_order
from tuner.exact import Best, best_split, sm_budgets
from tuner.space import MAX_CHUNKS, Space
from tuner.techniques import Technique, latency, pays_from, techniques

Progress = Callable[[int, int], None]
"""Called after each trial with how many are done and how many there will be."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to search.

    `strategies` are the overlap strategies allowed, `spd` whether syncs may be dropped.
    `comm_dtype` is the transfer type the plan must use. Syncs are dropped only within
    `accuracy_budget` (relative growth of perplexity) by a `sensitivity` table; without one,
    SPD is shown beside the plan but never chosen. `start_from_exact` hands Optuna the exact
    two-chunk optimum as its first trial; without it, it starts from even splits only.
    """

    strategies: tuple[Strategy, ...] = STRATEGIES
    spd: bool = True
    comm_dtype: CommDtype = "bf16"
    trials: int = 200
    seed: int = 0
    sensitivity: Sensitivity | None = None
    accuracy_budget: float = 0.01
    start_from_exact: bool = True


@dataclass(frozen=True, kw_only=True)
class Trials:
    """What the Optuna study did, and the best it saw."""

    run: int
    pruned: int
    best: Plan
    best_s: float
    interrupted: bool = False


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The best plan beside the serial baseline, the exact reference and each technique."""

    best: Prediction
    baseline: Prediction
    trials: Trials
    exact: Best | None
    techniques: list[Technique]
    iso_pays_from: int | None
    accuracy_cost: float | None
    options: Options = field(repr=False)

    @property
    def gap_to_exact(self) -> float | None:
        """How far Optuna's best lies above (or below) the exact two-chunk optimum, relative."""
        return None if self.exact is None else self.trials.best_s / self.exact.latency_s - 1.0


def search(
    scenario: Scenario, options: Options | None = None, progress: Progress | None = None
) -> SearchResult:
    """Find the plan of lowest predicted latency.

    Raises:
        DoesNotFitError: the serial baseline does not fit in memory.
    """
    options = options or Options()
    baseline = predict(scenario, SERIAL)
    allowed, shown, assumed = _drop_sets(scenario, options)
    space = Space(
        scenario=scenario,
        strategies=_usable(scenario, options.strategies),
        comm_dtypes=(options.comm_dtype,),
        drop_order=allowed,
    )
    exact = _exact(space, options)
    trials = _study(space, options, exact, progress)
    plan = trials.best
    if exact is not None and exact.latency_s < trials.best_s:
        plan = exact.plan
    return SearchResult(
        best=predict(scenario, plan),
        baseline=baseline,
        trials=trials,
        exact=exact,
        techniques=techniques(
            scenario,
            dropped=shown,
            assumed=assumed,
            strategies=space.strategies,
            spd=options.spd,
        ),
        iso_pays_from=pays_from(scenario) if "iso" in space.strategies else None,
        accuracy_cost=options.sensitivity.cost(plan.dropped) if options.sensitivity else None,
        options=options,
    )


def _usable(scenario: Scenario, strategies: tuple[Strategy, ...]) -> tuple[Strategy, ...]:
    """The strategies that can cut this workload; serial always can."""
    workload = scenario.workload
    able = {
        "serial": True,
        "gemm_overlap": workload.batch * workload.tokens > 1,
        "request_overlap": workload.batch > 1,
        "iso": workload.tokens > 1,
    }
    overlap = workload.tp > 1
    return tuple(
        s for s in STRATEGIES if s == "serial" or (overlap and s in strategies and able[s])
    )


def _drop_sets(
    scenario: Scenario, options: Options
) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    """Blocks that may be dropped in order of cost, the drop set to show, and whether assumed."""
    blocks = scenario.model.num_hidden_layers
    if not options.spd or scenario.workload.tp == 1:
        return (), (), False
    if options.sensitivity is None:
        share = round(ASSUMED_SHARE * blocks)
        return (), tuple(sorted(assumed_order(blocks)[:share])), True
    count = options.sensitivity.affordable(options.accuracy_budget)
    order = options.sensitivity.order()[:count]
    return order, tuple(sorted(order)), False


def _exact(space: Space, options: Options) -> Best | None:
    if "iso" not in space.strategies:
        return None
    drop_sets = {(), tuple(sorted(space.drop_order))}
    return best_split(space.scenario, comm_dtypes=(options.comm_dtype,), drop_sets=drop_sets)


def _study(space: Space, options: Options, exact: Best | None, progress: Progress | None) -> Trials:
    """Ask and tell, starting from serial, even splits and the exact optimum."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=options.seed, multivariate=True)
    study = optuna.create_study(sampler=sampler)
    for plan in _starts(space, options, exact):
        study.enqueue_trial(space.parameters(plan), skip_if_exists=True)
    seen: dict[Plan, float | None] = {}
    pruned = done = 0
    interrupted = False
    try:
        while done < options.trials:
            trial = study.ask()
            plan = space.plan(trial)
            if plan not in seen:
                seen[plan] = _evaluate(space.scenario, plan)
            seconds = seen[plan]
            if seconds is None:
                pruned += 1
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                study.tell(trial, seconds)
            done += 1
            if progress:
                progress(done, options.trials)
    except KeyboardInterrupt:
        interrupted = True
    fitting = {plan: seconds for plan, seconds in seen.items() if seconds is not None}
    fitting = fitting or {SERIAL: latency(space.scenario, SERIAL)}
    best = min(fitting, key=lambda plan: fitting[plan])
    return Trials(run=done, pruned=pruned, best=best, best_s=fitting[best], interrupted=interrupted)


def _starts(space: Space, options: Options, exact: Best | None) -> list[Plan]:
    """Serial, even splits of every strategy, even halves with every SM budget, the optimum."""
    starts = [Plan()]
    for strategy in space.strategies:
        if strategy != "serial":
            even = [space.even(strategy, count) for count in range(2, MAX_CHUNKS + 1)]
            starts += [plan for plan in even if plan is not None]
    halves = space.even("iso", 2) if "iso" in space.strategies else None
    if halves is not None:
        budgets = sm_budgets(space.scenario)
        starts += [halves.model_copy(update={"comm_sms": sms}) for sms in budgets]
    starts = [plan.model_copy(update={"comm_dtype": options.comm_dtype}) for plan in starts]
    return [*starts, exact.plan] if exact and options.start_from_exact else starts


def _evaluate(scenario: Scenario, plan: Plan) -> float | None:
    try:
        check_memory(scenario, plan)
    except DoesNotFitError:
        return None
    return latency(scenario, plan)
