"""What a study tried, as plain data from which a study can be made again."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState, create_trial

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial: its state (`COMPLETE`, `PRUNED`, `FAIL`), parameters and objective values.

    `feasible` is whether it kept to the limits of the search; `accuracy_cost` the predicted
    relative growth of perplexity, None where nothing tells.
    """

    state: str
    params: dict[str, Any]
    values: tuple[float, ...]
    feasible: bool
    accuracy_cost: float | None = None


@dataclass(frozen=True, kw_only=True)
class History:
    """Trials in their order, and the range of each parameter in Optuna's own JSON."""

    distributions: dict[str, Any] = field(default_factory=dict)
    trials: tuple[TrialRecord, ...] = ()


def history_of(trials: Iterable[FrozenTrial], over: str, cost: str) -> History:
    """The finished trials of a study.

    `over` and `cost` name the attributes with what exceeds the limits and with the accuracy cost.
    """
    distributions: dict[str, Any] = {}
    tried: list[TrialRecord] = []
    for trial in trials:
        if trial.state not in _FINISHED:
            continue
        for name, distribution in trial.distributions.items():
            distributions[name] = json.loads(distribution_to_json(distribution))
        excesses = trial.user_attrs.get(over, ())
        tried.append(
            TrialRecord(
                state=trial.state.name,
                params=dict(trial.params),
                values=tuple(trial.values or ()),
                feasible=all(excess <= 1e-12 for excess in excesses),
                accuracy_cost=trial.user_attrs.get(cost),
            )
        )
    return History(distributions=distributions, trials=tuple(tried))


def study_of(history: History, objectives: int) -> optuna.Study:
    """A study in memory with the same trials.

    Raises:
        ValueError: a trial that its distributions, or the number of objectives, do not allow.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ranges = {
        name: json_to_distribution(json.dumps(data)) for name, data in history.distributions.items()
    }
    study = optuna.create_study(directions=["minimize"] * objectives)
    study.add_trials(
        [
            create_trial(
                state=TrialState[trial.state],
                params=trial.params,
                distributions={name: ranges[name] for name in trial.params},
                values=trial.values if trial.state == "COMPLETE" else None,
            )
            for trial in history.trials
        ]
    )
    return study
