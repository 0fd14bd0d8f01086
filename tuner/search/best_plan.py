"""`isotune search`: Optuna over the space of plans, an exact reference beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from isotune.simulator.errors import InputError
from isotune.simulator.io import check_known
from isotune.simulator.predict import SERIAL, GpuMemory, Prediction, Scenario, predict
from isotune.simulator.schedule import SEARCHABLE, STRATEGIES, CommDtype, Plan, strategy_named
from isotune.tuner.accuracy import DropCosts, Recovery, assumed_drops
from isotune.tuner.choices import SAMPLERS, ObjectiveName, SamplerName
from isotune.tuner.exact import Best, best_split, joint_optimum, most_chunks
from isotune.tuner.search.objectives import (
    Evaluator,
    Judge,
    Objective,
    check_objectives,
)
from isotune.tuner.search.study import AT_ONCE, Progress, Settings, Trials, run_study
from isotune.tuner.space import MAX_CHUNKS, Space, even_plan
from isotune.tuner.techniques import IsoGains, Technique, cut_in_the_middle, techniques

_AT_BOUND = 1e-9


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to search.

    `strategies` are the overlap strategies allowed, `spd` whether syncs may be dropped.
    `comm_dtype` is the transfer type the plan must use, unless `comm_dtypes` gives a choice.
    Syncs are dropped only within `accuracy_budget` (relative growth of perplexity) by
    the costs of `recovery`; without it, SPD is shown beside the plan but never chosen.

    With several `objectives` the result has a Pareto front; `latency_limit` is in seconds.
    `objective` replaces the prediction by any callable from plan to seconds, such as a real run.
    `exact` solves what can be solved exactly first, and starts and measures the search by it.
    """

    strategies: tuple[str, ...] = SEARCHABLE
    spd: bool = True
    comm_dtype: CommDtype = "bf16"
    comm_dtypes: tuple[CommDtype, ...] = ()
    trials: int = 200
    seed: int = 0
    sampler: SamplerName = "auto"
    max_chunks: int = MAX_CHUNKS
    objectives: tuple[ObjectiveName, ...] = ("latency",)
    recovery: Recovery | None = None
    accuracy_budget: float = 0.01
    latency_limit: float | None = None
    objective: Objective | None = None
    exact: bool = True

    def check(self) -> None:
        """Refuse what cannot be searched by.

        Raises:
            InputError: a strategy, sampler or objective that does not exist or cannot be had.
        """
        check_strategies(self.strategies)
        check_known("sampler", (self.sampler,), SAMPLERS)
        check_objectives(self.objectives, self.drop_costs)

    @property
    def splits_prompt(self) -> bool:
        """Whether a strategy is allowed whose splits of a prompt are all compared (ISO)."""
        return any(STRATEGIES[name].enumerable for name in self.strategies)

    @property
    def drop_costs(self) -> DropCosts | None:
        """What dropped all-reduces cost; None where nothing tells."""
        return self.recovery.costs if self.recovery else None

    @property
    def transfers(self) -> tuple[CommDtype, ...]:
        """Transfer types to choose from."""
        return self.comm_dtypes or (self.comm_dtype,)


def check_strategies(names: Sequence[str]) -> None:
    """Refuse strategies that a search never chooses.

    Raises:
        InputError: which, and why.
    """
    for name in names:
        if not strategy_named(name).searchable:
            raise InputError(
                f"strategies: a search never chooses {name} "
                f"({STRATEGIES[name].never_chosen}; allowed: "
                f"{', '.join(SEARCHABLE)})"
            )


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The best plan beside the serial baseline, the exact reference and each technique."""

    best: Prediction
    baseline: Prediction
    trials: Trials
    exact: Best | None
    techniques: list[Technique]
    simplest: Prediction | None
    """The even cut in two of the best plan's kind; None where there is no other plan to cut."""
    iso_asked: bool
    """Whether ISO was considered, so that `iso_pays_from` says something."""
    iso_pays_from: int | None
    iso_surely_pays_from: int | None
    """From where on its gain is larger than the model's error, too."""
    accuracy_cost: float | None
    options: Options = field(repr=False)

    @property
    def gap_to_exact(self) -> float | None:
        """How far Optuna's best lies above (or below) the exact optimum, relative."""
        if self.exact is None or self.trials.best is None:
            return None
        return self.trials.best.seconds / self.exact.latency_s - 1.0


def search(
    scenario: Scenario, options: Options | None = None, progress: Progress | None = None
) -> SearchResult:
    """Find the plan of lowest latency within the limits.

    Raises:
        InputError: objectives that cannot be known, or no plan within the limits.
        DoesNotFitError: no plan fits in memory. (Where the serial pass alone does not,
            `baseline` says what it would take.)
    """
    options = options or Options()
    options.check()
    baseline = predict(scenario, SERIAL, must_fit=False)
    shown = _drop_sets(scenario, options)[1]
    space = space_of(scenario, options)
    exact = exact_of(space, options)
    trials = optimise(space, options, exact, progress)
    chosen = _chosen(scenario, trials, exact, options)
    work = scenario.workload
    iso_asked = options.splits_prompt and work.phase == "prefill" and work.parallelism.communicates
    iso = IsoGains(scenario)
    return SearchResult(
        best=predict(scenario, chosen),
        baseline=baseline,
        trials=trials,
        exact=exact,
        techniques=techniques(
            scenario,
            best=chosen,
            dropped=shown,
            drop_costs=options.drop_costs,
            strategies=space.strategies,
            spd=options.spd,
        ),
        simplest=cut_in_the_middle(scenario, chosen),
        iso_asked=iso_asked,
        iso_pays_from=iso.pays_from() if iso_asked else None,
        iso_surely_pays_from=iso.surely_pays_from() if iso_asked else None,
        accuracy_cost=_accuracy_cost(scenario, options, chosen),
        options=options,
    )


def space_of(scenario: Scenario, options: Options) -> Space:
    """The plans that the options allow."""
    return Space(
        scenario=scenario,
        strategies=_usable(scenario, options.strategies),
        comm_dtypes=options.transfers,
        drop_order=_drop_sets(scenario, options)[0],
        most_chunks=options.max_chunks,
    )


def judge_of(scenario: Scenario, options: Options) -> Judge:
    """What the options judge plans by."""
    return Judge(
        scenario=scenario,
        objectives=options.objectives,
        drop_costs=options.drop_costs,
        accuracy_budget=options.accuracy_budget if options.drop_costs else None,
        latency_limit=options.latency_limit,
    )


def optimise(
    space: Space, options: Options, exact: Best | None, progress: Progress | None = None
) -> Trials:
    """Ask and tell, starting from serial, even splits and the exact optimum."""
    inside = exact is not None and _covered(space)
    single = options.objectives == ("latency",)
    return run_study(
        space,
        judge_of(space.scenario, options),
        Evaluator(space.scenario, options.objective),
        Settings(
            trials=options.trials,
            seed=options.seed,
            sampler=options.sampler,
            # Real runs take their time one by one; an interrupt must not cost those of a batch.
            at_once=AT_ONCE if options.objective is None else 1,
            stop_at=exact.bound_s * (1 + _AT_BOUND) if exact and inside and single else None,
        ),
        starts(space, exact),
        progress,
    )


def _covered(space: Space) -> bool:
    """Whether the exact optimum is over all of the space, so that its bound holds there."""
    kinds = [STRATEGIES[name] for name in space.strategies]
    known = all(kind.enumerable or not kind.chunked for kind in kinds)
    return known and space.most_chunks <= most_chunks(space.scenario.workload.tokens)


def _chosen(scenario: Scenario, trials: Trials, exact: Best | None, options: Options) -> Plan:
    """The faster of the two; with a limit on latency both must keep to it."""
    plans = [(trials.best.seconds, trials.best.plan)] if trials.best else []
    if exact is not None:
        plans.append((exact.latency_s, exact.plan))
    if options.latency_limit is not None:
        plans = [item for item in plans if item[0] <= options.latency_limit]
    if not plans and (options.latency_limit is not None or trials.failed):
        reason = next(iter(trials.why), "none is fast enough")
        raise InputError(f"no plan within the limits: {reason}")
    if not plans:
        GpuMemory(scenario).check(SERIAL)
    plan = min(plans, key=lambda item: item[0])[1] if plans else SERIAL
    if plan.comm_dtype not in options.transfers:
        raise InputError(
            f"no plan within the limits: {' or '.join(options.transfers)} transfer costs more than "
            f"the accuracy budget of {options.accuracy_budget * 100:g} %"
        )
    return plan


def _accuracy_cost(scenario: Scenario, options: Options, plan: Plan) -> float | None:
    if options.drop_costs is None:
        return None
    return judge_of(scenario, options).accuracy_cost(plan)


def _usable(scenario: Scenario, strategies: tuple[str, ...]) -> tuple[str, ...]:
    """Serial, and those of the strategies that can run the model and gain on this workload."""
    work = scenario.workload
    wanted = [STRATEGIES[name] for name in SEARCHABLE if name in ("serial", *strategies)]
    return tuple(
        how.name
        for how in wanted
        if how.obstacle(work) is None and how.unsuited(scenario.model, work.parallelism) is None
    )


def _drop_sets(scenario: Scenario, options: Options) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Blocks that may be dropped in order of cost, and the drop set to show (maybe assumed)."""
    if not options.spd or scenario.workload.tp == 1:
        return (), ()
    if options.drop_costs is None:
        return (), assumed_drops(scenario.model, scenario.workload.parallelism)
    order = options.drop_costs.affordable(options.accuracy_budget)[-1]
    return order, tuple(sorted(order))


def exact_of(space: Space, options: Options) -> Best | None:
    """The exact optimum of the part of the space that can be solved; None if unwanted."""
    enumerable = any(STRATEGIES[name].enumerable for name in space.strategies)
    if not enumerable or not options.exact or options.objective is not None:
        return None
    chunks = min(options.max_chunks, most_chunks(space.scenario.workload.tokens))
    table = options.drop_costs
    if table is not None and options.spd:
        best = joint_optimum(
            space.scenario,
            table,
            options.accuracy_budget,
            comm_dtypes=space.comm_dtypes,
            chunks=chunks,
        )
        return best if best.compared else None
    return best_split(space.scenario, comm_dtypes=space.comm_dtypes, chunks=chunks)


def starts(space: Space, exact: Best | None) -> Sequence[Plan]:
    """Plans to begin with: serial, even splits of every strategy, and the exact optimum."""
    plans = [Plan()]
    for strategy in space.strategies:
        if STRATEGIES[strategy].chunked:
            even = [
                even_plan(space.scenario, strategy, count)
                for count in range(2, space.most_chunks + 1)
            ]
            plans += [plan for plan in even if plan is not None]
    plans = [plan.model_copy(update={"comm_dtype": space.comm_dtypes[0]}) for plan in plans]
    return [*plans, exact.plan] if exact else plans
