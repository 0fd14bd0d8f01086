"""One search by many processes and machines, through Optuna's own storage.

The number of trials is agreed on first: each is a *slot*, a waiting trial in the study. A worker
claims one (a compare-and-set in the storage), shows that it lives while it evaluates, and tells.
A worker that dies stops showing so; whoever sees that fails its trial and puts the slot up
again. A slot counts once: among several trials of a slot only the first that is not dead runs on,
and a worker thought dead finds its trial finished and its result is not taken. So no trial is
lost and none is counted twice, whichever workers are killed, and a search that was stopped goes
on when anyone joins.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from isotune.simulator.errors import InputError
from isotune.simulator.schedule import Plan
from isotune.tuner.choices import SamplerName
from isotune.tuner.search.objectives import Evaluator, Judge, Outcome
from isotune.tuner.search.samplers import sampler_of
from isotune.tuner.search.study import (
    OVER,
    Evaluated,
    Progress,
    Trials,
    importances,
    limits_of,
    pareto,
)
from isotune.tuner.space import Space

GRACE = 30.0
"""Seconds without a sign of life after which a worker is taken for dead."""
_SLOT, _BEAT, _WHY, _PLAN, _SECONDS = "slot", "beat", "why", "plan", "seconds"
_TAKEN = optuna.exceptions.UpdateFinishedTrialError
RETRIES = 10
"""Times a slot is put up again after its worker died before it counts as failed."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A study in a storage: what is searched, how judged, and how many trials in all."""

    storage: BaseStorage
    name: str
    space: Space
    judge: Judge
    trials: int
    seed: int = 0
    sampler: SamplerName = "auto"
    grace: float = GRACE


def open_storage(url: str) -> BaseStorage:
    """The storage at `postgresql://`, `sqlite:///file` or `journal:///file`.

    Raises:
        InputError: an unknown kind, a missing package, or a server or file that is not there.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kind, _, rest = url.partition("://")
    if kind not in ("postgresql", "sqlite", "journal") or not rest.strip("/"):
        raise InputError(
            f"storage: {url!r} (allowed: postgresql://user@host/database, sqlite:///file, "
            "journal:///file)"
        )
    try:
        if kind == "journal":
            return JournalStorage(JournalFileBackend(rest.removeprefix("/")))
        if kind == "postgresql":
            return RDBStorage(f"postgresql+psycopg://{rest}", engine_kwargs={"pool_pre_ping": True})
        return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
    except ImportError as error:
        raise InputError(
            "storage: PostgreSQL needs psycopg (pip install 'isotune[distributed]')"
        ) from error
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"storage: cannot open {kind}://...: {reason}") from error


def create(shared: Shared, starts: list[Plan], definition: dict[str, Any]) -> None:
    """Put the study up with all its slots, or leave the one of that name as it is.

    Raises:
        InputError: a study of that name exists and searches something else.
    """
    directions = [optuna.study.StudyDirection.MINIMIZE] * len(shared.judge.objectives)
    study = optuna.create_study(
        storage=shared.storage,
        study_name=shared.name,
        directions=directions,
        load_if_exists=True,
    )
    known = study.user_attrs.get("definition")
    if known is not None and known != definition:
        raise InputError(
            f"study {shared.name!r} exists and searches something else "
            f"({_difference(known, definition)}); choose another --study, "
            "or --join it"
        )
    study.set_user_attr("definition", definition)
    first = [shared.space.parameters(plan) for plan in starts[: shared.trials]]
    study.set_user_attr("starts", first)
    _put_up(study, shared, _slots(study.get_trials(deepcopy=False)))


def _difference(known: dict[str, Any], asked: dict[str, Any]) -> str:
    """The first setting that two definitions do not share."""
    key = next(key for key in known | asked if known.get(key) != asked.get(key))
    one, two = known.get(key), asked.get(key)
    if isinstance(one, dict) and isinstance(two, dict):
        return _difference(one, two)
    return f"{key} {one!s:.40}, not {two!s:.40}"


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


def work(shared: Shared, evaluate: Evaluator, progress: Progress | None = None) -> Trials:
    """Evaluate slots until all are done, by whomever; Ctrl-C hands the current one back."""
    begun, mine = time.perf_counter(), 0
    interrupted = False
    watch = _Watch(shared.grace)
    try:
        while True:
            study = optuna.load_study(study_name=shared.name, storage=shared.storage)
            trials = study.get_trials(deepcopy=False)
            slots = _slots(trials)
            done = sum(_settled(shared, slot) for slot in slots.values())
            if progress:
                progress(done, shared.trials)
            if done >= shared.trials:
                break
            claimed = _claim(shared, trials)
            if claimed is not None:
                mine += _evaluate(shared, study, claimed, evaluate)
                continue
            watch.fail_dead(shared.storage, trials)
            _put_up(study, shared, _slots(study.get_trials(deepcopy=False)))
            time.sleep(min(0.2, shared.grace / 10))
    except KeyboardInterrupt:
        interrupted = True
    return _result(shared, time.perf_counter() - begun, mine, interrupted)


_Slots = dict[int, list[FrozenTrial]]


def _slots(trials: list[FrozenTrial]) -> _Slots:
    """Trials by slot, those of one slot in order; the dead are left out."""
    slots: _Slots = {}
    for trial in trials:
        slot = trial.user_attrs.get(_SLOT)
        if slot is not None and not _dead(trial):
            slots.setdefault(slot, []).append(trial)
    return slots


def _dead(trial: FrozenTrial) -> bool:
    """Whether it failed without a reason of its own: its worker died or handed it back."""
    return trial.state is TrialState.FAIL and _WHY not in trial.user_attrs


def _settled(shared: Shared, slot: list[FrozenTrial]) -> bool:
    inside = slot[0].user_attrs[_SLOT] < shared.trials
    return inside and any(trial.state.is_finished() for trial in slot)


def _put_up(study: optuna.Study, shared: Shared, slots: _Slots) -> None:
    """Enqueue every slot that no living trial stands for."""
    first = study.user_attrs.get("starts", [])
    died = Counter(
        trial.user_attrs.get(_SLOT) for trial in study.get_trials(deepcopy=False) if _dead(trial)
    )
    for slot in range(shared.trials):
        if slot not in slots:
            fixed = first[slot] if slot < len(first) else {}
            why = {_WHY: f"its worker died {died[slot]} times"} if died[slot] >= RETRIES else {}
            study.enqueue_trial(fixed, user_attrs={_SLOT: slot} | why)


def _claim(shared: Shared, trials: list[FrozenTrial]) -> int | None:
    """The id of a waiting trial that is now ours; None if there is none to have."""
    slots = _slots(trials)
    for trial in trials:
        if trial.state is not TrialState.WAITING or _SLOT not in trial.user_attrs:
            continue
        try:
            if not shared.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                continue
        except _TAKEN:
            continue
        rivals = _slots(shared.storage.get_all_trials(_study_id(shared), deepcopy=False))
        living = rivals.get(trial.user_attrs[_SLOT], slots[trial.user_attrs[_SLOT]])
        finished = any(other.state.is_finished() for other in living)
        if finished or living[0].number < trial.number or _WHY in trial.user_attrs:
            _fail(shared.storage, trial._trial_id)
            continue
        return trial._trial_id
    return None


def _fail(storage: BaseStorage, trial: int) -> None:
    """End a trial without a reason, unless another worker has ended it already."""
    with suppress(_TAKEN):
        storage.set_trial_state_values(trial, TrialState.FAIL)


def _study_id(shared: Shared) -> int:
    return shared.storage.get_study_id_from_name(shared.name)


def _evaluate(shared: Shared, study: optuna.Study, claimed: int, evaluate: Evaluator) -> int:
    """Run one claimed trial to its end; 1 if its result was taken, 0 if we were thought dead."""
    slot = shared.storage.get_trial(claimed).user_attrs[_SLOT]
    limits = limits_of if shared.judge.over(Plan(), 0.0) else None
    seed = shared.seed * 1_000_003 + slot
    study.sampler = sampler_of(shared.sampler, seed, len(shared.judge.objectives), limits)
    try:
        with _signs_of_life(shared, claimed):
            trial = optuna.trial.Trial(study, claimed)
            plan = shared.space.plan(trial)
            trial.set_user_attr(_PLAN, plan.model_dump(mode="json"))
            _tell(study, trial, shared.judge, plan, evaluate([plan])[0])
    except _TAKEN:
        return 0
    except KeyboardInterrupt:
        _fail(shared.storage, claimed)
        raise
    return 1


def _tell(
    study: optuna.Study, trial: optuna.trial.Trial, judge: Judge, plan: Plan, outcome: Outcome
) -> None:
    """Report an outcome.

    Raises:
        UpdateFinishedTrialError: the trial was taken from us meanwhile.
    """
    if outcome.seconds is None:
        trial.set_user_attr(_WHY, outcome.why)
        state = TrialState.FAIL if outcome.failed else TrialState.PRUNED
        study._storage.set_trial_state_values(trial._trial_id, state)
        return
    over = judge.over(plan, outcome.seconds)
    trial.set_user_attr(_SECONDS, outcome.seconds)
    trial.set_user_attr(OVER, over)
    values = judge.values(plan, outcome.seconds)
    # Not Study.tell, which answers a finished trial with a ValueError like any other.
    study._storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, values)


@contextmanager
def _signs_of_life(shared: Shared, trial: int) -> Iterator[None]:
    """Change a mark in the storage several times per grace period."""
    stop = threading.Event()

    def beat() -> None:
        count = 0
        while not stop.wait(shared.grace / 5):
            count += 1
            try:
                shared.storage.set_trial_user_attr(trial, _BEAT, count)
            except Exception:
                if stop.is_set():
                    return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class _Watch:
    """Remembers when each running trial last showed life, by this machine's own clock."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._seen: dict[int, tuple[object, float]] = {}

    def fail_dead(self, storage: BaseStorage, trials: list[FrozenTrial]) -> None:
        now = time.monotonic()
        for trial in trials:
            if trial.state is not TrialState.RUNNING:
                continue
            mark = trial.user_attrs.get(_BEAT)
            last, since = self._seen.setdefault(trial._trial_id, (mark, now))
            if last != mark:
                self._seen[trial._trial_id] = mark, now
            elif now - since > self._grace:
                _fail(storage, trial._trial_id)


def _result(shared: Shared, seconds: float, mine: int, interrupted: bool) -> Trials:
    study = optuna.load_study(study_name=shared.name, storage=shared.storage)
    seen: list[Evaluated] = []
    why: Counter[str] = Counter()
    pruned = failed = 0
    for trial in _counted(study.get_trials(deepcopy=False)):
        if trial.state is TrialState.COMPLETE:
            seen.append(_evaluated(trial))
            continue
        why[trial.user_attrs.get(_WHY, "")] += 1
        failed += trial.state is TrialState.FAIL
        pruned += trial.state is TrialState.PRUNED
    feasible = [item for item in seen if item.feasible]
    best = min(feasible, key=lambda item: item.seconds, default=None)
    return Trials(
        run=len(seen) + pruned + failed,
        pruned=pruned,
        failed=failed,
        seconds=seconds,
        best=best,
        front=pareto(feasible),
        importances=importances(study, shared.judge, best),
        why=dict(why),
        interrupted=interrupted,
        mine=mine,
    )


def _counted(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The one finished trial of each slot."""
    found: list[FrozenTrial] = []
    for slot in _slots(trials).values():
        found += [trial for trial in slot if trial.state.is_finished()][:1]
    return found


def _evaluated(trial: FrozenTrial) -> Evaluated:
    return Evaluated(
        plan=Plan.model_validate(trial.user_attrs[_PLAN]),
        seconds=trial.user_attrs[_SECONDS],
        values=tuple(trial.values),
        feasible=all(excess <= 1e-12 for excess in limits_of(trial)),
    )
