"""One trial of a search: what came of a plan."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from isotune.simulator.schedule import Plan

State = Literal["COMPLETE", "PRUNED", "FAIL"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A plan that was tried.

    `seconds` are infinite and `why` has the reason where there is no result: the state is `PRUNED`
    if the plan does not fit in memory, `FAIL` after an error. A study adds the parameters and, to
    a result, the objectives, by how much each limit is exceeded, and the predicted relative
    growth of perplexity, None where nothing tells.
    """

    plan: Plan
    seconds: float = float("inf")
    state: State = "COMPLETE"
    why: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    values: tuple[float, ...] = ()
    excess: dict[str, float] = field(default_factory=dict)
    accuracy_cost: float | None = None

    @property
    def feasible(self) -> bool:
        """Whether it kept to the limits of the search."""
        return all(excess <= 0.0 for excess in self.excess.values())


class TrialData(Protocol):
    """What Optuna needs to know of a trial."""

    @property
    def state(self) -> State:
        """How it ended."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Its parameters."""

    @property
    def values(self) -> tuple[float, ...]:
        """Its objectives; none without a result."""


def distributions_of(trials: Iterable[FrozenTrial]) -> dict[str, Any]:
    """The range of each parameter of some trials, in Optuna's own JSON."""
    distributions = {
        name: distribution for trial in trials for name, distribution in trial.distributions.items()
    }
    return {name: json.loads(distribution_to_json(item)) for name, item in distributions.items()}


def study_of(
    distributions: Mapping[str, Any], trials: Iterable[TrialData], objectives: int
) -> optuna.Study:
    """A study in memory with these trials; `distributions` are as `distributions_of` gives them.

    Raises:
        ValueError: a trial that its distributions, or the number of objectives, do not allow.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ranges = {name: json_to_distribution(json.dumps(data)) for name, data in distributions.items()}
    study = optuna.create_study(directions=["minimize"] * objectives)
    study.add_trials(
        [
            create_trial(
                state=TrialState[trial.state],
                params=dict(trial.params),
                distributions={name: ranges[name] for name in trial.params},
                values=trial.values if trial.state == "COMPLETE" else None,
            )
            for trial in trials
        ]
    )
    return study
