"""Where studies are kept: PostgreSQL, SQLite or a journal file, each ready for what may fail."""

import json
import os
import random
import stat
import time
import uuid
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import get_lock_file
from optuna.trial import FrozenTrial, TrialState

from isotune.simulator.errors import InputError
from isotune.simulator.io import masked, secrets_in

GRACE_S = 30
"""Seconds without a sign of life after which a worker is taken for dead."""
RETRIES = 10
"""Times a trial is put up again after its worker died: its plan may be what killed it."""
LOST = (StorageInternalError, OSError)
"""What a storage raises that is away for a while: a server that restarts, a full disk."""
_STARTS = 10
"""Times a database is opened anew, as several first starts may make its tables at once."""
WHY = "why"
"""The attribute of a trial that says why it has no result, if the reason is its own."""
RETRIED = "retry_history"
"""The attribute of a trial that was put up again: the numbers of those before it."""
_WORKER = "isotune:worker"
"""The attribute of a trial that names who claimed it."""
_MOST_LOG = 1 << 20

Note = Callable[[str], None]


def open_storage(url: str, grace_s: int = GRACE_S, on_note: Note = lambda _: None) -> BaseStorage:
    """The storage at `postgresql://`, `sqlite:///file` or `journal:///file`.

    In a database a trial fails whose worker shows no life for `grace_s` seconds. `on_note` hears
    of a journal's last line that was cut, since whoever wrote it did not come to its end.

    Raises:
        InputError: an unknown kind, a missing package, a server or file that is not there, or a
            file that is no journal.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kind, _, rest = url.partition("://")
    if kind not in ("postgresql", "sqlite", "journal") or not rest.strip("/"):
        raise InputError(
            f"storage: {masked(url)!r:.100} (allowed: postgresql://user@host/database, "
            "sqlite:///file, journal:///file)"
        )
    engine: dict[str, Any]
    if kind == "journal":
        return _journal(Path(rest.removeprefix("/")), on_note)
    if kind == "postgresql":
        _check_url(url)
        url, engine = f"postgresql+psycopg://{rest}", {"pool_pre_ping": True}
    else:
        engine = {"connect_args": {"timeout": 60}}
    try:
        return _database(url, engine, grace_s)
    except ImportError as error:
        raise InputError(
            "storage: PostgreSQL needs psycopg (pip install 'isotune[distributed]')"
        ) from error
    except Exception as error:
        raise InputError(f"storage: cannot open {kind}://...: {reason_of(error, url)}") from error


def reason_of(error: BaseException, url: str = "") -> str:
    """The first line of what a storage complains of, without passwords."""
    cause = error.__cause__ or error
    first = next(iter(str(cause).splitlines()), "") or type(cause).__name__
    return masked(first, secrets_in(url))[:300]


def lost_cause(error: BaseException) -> BaseException | None:
    """The failure of a storage that an error came of, if it did."""
    return cause_of(error, LOST)


def cause_of(error: BaseException, kinds: tuple[type[BaseException], ...]) -> BaseException | None:
    """The first error of these kinds that an error is or came of: Optuna may hide it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, kinds):
        cause = cause.__cause__ or cause.__context__
    return cause


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


class _Database(RDBStorage):
    """Optuna's database, in which what belongs together is one commit.

    A trial is claimed with its worker's name and first sign of life: whoever loses the answer finds
    the trial by its name, and a worker that dies right after it is found dead. A trial that fails
    for no reason of its own is put up again with it. A sign of life that is lost later is no
    failure of a trial.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.worker = uuid.uuid4().hex

    def record_heartbeat(self, trial_id: int) -> None:
        """Show that the worker of a trial lives; a lost connection is tried at the next beat."""
        with suppress(*LOST):
            super().record_heartbeat(trial_id)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """See Optuna's."""
        if state is TrialState.RUNNING:
            return self._claim(trial_id)
        if state is TrialState.FAIL:
            return self._fail(trial_id)
        return super().set_trial_state_values(trial_id, state, values)

    def _claim(self, trial_id: int) -> bool:
        """Whether this worker, and no other, now runs a trial that waited."""
        now = {"state": TrialState.RUNNING, "datetime_start": datetime.now()}
        with _create_scoped_session(self.scoped_session) as session:
            claimed = self._turned(session, trial_id, (TrialState.WAITING,), now)
            if claimed:
                self._sign(session, trial_id)
        return claimed

    def _fail(self, trial_id: int) -> bool:
        from optuna.storages._rdb import models

        kind = models.TrialModel
        now = {"state": TrialState.FAIL, "datetime_complete": datetime.now()}
        with _create_scoped_session(self.scoped_session) as session:
            study_id = session.query(kind.study_id).filter_by(trial_id=trial_id).scalar()
            # As Optuna does before it numbers a new trial.
            models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
            before = (TrialState.RUNNING, TrialState.WAITING)
            failed = self._turned(session, trial_id, before, now)
            if failed:
                trial = kind.find_or_raise_by_id(trial_id, session)
                again = trial_again(self._build_frozen_trial_from_trial_model(trial))
                if again is not None:
                    self._get_prepared_new_trial(study_id, again, session)
        return failed

    def _turned(
        self,
        session: Any,
        trial_id: int,
        before: tuple[TrialState, ...],
        now: dict[str, Any],
    ) -> bool:
        """Whether a trial was in a state before, and is in another now.

        One statement asks and writes: SQLite locks no row that was only read.

        Raises:
            UpdateFinishedTrialError: it has ended.
        """
        from optuna.storages._rdb import models

        kind: Any = models.TrialModel
        chosen = session.query(kind).filter(kind.trial_id == trial_id, kind.state.in_(before))
        if chosen.update(now, synchronize_session=False):
            return True
        trial: Any = kind.find_or_raise_by_id(trial_id, session)
        self.check_trial_is_updatable(trial_id, trial.state)
        return False

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Any
    ) -> Any:
        trial: Any = super()._get_prepared_new_trial(study_id, template_trial, session)
        if trial.state is TrialState.RUNNING:
            self._sign(session, trial.trial_id)
        return trial

    def _sign(self, session: Any, trial_id: int) -> None:
        from optuna.storages._rdb import models

        self._set_trial_attr_without_commit(
            session, models.TrialSystemAttributeModel, trial_id, _WORKER, self.worker
        )
        session.add(models.TrialHeartbeatModel(trial_id=trial_id))


def claimed_by(storage: BaseStorage, trial: FrozenTrial) -> bool:
    """Whether a trial was last claimed through this object, as far as the storage tells."""
    return isinstance(storage, _Database) and trial.system_attrs.get(_WORKER) == storage.worker


def _database(url: str, engine: dict[str, Any], grace_s: int) -> RDBStorage:
    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    for attempt in range(_STARTS):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return _Database(
                    url,
                    engine_kwargs=engine,
                    heartbeat_interval=max(1, grace_s // 5),
                    grace_period=grace_s,
                )
        except (SQLAlchemyError, StorageInternalError) as error:
            # Tables that another first start is making; not a server that is away.
            if isinstance(error, OperationalError) and url.startswith("postgresql"):
                raise
            if attempt == _STARTS - 1:
                raise
            time.sleep(random.uniform(0.05, 0.3))  # noqa: S311
    raise AssertionError  # the last attempt has returned or raised


def trial_again(trial: FrozenTrial) -> FrozenTrial | None:
    """A trial to wait in the place of a failed one; none if that failed for a reason of its own.

    What fails `RETRIES` times may be what kills its workers.
    """
    history = [*trial.system_attrs.get(RETRIED, ()), trial.number]
    if WHY in trial.user_attrs or len(history) > RETRIES:
        return None
    return optuna.create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        system_attrs=trial.system_attrs | {RETRIED: history},
    )


class _Journal(JournalFileBackend):
    """Optuna's journal, which writes logs whole or not at all, whatever a disk or a kill does."""

    def __init__(self, path: Path, on_note: Note) -> None:
        self._path, self._on_note = path, on_note
        super().__init__(str(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append logs; a torn line before them is cut, and they are if they do not fit."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with get_lock_file(self._lock), self._path.open("r+b", buffering=0) as file:
            end = _sound_end(file)
            if end < file.seek(0, os.SEEK_END):
                self._on_note(f"{self._path}: the last line was torn, and is cut")
                file.truncate(end)
            file.seek(end)
            try:
                left = memoryview(lines.encode())
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise


def _sound_end(file: Any) -> int:
    """Where the last whole line of a file ends."""
    end: int = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - _MOST_LOG)
        file.seek(begin)
        last = file.read(end - begin).rfind(b"\n")
        if last >= 0:
            return begin + int(last) + 1
        end = begin
    return 0


def _journal(path: Path, on_note: Note) -> JournalStorage:
    """The journal in a file, which is made if it is not there.

    Raises:
        InputError: it is no journal, or cannot be read or written.
    """
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"storage: {path} is no file (allowed: a journal, or a new file)")
        if path.exists():
            with path.open("rb") as file:
                first = file.readline(_MOST_LOG)
            if first.endswith(b"\n") or not b'{"op_code":'.startswith(first[:11]):
                _check_log(path, first)
        backend = _Journal(path, on_note)
        backend.append_logs([])  # cuts a torn line
        return JournalStorage(backend)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"storage: cannot open {path}: {reason}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"storage: {path} is a damaged journal ({error!s:.120})") from error


def _check_log(path: Path, line: bytes) -> None:
    """Refuse a file whose first line is no log of Optuna's.

    Raises:
        InputError: it would be appended to otherwise.
    """
    try:
        log = json.loads(line)
        known = isinstance(log, dict) and "op_code" in log
    except ValueError:
        known = False
    if not known:
        raise InputError(
            f"storage: {path} is no journal of studies (allowed: a journal, or a new file)"
        )
