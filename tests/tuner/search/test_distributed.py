"""One search by many workers: killing some loses no trial."""

import errno
import itertools
import os
import pwd
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import optuna
import psycopg
import pytest
from _support.shared_studies import (
    DEADLY,
    TRIALS,
    case,
    deadly,
    first_start,
    shared,
    slow,
    start,
    worker,
)
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from isotune.simulator.errors import InputError
from isotune.simulator.schedule import Plan
from isotune.tuner.search import Evaluator, create, definition_of, open_storage, starts, work

# Optuna's pools close their connections when they are collected.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
WORKERS, KILLED = 8, 3
DEFINITION = {"what": "test", "options": {"trials": 8}}


def pg_binary(name):
    found = shutil.which(name)
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return found or (str(versions[-1]) if versions else None)


class Server(NamedTuple):
    """A PostgreSQL server: where it is, and how it restarts without a word to its clients."""

    url: str
    restart: Callable[[], None]

    def database(self, name):
        """A new, empty database of this server."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url.replace("/postgres?", f"/{name}?")

    def drop_connections(self):
        """End every other connection; how many there were."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            return ended.rowcount


@pytest.fixture(scope="module")
def postgres():
    """A throw-away cluster on a socket of its own."""
    initdb, pg_ctl = pg_binary("initdb"), pg_binary("pg_ctl")
    if not (initdb and pg_ctl):
        if os.environ.get("ISOTUNE_REQUIRE_POSTGRES"):
            pytest.fail("PostgreSQL is required here and not installed")
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short, as a socket's path must be
    before = []
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        before = ["runuser", "-u", "postgres", "--"]

    def run(*command):
        subprocess.run([*before, *command], check=True, capture_output=True, cwd=folder)

    data = str(folder / "data")
    start = (pg_ctl, "-D", data, "-w", "-l", str(folder / "log"))
    run(initdb, "-D", data, "-U", "isotune", "-A", "trust", "--no-sync")
    options = f"-c listen_addresses='' -c fsync=off -k {folder}"
    run(*start, "-o", options, "start")
    url = f"postgresql://isotune@/postgres?host={folder}"
    try:
        yield Server(url, lambda: run(*start, "-o", options, "-m", "immediate", "restart"))
    finally:
        run(pg_ctl, "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["postgresql", "sqlite", "journal"])
def url(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("postgres").url
    return f"{request.param}:///{tmp_path}/study.{request.param}"


def plans(storage, state=optuna.trial.TrialState.COMPLETE):
    """The plans of the trials in a state."""
    study = optuna.load_study(study_name="one", storage=storage)
    trials = study.get_trials(deepcopy=False, states=(state,))
    return [Plan.model_validate(trial.user_attrs["plan"]) for trial in trials]


def test_killed_workers_lose_no_trial(url):
    there = shared(url)
    first = list(starts(there.space, None))
    create(there, first, DEFINITION)
    workers = [start(worker, url) for _ in range(WORKERS)]
    while len(plans(there.storage)) < TRIALS // 10:
        assert any(process.is_alive() for process in workers), "all workers died"
        time.sleep(0.3)
    for process in workers[:KILLED]:
        os.kill(process.pid, signal.SIGKILL)
    for process in workers[KILLED:]:
        process.join(timeout=120)
        assert process.exitcode == 0
    assert TRIALS <= len(plans(there.storage)) <= TRIALS + WORKERS - KILLED
    if "journal" not in url:  # which cannot tell that a worker died
        assert set(first) <= set(plans(there.storage)), "what the killed were at was run again"


def test_a_search_that_was_stopped_goes_on_and_ends_as_if_it_never_was(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    there = shared(url, trials=12)
    create(there, [], DEFINITION)
    calls = []

    def stopped(plan):
        calls.append(plan)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return 1.0

    first = work(there, Evaluator(case(), stopped))
    assert first.interrupted
    assert first.run == first.mine < 12
    second = work(shared(url, trials=12), Evaluator(case(), lambda plan: float(len(plan.chunks))))
    assert (second.run, second.mine, second.interrupted) == (12, 12 - first.run, False)
    assert len(plans(there.storage)) == 12
    assert calls[-1] in plans(there.storage), "the interrupted plan was run again"


def test_a_plan_that_kills_its_workers_is_not_tried_for_ever(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    there = shared(url, trials=3)
    create(there, [DEADLY], DEFINITION)
    codes = []
    for _ in range(3):
        process = start(deadly, url)
        process.join(timeout=60)
        codes.append(process.exitcode)
    assert codes == [1, 1, 0], "once, once more, and no more"
    assert len(plans(there.storage)) == 3
    assert plans(there.storage, optuna.trial.TrialState.FAIL) == [DEADLY, DEADLY]


def test_no_trial_begins_after_the_deadline(tmp_path):
    there = shared(f"journal:///{tmp_path}/study.log", deadline=time.monotonic() - 1.0)
    create(there, [], DEFINITION)
    assert work(there, Evaluator(case(), slow)).run == 0


def test_an_objective_that_fails_is_not_retried(tmp_path):
    there = shared(f"journal:///{tmp_path}/study.log", trials=5)
    create(there, [], DEFINITION)
    found = work(there, Evaluator(case(), lambda _: 1 / 0))
    assert (found.run, found.failed, found.best) == (5, 5, None)
    assert sum(found.why.values()) == 5


def test_joining_what_is_not_there_names_what_is(tmp_path):
    there = shared(f"sqlite:///{tmp_path}/study.db")
    create(there, [], DEFINITION)
    with pytest.raises(InputError, match=r"no study 'two' in this storage \(there are: one\)"):
        definition_of(there.storage, "two")
    with pytest.raises(InputError, match=r"something else \(trials 8, not 9\)"):
        create(there, [], DEFINITION | {"options": {"trials": 9}})


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "study.db", "postgresql://"])
def test_an_unknown_storage_is_refused_with_the_allowed_kinds(url):
    with pytest.raises(InputError, match=r"allowed: postgresql://"):
        open_storage(url)


def test_a_server_that_is_not_there_is_one_line():
    with pytest.raises(InputError, match="cannot open postgresql") as error:
        open_storage("postgresql://nobody@127.0.0.1:1/none")
    assert "\n" not in str(error.value)


def test_dropped_connections_and_a_restarted_server_lose_and_double_nothing(postgres):
    url = postgres.database("dropped")
    there = shared(url)
    first = list(starts(there.space, None))
    create(there, first, DEFINITION)
    workers = [start(worker, url) for _ in range(WORKERS)]
    for disturb, share in (
        (postgres.drop_connections, 0.1),
        (postgres.restart, 0.3),
        (postgres.drop_connections, 0.45),
        (postgres.drop_connections, 0.6),
    ):
        while len(finished(url)) < TRIALS * share:
            assert any(process.is_alive() for process in workers), "all workers died"
            time.sleep(0.1)
        disturb()
    for process in workers:
        process.join(timeout=60)
    assert [process.exitcode for process in workers] == [0] * WORKERS
    study = optuna.load_study(study_name="one", storage=open_storage(url))
    trials = study.get_trials(deepcopy=False)
    states = [trial.state.name for trial in trials]
    assert "RUNNING" not in states
    assert TRIALS <= states.count("COMPLETE") < TRIALS + WORKERS
    assert set(first) <= set(plans(study._storage))
    again = [n for trial in trials for n in trial.system_attrs.get("retry_history", ())[-1:]]
    assert len(again) == len(set(again)), "no trial was put up again twice"
    found = work(shared(url), Evaluator(case(), slow))
    assert found.run_again == states.count("FAIL")


@pytest.mark.parametrize("lost_every", [7, 11])
def test_an_answer_that_is_lost_after_its_commit_leaves_no_trial_running(
    tmp_path, monkeypatch, lost_every
):
    """The database took what was sent, and the connection dropped before it said so."""
    there = shared(f"sqlite:///{tmp_path}/study.db", trials=12)
    first = list(starts(there.space, None))
    create(there, first, DEFINITION)
    commit, commits = Session.commit, itertools.count(1)

    def loses_answers(session):
        wrote = bool(session.new or session.dirty)
        commit(session)
        if wrote and next(commits) % lost_every == 0:
            raise OperationalError("COMMIT", {}, OSError("connection dropped"))

    with monkeypatch.context() as patch:
        patch.setattr(Session, "commit", loses_answers)
        patch.setattr(time, "sleep", lambda _: None)
        work(there, Evaluator(case(), lambda plan: float(len(plan.chunks))))
    study = optuna.load_study(study_name="one", storage=there.storage)
    trials = study.get_trials(deepcopy=False)
    states = [trial.state.name for trial in trials]
    assert (states.count("RUNNING"), states.count("COMPLETE")) == (0, 12)
    assert set(first) <= set(plans(there.storage))
    assert "FAIL" in states, "some answers were lost while a trial was under way"


def test_a_worker_that_dies_right_after_its_claim_is_found_dead(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    there = shared(url, trials=2, grace_s=1)
    create(there, [], DEFINITION)
    with pytest.warns(UserWarning, match="Heartbeat"):
        optuna.load_study(study_name="one", storage=open_storage(url)).ask()  # and no sign of life
    begun = time.monotonic()
    found = work(there, Evaluator(case(), lambda _: 1.0))
    assert (found.run, found.run_again) == (2, 1)
    assert time.monotonic() - begun < 10


def finished(url):
    """The trials with a result, asked over a connection of its own that may be dropped."""
    try:
        with psycopg.connect(url) as connection:
            return connection.execute("SELECT 1 FROM trials WHERE state = 'COMPLETE'").fetchall()
    except psycopg.Error:
        return []


@pytest.mark.parametrize("kind", ["postgresql", "sqlite", "journal"])
def test_eight_first_starts_on_nothing_all_succeed(request, tmp_path, kind):
    if kind == "postgresql":
        url = request.getfixturevalue("postgres").database("empty")
    else:
        url = f"{kind}:///{tmp_path}/study"
    workers = [start(first_start, url) for _ in range(WORKERS)]
    for process in workers:
        process.join(timeout=60)
    assert [process.exitcode for process in workers] == [0] * WORKERS
    assert definition_of(open_storage(url), "one") == DEFINITION


def test_a_storage_that_stays_away_ends_the_worker_in_one_line(tmp_path, monkeypatch):
    there = shared(f"sqlite:///{tmp_path}/study.db", patience_s=0.5)
    create(there, [], DEFINITION)

    def gone(*_, **__):
        raise StorageInternalError("gone\n") from OSError(
            "no route to postgresql://u:S3CRET@host/d"
        )

    def goes(_):
        monkeypatch.setattr(optuna.Study, "get_trials", gone)
        return 1.0

    words = (
        r"storage: lost it for 0.5 s \(no route to .*u:\*\*\*@host/d\).*the same command goes on"
    )
    with pytest.raises(InputError, match=words) as lost:
        work(there, Evaluator(case(), goes))
    assert str(lost.value).isprintable()


def test_a_torn_journal_is_cut_with_a_note_and_goes_on(tmp_path):
    path, notes = tmp_path / "study.log", []
    url = f"journal:///{path}"
    create(shared(url, trials=3), [], DEFINITION)
    work(shared(url, trials=3), Evaluator(case(), slow))
    whole = path.read_bytes()
    for torn in (10, 1):
        path.write_bytes(whole[:-torn])
        storage = open_storage(url, on_note=notes.append)
        assert path.read_bytes() == whole[: whole[:-1].rindex(b"\n") + 1]
        assert definition_of(storage, "one") == DEFINITION
        found = work(shared(url, trials=3), Evaluator(case(), slow))
        assert found.run >= 2
    assert [str(path) in note and "torn" in note for note in notes] == [True, True]


def test_a_disk_that_is_full_tears_no_line(tmp_path, monkeypatch):
    url = f"journal:///{tmp_path}/study.log"
    storage = open_storage(url)
    study = optuna.create_study(storage=storage, study_name="one")
    before = (tmp_path / "study.log").read_bytes()
    full = OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):  # noqa: PT012
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(full))
        study.set_user_attr("key", "value")
    assert (tmp_path / "study.log").read_bytes() == before
    study.set_user_attr("key", "value")
    assert optuna.load_study(study_name="one", storage=open_storage(url)).user_attrs == {
        "key": "value"
    }


def test_a_disk_that_takes_part_of_a_line_has_none_of_it(tmp_path):
    path, notes = tmp_path / "study.log", []
    study = optuna.create_study(
        storage=open_storage(f"journal:///{path}", on_note=notes.append), study_name="one"
    )
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        for _ in range(2):
            with pytest.raises(OSError, match="File too large"):
                study.set_user_attr("key", "value")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert notes == []


@pytest.mark.parametrize("text", ["my notes\n", "my notes", "{}\n", "[1]\n", '{"a": 1}\n', "\n\n"])
def test_a_file_that_is_no_journal_is_refused_and_stays_as_it_is(tmp_path, text):
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(InputError, match="is no journal of studies"):
        open_storage(f"journal:///{path}")
    assert path.read_text() == text


@pytest.mark.parametrize("path", ["/dev/full", "/dev/zero", "/tmp"])
def test_a_device_or_a_folder_is_no_journal(path):
    with pytest.raises(InputError, match="is no file"):
        open_storage(f"journal:///{path}")
