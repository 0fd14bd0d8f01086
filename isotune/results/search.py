"""What `isotune search` prints: a plan, deployments, or a study that several work on."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, PrivateAttr

from isotune.results._result import MOST, Interval, Part, Result, Seconds, Word
from isotune.results.prediction import Predicted, Prediction, Times
from isotune.results.study import FrontItem, Robust, Trials
from isotune.simulator.architecture import Parallelism
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Plan, Workload
from isotune.tuner.accuracy import Sensitivity
from isotune.tuner.choices import SHORTEST_MEASURED

if TYPE_CHECKING:
    from isotune import tuner
    from isotune.simulator import predict as simulated


class Technique(Times):
    """One technique by itself; `assumed` marks a loss that no sensitivity file measures."""

    name: str
    lossy: bool
    assumed: bool


class Engine(Part):
    """A serving engine, and whether it runs all of the plan; `why` says what it does not."""

    engine: str
    target: str = ""
    runs: bool
    why: str = ""


class Point(Part):
    """A prompt length on a curve; times in seconds."""

    prompt: int = Field(gt=0)
    chunks: tuple[int, ...]
    latency_s: Seconds
    serial_latency_s: Seconds
    saving: float
    saving_interval: Interval


class Curve(Part):
    """Savings by prompt length."""

    name: str
    points: tuple[Point, ...] = Field(max_length=MOST)

    @classmethod
    def of(cls, name: str, points: "Iterable[tuner.savings_by_length.AtLength]") -> Self:
        """What the tuner found at one length after another."""
        return cls(
            name=name,
            points=tuple(Point.like(point, chunks=point.plan.chunks) for point in points),
        )


class Exact(Part):
    """The exact optimum, and how far Optuna's best lies above it."""

    latency_s: Seconds
    compared: int
    bound_s: Seconds
    plan: Plan
    gap: float | None

    @property
    def proven_to(self) -> float:
        """How far at most another plan may lie below it, as a share."""
        return self.latency_s / self.bound_s - 1


class FrontPoint(Part):
    """A point of latency against perplexity; `rule` made it where no search did."""

    latency_s: Seconds
    perplexity_growth: float
    plan: Plan
    treatments: dict[int, str] = Field(default_factory=dict)
    rule: str | None = None
    dominated: bool = False


class Repairs(Part):
    """How the dropped blocks are recovered, and what that costs together in perplexity."""

    treatments: dict[int, str] = Field(default_factory=dict)
    treated_growth: float | None = None


def repairs_of(drops: "tuner.accuracy.RecoveredDrops | None") -> dict[str, Any]:
    """The fields of `Repairs`."""
    if drops is None:
        return {}
    return {"treatments": dict(drops.treatments), "treated_growth": drops.cost}


class Studied(Repairs, Predicted):
    """The best plan of a study, and its trials."""

    objectives: tuple[Word, ...] = Field(min_length=1)
    trials: Trials

    @property
    def best(self) -> Prediction:
        """The best plan's prediction alone."""
        fields = {name: getattr(self, name) for name in Predicted.model_fields}
        found = Prediction.model_construct(**(fields | {"kind": "prediction"}))
        found._simulated = self._simulated
        return found


class SearchResult(Studied):
    """The best plan beside serial, the exact optimum and each technique alone.

    `simplest` is the even cut in two of the best plan's kind, where that is another plan;
    `engines` are the serving engines that isotune exports to.
    """

    kind: Literal["search"] = "search"
    techniques: tuple[Technique, ...]
    simplest: Times | None = None
    engines: tuple[Engine, ...] = ()
    iso_asked: bool = True
    iso_pays_from: int | None
    iso_surely_pays_from: int | None = None
    iso_measured_from: int = SHORTEST_MEASURED
    by_length: tuple[Curve, ...] = ()
    sensitivity: Sensitivity | None = None
    accuracy_budget: float | None = None
    accuracy_cost: float | None = None
    exact: Exact | None
    robust: Robust | None = None
    front: tuple[FrontItem, ...] = ()
    accuracy_front: tuple[FrontPoint, ...] = Field(default=(), max_length=MOST)

    _found: "tuner.search.SearchResult | None" = PrivateAttr(None)

    @classmethod
    def of(cls, found: "tuner.search.SearchResult", **more: Any) -> Self:
        """What a search of the tuner found; `more` are fields that were asked for beside it."""
        options, exact = found.options, found.exact
        result = cls.around(
            found.best,
            found.baseline,
            objectives=options.objectives,
            trials=Trials.of(found.trials, options.seed),
            techniques=tuple(map(_technique, found.techniques)),
            simplest=None if found.simplest is None else Times.like(found.simplest),
            iso_asked=found.iso_asked,
            iso_pays_from=found.iso_pays_from,
            iso_surely_pays_from=found.iso_surely_pays_from,
            sensitivity=options.recovery.searched if options.recovery else None,
            accuracy_budget=options.accuracy_budget if options.recovery else None,
            accuracy_cost=found.accuracy_cost,
            front=tuple(
                FrontItem(
                    plan=item.plan,
                    values=dict(zip(options.objectives, item.values, strict=True)),
                )
                for item in found.trials.front
            ),
            exact=None if exact is None else Exact.like(exact, gap=found.gap_to_exact),
            **more,
        )
        result._found = found
        return result

    def complete(self) -> Self:
        """The result with its timelines and the savings by prompt length."""
        whole = super().complete()
        if whole.by_length or self._found is None or not self.iso_asked:
            return whole
        curves = tuple(_curves(self.simulated.scenario, self.plan))
        return whole.model_copy(update={"by_length": curves})

    @property
    def gap_to_exact(self) -> float | None:
        """How far Optuna's best lies above (or below) the exact optimum, relative."""
        return None if self.exact is None else self.exact.gap

    def rows(self) -> list[dict[str, Any]]:
        """One row for serial, each technique alone, and the best plan."""
        named = [(item.name, item) for item in self.techniques]
        plans: list[tuple[str, Times]] = [("serial", self.baseline), *named, ("best", self)]
        return [times.row(name) for name, times in plans]


def _technique(technique: "tuner.techniques.Technique") -> Technique:
    return Technique.like(
        technique.prediction,
        name=technique.name,
        lossy=technique.lossy,
        assumed=technique.assumed,
    )


def _curves(scenario: Scenario, plan: Plan) -> Iterable[Curve]:
    """ISO by prompt length: lossless, and as the plan has it where that loses something."""
    from isotune.tuner.savings_by_length import best_iso, by_length

    choices = {"ISO": best_iso()}
    if plan.lossy:
        choices[", ".join(("ISO", *plan.changes))] = best_iso(plan.comm_dtype, plan.dropped)
    return [Curve.of(name, by_length(scenario, choice)) for name, choice in choices.items()]


def accuracy_front_of(points: "Sequence[tuner.search.Point]") -> tuple[FrontPoint, ...]:
    """The front of latency against perplexity."""
    return tuple(
        FrontPoint.like(point, perplexity_growth=point.growth, rule=point.rule or None)
        for point in points
    )


class Deployed(Part):
    """A plan on some GPUs with some batch."""

    tp: int = Field(gt=0)
    ep: int = Field(default=1, gt=0)
    cp: int = Field(default=1, gt=0)
    dp: int = Field(default=1, gt=0)
    batch: int = Field(gt=0)
    latency_s: Seconds
    tokens_per_s_per_gpu: Seconds
    plan: Plan

    @property
    def ranks(self) -> Parallelism:
        """How the GPUs share model and batch."""
        return Parallelism(tp=self.tp, ep=self.ep, cp=self.cp, dp=self.dp)


class Deployments(Studied):
    """The best deployment among layouts and batches, and the front it is on.

    `left_out` has the layouts that cannot be, and why; `assumed` what is to be known of other
    layouts than the chosen one, and of which.
    """

    kind: Literal["deployments"] = "deployments"
    latency_limit_s: Seconds | None = None
    left_out: dict[Word, str] = Field(default_factory=dict)
    assumed: dict[str, tuple[Word, ...]] = Field(default_factory=dict)
    front: tuple[Deployed, ...] = Field(min_length=1)

    @classmethod
    def of(cls, found: "tuner.search.DeploymentResult", **more: Any) -> Self:
        """What a search of the tuner found."""
        from isotune.tuner.search import front_rows

        return cls.around(
            found.best,
            objectives=found.options.objectives,
            latency_limit_s=found.options.latency_limit,
            left_out=dict(found.left_out),
            assumed={
                caution: tuple(one.key for one in ranks) for caution, ranks in found.assumed.items()
            },
            front=tuple(Deployed.model_validate(row) for row in front_rows(found)),
            trials=Trials.of(found.trials, found.options.seed),
            **more,
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row per deployment of the front."""
        return [item.model_dump() for item in self.front]


class SharedSearch(Repairs, Result):
    """A study that several processes work on, as far as it is; `mine` are this process's trials.

    `best` is the prediction of the best plan so far, None before there is one.
    """

    kind: Literal["shared_search"] = "shared_search"
    study: str
    model: str = ""
    hardware: str = ""
    workload: Workload | None = None
    run: int
    mine: int | None
    pruned: int
    failed: int
    run_again: int = 0
    why: dict[str, int] = Field(default_factory=dict)
    interrupted: bool
    latency_s: Seconds | None
    plan: Plan | None
    plan_file: str | None = None
    best: Prediction | None = None

    @classmethod
    def of(
        cls,
        study: str,
        trials: "tuner.search.Trials",
        scenario: Scenario,
        best: "simulated.Prediction | None",
        **more: Any,
    ) -> Self:
        """What all workers found so far."""
        return cls.like(
            trials,
            study=study,
            model=scenario.model.name,
            hardware=scenario.hardware.name,
            workload=scenario.workload,
            latency_s=trials.best.seconds if trials.best else None,
            plan=trials.best.plan if trials.best else None,
            best=None if best is None else Prediction.of(best),
            **more,
        )

    def complete(self) -> Self:
        """The result with its plan's timelines."""
        if self.best is None:
            return self
        return self.model_copy(update={"best": self.best.complete()})

    def rows(self) -> list[dict[str, Any]]:
        """One row: the best plan so far."""
        return [] if self.best is None else [self.best.row("best")]
