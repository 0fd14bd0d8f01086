"""A shared study of a small scenario, and workers on it in processes of their own."""

import multiprocessing
import os
import time
from dataclasses import replace

import optuna

from isotune.simulator.architecture import load_model
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Plan, Workload
from isotune.tuner.search import Evaluator, SharedStudy, create, open_storage, storages, work
from isotune.tuner.search.objectives import Judge
from isotune.tuner.space import Space

TRIALS = 40
DEADLY = Plan(strategy="iso", chunks=(128, 1920))
"""The plan that kills the worker `deadly`."""


def case():
    """Four blocks of a model on a machine."""
    return Scenario(
        model=replace(load_model("llama-2-70b"), num_hidden_layers=4),
        hardware=read_profile("a800"),
        workload=Workload(prompt=2048),
    )


def shared(url, **fields):
    """The study "one" in a storage; `fields` are those of `SharedStudy` that differ."""
    scenario = case()
    fields = {"name": "one", "trials": TRIALS, "sampler": "random", "grace_s": 2} | fields
    fields.setdefault("space", Space(scenario=scenario, strategies=("serial", "iso")))
    storage = open_storage(url, fields["grace_s"])
    return SharedStudy(storage=storage, judge=Judge(scenario=scenario), **fields)


def slow(plan):
    """An objective of a tenth of a second."""
    time.sleep(0.1)
    return float(len(plan.chunks) + 1)


def worker(url):
    """Work on the study until it has its trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    work(shared(url), Evaluator(case(), slow))


def first_start(url):
    """Put the study up where there may be none, as others do at the same time."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    create(shared(url), [], {"what": "test", "options": {"trials": 8}})


def deadly(url):
    """A worker that dies of one plan."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storages.RETRIES = 1

    def objective(plan):
        time.sleep(0.5)  # for its first beat
        return os._exit(1) if plan == DEADLY else 1.0

    work(shared(url, trials=3, grace_s=1), Evaluator(case(), objective))


def start(target, *arguments):
    """A worker process, which may import this module but no module of tests."""
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=target, args=arguments)
    process.start()
    return process
