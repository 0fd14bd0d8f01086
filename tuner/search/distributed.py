"""One search by many processes and machines, through Optuna's own storage.

Workers take trials until the study has as many as were agreed on. In a database Optuna's heartbeat
shows that a worker lives; the trial of a dead one fails and is put up again with the same
parameters, as is that of a worker that is interrupted. A worker thought dead finds its trial
finished, and its result is not taken. So no work is lost whichever workers are killed, and a
search that was stopped goes on when anyone joins. A trial or two more than agreed on may run, as
several workers can begin the last one at once.

A storage that is away (a server that restarts, a dropped connection, a full disk) is waited for;
the trials that were under way are then put up again, also one whose claim was written and whose
answer was lost. One that stays away ends the worker with one
line, and leaves its trial to the others.

A journal file has no heartbeat: there, a trial that has run longer than the grace period is no
longer waited for, and a new one takes its place.
"""

import random
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import optuna
from optuna.storages import BaseStorage, RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from isotune.simulator.errors import InputError, IsotuneError
from isotune.simulator.io import heard
from isotune.simulator.schedule import Plan
from isotune.tuner.choices import SamplerName
from isotune.tuner.search.objectives import Evaluate, Judge
from isotune.tuner.search.samplers import sampler_of
from isotune.tuner.search.storages import (
    GRACE_S,
    LOST,
    RETRIED,
    WHY,
    cause_of,
    claimed_by,
    lost_cause,
    reason_of,
    trial_again,
)
from isotune.tuner.search.study import Progress, Trials, limit
from isotune.tuner.search.trial import State, Trial
from isotune.tuner.space import Space

_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_Found = TypeVar("_Found")
_PLAN, _SECONDS, _COST = "plan", "seconds", "accuracy_cost"


@dataclass(frozen=True, kw_only=True)
class SharedStudy:
    """A study in a storage: what is searched, how judged, and how many trials in all.

    No trial begins after `deadline` (seconds of `time.monotonic`). A storage that is away is
    waited for `patience_s` seconds.
    """

    storage: BaseStorage
    name: str
    space: Space
    judge: Judge
    trials: int
    seed: int = 0
    sampler: SamplerName = "auto"
    deadline: float = float("inf")
    grace_s: float = GRACE_S
    patience_s: float = 60.0

    def sampler_of(self, trial: int) -> optuna.samplers.BaseSampler:
        """The sampler of a trial: its seed does not depend on who runs it."""
        seed = self.seed * 1_000_003 + trial
        return sampler_of(self.sampler, seed, len(self.judge.objectives))


def create(shared: SharedStudy, starts: list[Plan], definition: dict[str, Any]) -> None:
    """Put the study up with the plans to start from, or leave the one of that name as it is.

    Raises:
        InputError: a study of that name exists and searches something else.
    """
    study = optuna.create_study(
        storage=shared.storage,
        study_name=shared.name,
        directions=["minimize"] * len(shared.judge.objectives),
        load_if_exists=True,
    )
    known = study.user_attrs.get("definition")
    if known is not None and known != definition:
        raise InputError(
            f"study {shared.name!r} exists and searches something else "
            f"({_difference(known, definition)}); choose another --study, "
            "or --join it"
        )
    if known is None:
        study.set_user_attr("definition", definition)
        for plan in starts[: shared.trials]:
            study.enqueue_trial(shared.space.parameters(plan))


def _difference(known: dict[str, Any], other: dict[str, Any]) -> str:
    """The first setting that two definitions do not share."""
    key = next(key for key in known | other if known.get(key) != other.get(key))
    first, second = known.get(key), other.get(key)
    if isinstance(first, dict) and isinstance(second, dict):
        return _difference(first, second)
    return f"{key} {first!s:.40}, not {second!s:.40}"


def definition_of(storage: BaseStorage, name: str) -> dict[str, Any]:
    """What a study searches, as its creator wrote it.

    Raises:
        InputError: no such study; the names there are.
    """
    try:
        study = optuna.load_study(study_name=name, storage=storage)
        return dict(study.user_attrs["definition"])
    except KeyError as error:
        names = ", ".join(optuna.get_all_study_names(storage)) or "none"
        raise InputError(f"no study {name!r} in this storage (there are: {names})") from error


def work(shared: SharedStudy, evaluate: Evaluate, progress: Progress | None = None) -> Trials:
    """Run trials until the study has `trials` of them; on Ctrl-C the current one is released.

    Raises:
        InputError: the storage was away for too long.
    """
    begun, interrupted = time.perf_counter(), False
    worker, away = _Worker(shared, evaluate), _Away(shared.patience_s)
    study = away.retried(lambda: optuna.load_study(study_name=shared.name, storage=shared.storage))
    try:
        while time.monotonic() < shared.deadline:
            if away.retried(lambda: _step(shared, study, worker, progress)):
                break
    except KeyboardInterrupt:
        heard()
        interrupted = True
    away.retried(lambda: worker.release(study))
    ended = away.retried(lambda: study.get_trials(deepcopy=False))
    return Trials.of(
        study,
        shared.judge,
        {trial.number: _trial(trial) for trial in _counted(ended)},
        seconds=time.perf_counter() - begun,
        mine=worker.ended,
        interrupted=interrupted,
        run_again=sum(_died(trial) for trial in ended),
    )


def _step(
    shared: SharedStudy, study: optuna.Study, worker: "_Worker", progress: Progress | None
) -> bool:
    """Run a trial, or wait for those of others; whether the study has all its trials."""
    worker.release(study)
    trials = study.get_trials(deepcopy=False)
    ended = len(_counted(trials))
    if progress:
        progress(min(ended, shared.trials), shared.trials)
    if ended >= shared.trials:
        return True
    if ended + sum(_runs(shared, trial) for trial in trials) < shared.trials:
        worker.run_one(study)
    else:
        _wait(shared, study)
    return False


class _Away:
    """Patience with a storage that is away."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s

    def retried(self, act: Callable[[], _Found]) -> _Found:
        """What `act` returns, tried anew with growing pauses while the storage is away.

        Raises:
            InputError: it was away for too long, with what it says.
        """
        pause, until = _PAUSE_S, time.monotonic() + self._patience_s
        while True:
            try:
                return act()
            except LOST as error:
                if time.monotonic() > until:
                    raise InputError(
                        f"storage: lost it for {self._patience_s:g} s ({reason_of(error)}); the "
                        "trials that ended are kept, and the same command goes on from there"
                    ) from error
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE_S)


def _counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Trials that ended with a result or for a reason of their own: no dead worker's."""
    return [
        trial
        for trial in trials
        if trial.state.is_finished()
        and (trial.state is not TrialState.FAIL or WHY in trial.user_attrs)
    ]


def _died(trial: FrozenTrial) -> bool:
    """Whether a trial's worker died, was interrupted or lost the storage."""
    return trial.state is TrialState.FAIL and WHY not in trial.user_attrs


def _runs(shared: SharedStudy, trial: FrozenTrial) -> bool:
    """Whether a worker is at a trial: a database tells, elsewhere its age does."""
    if trial.state is not TrialState.RUNNING or isinstance(shared.storage, RDBStorage):
        return trial.state is TrialState.RUNNING
    begun = trial.datetime_start
    return begun is not None and time.time() - begun.timestamp() <= shared.grace_s


def _wait(shared: SharedStudy, study: optuna.Study) -> None:
    """Leave the others some time, and see whether one of them died."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        fail_stale_trials(study)
    time.sleep(min(0.2, shared.grace_s / 10))


class _FailedError(IsotuneError):
    """A trial without a result, for a reason that it has noted."""


class _Worker:
    """Optuna's objective: the plan of a trial, evaluated."""

    def __init__(self, shared: SharedStudy, evaluate: Evaluate) -> None:
        self._shared, self._evaluate = shared, evaluate
        self._number: int | None = None
        self._lost: set[int] = set()
        self.ended = 0

    def run_one(self, study: optuna.Study) -> None:
        """Run one trial; one whose worker was thought dead does not count, and is not taken.

        Raises:
            KeyboardInterrupt: Ctrl-C; the trial is put up again.
        """
        expected = _FailedError, optuna.exceptions.UpdateFinishedTrialError
        self._number = None
        try:
            study.optimize(self, n_trials=1, catch=expected)
        except KeyboardInterrupt:
            heard()
            self._lose()
            self.release(study)
            raise
        except Exception as error:
            if lost := lost_cause(error):
                self._lose()
                raise lost from lost.__cause__
            late = cause_of(error, (ValueError, optuna.exceptions.UpdateFinishedTrialError))
            if late is None or not self._ended_by_others(study):
                raise
        else:
            self.ended += 1

    def _lose(self) -> None:
        if self._number is not None:
            self._lost.add(self._number)

    def _ended_by_others(self, study: optuna.Study) -> bool:
        """Whether the trial that was begun last has ended."""
        trials = study.get_trials(deepcopy=False)
        return any(t.number == self._number and t.state.is_finished() for t in trials)

    def release(self, study: optuna.Study) -> None:
        """Leave the trials that this worker began and is not at to whoever is next."""
        for trial in study.get_trials(deepcopy=False):
            mine = trial.number in self._lost or claimed_by(self._shared.storage, trial)
            if trial.state is TrialState.RUNNING and mine:
                self._lost.add(trial.number)
                try:
                    storage = self._shared.storage
                    storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                except optuna.exceptions.UpdateFinishedTrialError:
                    self._lost.discard(trial.number)  # thought dead just now, and put up again
        if self._lost:
            self._put_up_again(study)

    def _put_up_again(self, study: optuna.Study) -> None:
        trials = study.get_trials(deepcopy=False)
        again = {number for trial in trials for number in trial.system_attrs.get(RETRIED, ())}
        for trial in trials:
            waiting = trial_again(trial)
            if trial.number in self._lost - again and _died(trial) and waiting is not None:
                study.add_trial(waiting)
        self._lost.clear()

    def __call__(self, trial: optuna.Trial) -> Sequence[float]:
        """The objectives of the plan that a trial stands for."""
        shared, self._number = self._shared, trial.number
        trial.study.sampler = shared.sampler_of(trial.number)
        plan = shared.space.plan(trial)
        trial.set_user_attr(_PLAN, plan.model_dump(mode="json"))
        judged = shared.judge.judged(self._evaluate([plan])[0])
        if judged.state != "COMPLETE":
            trial.set_user_attr(WHY, judged.why)
            raise _FailedError if judged.state == "FAIL" else optuna.TrialPruned
        trial.set_user_attr(_SECONDS, judged.seconds)
        if judged.accuracy_cost is not None:
            trial.set_user_attr(_COST, judged.accuracy_cost)
        limit(trial, judged)
        return judged.values


def _trial(trial: FrozenTrial) -> Trial:
    """A trial that ended, read back from the storage."""
    noted = trial.user_attrs
    return Trial(
        plan=Plan.model_validate(noted[_PLAN]),
        seconds=noted.get(_SECONDS, float("inf")),
        state=cast(State, trial.state.name),
        why=noted.get(WHY, ""),
        params=trial.params,
        values=tuple(trial.values or ()),
        excess=trial.constraints,
        accuracy_cost=noted.get(_COST),
    )
