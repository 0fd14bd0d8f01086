"""What an Optuna study did, and a robust choice among its plans."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_serializer, model_validator

from isotune.results._result import MOST, Interval, Part, Seconds, Word
from isotune.simulator.schedule import Plan

if TYPE_CHECKING:
    from isotune import tuner
    from isotune.tuner.robust import RobustChoice


class Trial(Part):
    """One trial: its parameters and objective values, in the order of the objectives."""

    state: Literal["COMPLETE", "PRUNED", "FAIL"]
    params: dict[Word, int | float | Word]
    values: tuple[float, ...]
    feasible: bool
    accuracy_cost: float | None = None


class Range(Part):
    """The range of a parameter, as Optuna writes it."""

    name: Literal["CategoricalDistribution", "IntDistribution", "FloatDistribution"]
    attributes: dict[Word, bool | int | float | tuple[int | Word, ...] | None]


class History(Part):
    """All trials of a study."""

    distributions: dict[Word, Range] = Field(default_factory=dict)
    trials: tuple[Trial, ...] = Field(default=(), max_length=MOST)


class Trials(Part):
    """What a study did; `why` counts the reasons of trials without a result."""

    run: int
    pruned: int
    failed: int
    why: dict[str, int] = Field(default_factory=dict)
    per_second: float = 0.0
    importances: dict[str, float] = Field(default_factory=dict)
    stopped_at_bound: bool = False
    best_s: Seconds | None = None
    seed: int
    interrupted: bool = False
    history: History = History()

    @classmethod
    def of(cls, trials: "tuner.search.Trials", seed: int) -> Self:
        """What a study did, from the tuner's own account."""
        return cls.like(
            trials,
            best_s=trials.best.seconds if trials.best else None,
            seed=seed,
            history=History.like(trials, trials=trials.tried),
        )


class Winner(Part):
    """A plan that is best in a share of the draws."""

    plan: Plan
    share: float


class Robust(Part):
    """The best plan over draws of the profile's errors, and how the choice could change.

    `saving_interval` holds 5 to 95 % of the draws.
    """

    mode: str
    plan: Plan = Plan()
    expected_s: float = 0.0
    worst_s: float = 0.0
    saving_interval: Interval
    best_in: float
    near_best_in: float
    winners: tuple[Winner, ...]
    draws: int = 0

    @classmethod
    def of(cls, choice: "RobustChoice") -> Self:
        """A robust choice of the tuner."""
        winners = tuple(Winner(plan=plan, share=share) for plan, share in choice.winners)
        return cls.like(choice, winners=winners)


class FrontItem(Part):
    """A plan that no other beats in every objective; a file has each value under its name."""

    plan: Plan
    values: dict[Word, float]

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "values" in data:
            return data
        values = {name: value for name, value in data.items() if name != "plan"}
        return {"plan": data.get("plan"), "values": values}

    @model_serializer(mode="plain")
    def _spread(self) -> dict[str, Any]:
        return self.values | {"plan": self.plan.model_dump(mode="json")}
