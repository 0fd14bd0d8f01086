"""One search by many processes and machines, through Optuna's own storage.

Workers take trials until the study has as many as were agreed on. In a database Optuna's heartbeat
shows that a worker lives; the trial of a dead one fails and is put up again with the same
parameters, as is that of a worker that is interrupted. A worker thought dead finds its trial
finished, and its result is not taken. So no work is lost whichever workers are killed, and a
search that was stopped goes on when anyone joins. A trial or two more than agreed on may run, as
several workers can begin the last one at once.

A journal file has no heartbeat: there, a trial that has run longer than the grace period is no
longer waited for, and a new one takes its place.
"""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import optuna
from optuna.storages import (
    BaseStorage,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
    fail_stale_trials,
)
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from isotune.simulator.errors import InputError, IsotuneError
from isotune.simulator.io import masked, secrets_in
from isotune.simulator.schedule import Plan
from isotune.tuner.choices import SamplerName
from isotune.tuner.search.objectives import Evaluate, Judge
from isotune.tuner.search.samplers import sampler_of
from isotune.tuner.search.study import Progress, Trials, limit
from isotune.tuner.search.trial import State, Trial
from isotune.tuner.space import Space

GRACE_S = 30
"""Seconds without a sign of life after which a worker is taken for dead."""
RETRIES = 10
"""Times a trial is put up again after its worker died: its plan may be what killed it."""
PATIENCE = 10
"""Grace periods after which a trial is not waited for, although its heartbeat may tell: a worker
that dies before its first beat is never found dead."""
_WHY, _PLAN, _SECONDS, _COST = "why", "plan", "seconds", "accuracy_cost"


@dataclass(frozen=True, kw_only=True)
class SharedStudy:
    """A study in a storage: what is searched, how judged, and how many trials in all.

    No trial begins after `deadline` (seconds of `time.monotonic`).
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

    def sampler_of(self, trial: int) -> optuna.samplers.BaseSampler:
        """The sampler of a trial: its seed does not depend on who runs it."""
        seed = self.seed * 1_000_003 + trial
        return sampler_of(self.sampler, seed, len(self.judge.objectives))


def open_storage(url: str, grace_s: int = GRACE_S) -> BaseStorage:
    """The storage at `postgresql://`, `sqlite:///file` or `journal:///file`.

    In a database a trial fails whose worker shows no life for `grace_s` seconds.

    Raises:
        InputError: an unknown kind, a missing package, or a server or file that is not there.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kind, _, rest = url.partition("://")
    if kind not in ("postgresql", "sqlite", "journal") or not rest.strip("/"):
        raise InputError(
            f"storage: {masked(url)!r:.100} (allowed: postgresql://user@host/database, "
            "sqlite:///file, journal:///file)"
        )
    if kind == "postgresql":
        _check_url(url)
    try:
        if kind == "journal":
            return JournalStorage(JournalFileBackend(rest.removeprefix("/")))
        if kind == "postgresql":
            return _database(f"postgresql+psycopg://{rest}", {"pool_pre_ping": True}, grace_s)
        return _database(url, {"connect_args": {"timeout": 60}}, grace_s)
    except ImportError as error:
        raise InputError(
            "storage: PostgreSQL needs psycopg (pip install 'isotune[distributed]')"
        ) from error
    except Exception as error:
        reason = masked(_reason(error), secrets_in(url))
        raise InputError(f"storage: cannot open {kind}://...: {reason}") from error


def _check_url(url: str) -> None:
    """Refuse what is no URL, without a word of it: a part may be of the password.

    Raises:
        InputError: say what to do with a password.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        user = make_url(url).username or ""
    except (ArgumentError, ValueError):
        user = ":"
    if ":" in user or "/" in user:
        raise InputError(
            "storage: postgresql://... is no URL (allowed: postgresql://user@host/database; in a "
            "password / : @ ? # are written %2F %3A %40 %3F %23)"
        )


def _reason(error: Exception) -> str:
    """The first line of an error, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _put_up_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Enqueue the parameters of a trial whose worker died or was interrupted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, trial)


def _database(url: str, engine: dict[str, Any], grace_s: int) -> RDBStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return RDBStorage(
            url,
            engine_kwargs=engine,
            heartbeat_interval=max(1, grace_s // 5),
            grace_period=grace_s,
            heartbeat_stale_trial_callback=_put_up_again,
        )


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
    """Run trials until the study has `trials` of them; on Ctrl-C the current one is released."""
    begun, own_trials, interrupted = time.perf_counter(), 0, False
    study = optuna.load_study(study_name=shared.name, storage=shared.storage)
    worker = _Worker(shared, evaluate)
    try:
        while time.monotonic() < shared.deadline:
            trials = study.get_trials(deepcopy=False)
            ended = len(_counted(trials))
            if progress:
                progress(min(ended, shared.trials), shared.trials)
            if ended >= shared.trials:
                break
            if ended + sum(_runs(shared, trial) for trial in trials) < shared.trials:
                own_trials += worker.run_one(study)
            else:
                _wait(shared, study)
    except KeyboardInterrupt:
        interrupted = True
    return Trials.of(
        study,
        shared.judge,
        {trial.number: _trial(trial) for trial in _counted(study.get_trials(deepcopy=False))},
        seconds=time.perf_counter() - begun,
        mine=own_trials,
        interrupted=interrupted,
    )


def _counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Trials that ended with a result or for a reason of their own: no dead worker's."""
    return [
        trial
        for trial in trials
        if trial.state.is_finished()
        and (trial.state is not TrialState.FAIL or _WHY in trial.user_attrs)
    ]


def _runs(shared: SharedStudy, trial: FrozenTrial) -> bool:
    """Whether a worker is at a trial, as far as its age tells."""
    if trial.state is not TrialState.RUNNING:
        return False
    patience = PATIENCE if isinstance(shared.storage, RDBStorage) else 1
    begun = trial.datetime_start
    return begun is not None and time.time() - begun.timestamp() <= patience * shared.grace_s


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
        self._number = 0

    def run_one(self, study: optuna.Study) -> bool:
        """Run one trial; False if its result was not taken, since we were thought dead.

        Raises:
            KeyboardInterrupt: Ctrl-C; the trial is put up again.
        """
        expected = _FailedError, optuna.exceptions.UpdateFinishedTrialError
        try:
            study.optimize(self, n_trials=1, catch=expected)
        except KeyboardInterrupt:
            trial = study.get_trials()[self._number]
            if trial.state is TrialState.FAIL and _WHY not in trial.user_attrs:
                _put_up_again(study, trial)
            raise
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
            if not study.get_trials(deepcopy=False)[self._number].state.is_finished():
                raise
            return False
        return True

    def __call__(self, trial: optuna.Trial) -> Sequence[float]:
        """The objectives of the plan that a trial stands for."""
        shared, self._number = self._shared, trial.number
        trial.study.sampler = shared.sampler_of(trial.number)
        plan = shared.space.plan(trial)
        trial.set_user_attr(_PLAN, plan.model_dump(mode="json"))
        judged = shared.judge.judged(self._evaluate([plan])[0])
        if judged.state != "COMPLETE":
            trial.set_user_attr(_WHY, judged.why)
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
        why=noted.get(_WHY, ""),
        params=trial.params,
        values=tuple(trial.values or ()),
        excess=trial.constraints,
        accuracy_cost=noted.get(_COST),
    )
