"""One search by many workers: killing some loses no trial and counts none twice."""

import multiprocessing
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from isotune.simulator.architecture import load_model
from isotune.simulator.errors import InputError
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Workload
from isotune.tuner.search import (
    Evaluator,
    Outcome,
    Shared,
    create,
    definition_of,
    open_storage,
    starts,
    work,
)
from isotune.tuner.search.objectives import Judge
from isotune.tuner.space import Space

# Optuna's pools close their connections when they are collected.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
TRIALS, WORKERS, KILLED = 40, 8, 3
DEFINITION = {"what": "test", "options": {"trials": 8}}


def case():
    return Scenario(
        model=replace(load_model("llama-2-70b"), num_hidden_layers=4),
        hardware=read_profile("a800"),
        workload=Workload(prompt=2048),
    )


def shared(url, **fields):
    scenario = case()
    fields = {"name": "one", "trials": TRIALS, "sampler": "random", "grace": 2.0} | fields
    return Shared(
        storage=open_storage(url),
        space=Space(scenario=scenario, strategies=("serial", "iso")),
        judge=Judge(scenario=scenario),
        **fields,
    )


def slow(plan):
    time.sleep(0.1)
    return float(len(plan.chunks) + 1)


def worker(url):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    work(shared(url), Evaluator(case(), slow))


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


def finished(storage):
    study = optuna.load_study(study_name="one", storage=storage)
    return Counter(
        trial.user_attrs["slot"]
        for trial in study.get_trials(deepcopy=False)
        if trial.state is optuna.trial.TrialState.COMPLETE
    )


def test_killed_workers_lose_no_trial_and_double_none(url):
    there = shared(url)
    create(there, list(starts(there.space, None)), DEFINITION)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["isotune.tuner.search.best_plan", "isotune.tuner.search.distributed", "sqlalchemy"]
    )
    workers = [context.Process(target=worker, args=(url,)) for _ in range(WORKERS)]
    for process in workers:
        process.start()
    while sum(finished(there.storage).values()) < TRIALS // 10:
        time.sleep(0.3)
    for process in workers[:KILLED]:
        os.kill(process.pid, signal.SIGKILL)
    for process in workers[KILLED:]:
        process.join(timeout=120)
        assert process.exitcode == 0
    assert finished(there.storage) == Counter(range(TRIALS))


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
    assert finished(there.storage) == Counter(range(12))


def test_a_slot_that_kills_every_worker_fails_in_the_end_with_the_reason(tmp_path):
    there = shared(f"sqlite:///{tmp_path}/study.db", trials=1, grace=0.1)
    create(there, [], DEFINITION)
    storage = there.storage
    study_id = storage.get_study_id_from_name("one")

    def taken_for_dead(plan):
        trial = storage.get_all_trials(study_id)[-1]
        storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.FAIL)
        return Outcome(float(len(plan.chunks)))

    found = work(there, lambda plans: [taken_for_dead(plan) for plan in plans])
    assert found.failed == 1
    assert "its worker died 10 times" in found.why


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
