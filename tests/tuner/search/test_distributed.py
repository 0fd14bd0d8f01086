"""One search by many workers: killing some loses no trial."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import optuna
import pytest
from _support.shared_studies import (
    DEADLY,
    TRIALS,
    case,
    deadly,
    shared,
    slow,
    start,
    worker,
)

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
    run(initdb, "-D", data, "-U", "isotune", "-A", "trust", "--no-sync")
    options = f"-c listen_addresses='' -c fsync=off -k {folder}"
    run(pg_ctl, "-D", data, "-w", "-o", options, "-l", str(folder / "log"), "start")
    try:
        yield f"postgresql://isotune@/postgres?host={folder}"
    finally:
        run(pg_ctl, "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["postgresql", "sqlite", "journal"])
def url(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("postgres")
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
