"""Real runs decide: candidates first, Optuna as long as there is time, the best in turns."""

import time
from dataclasses import replace

from isotune.simulator.architecture import load_model
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Plan, Workload
from isotune.tuner.search import MeasuredStudy, Options, StudyAddress, candidates_of, create
from isotune.tuner.search.best_plan import judge_of, space_of
from isotune.tuner.search.distributed import SharedStudy
from isotune.tuner.search.storages import open_storage

CASE = Scenario(
    model=replace(load_model("llama-2-70b"), num_hidden_layers=4),
    hardware=read_profile("a800"),
    workload=Workload(prompt=2048),
)
EVEN = Plan(strategy="iso", chunks=(1024, 1024))


class FakeBench:
    """A machine that runs every plan in 2 ms, and plans with one SM in 1 ms."""

    def __init__(self):
        self.calls = []

    def measure(self, plans, rounds, *, final=False):
        self.calls.append((tuple(plans), rounds, final))
        seconds = [0.001 if plan.comm_sms == 1 else 0.002 for plan in plans]
        time.sleep(sum(seconds) * rounds)
        return seconds


def measured(budget_s, **fields):
    options = Options(seed=1)
    candidates = (EVEN, Plan(strategy="iso", chunks=(512, 1536)))
    bench = FakeBench()
    MeasuredStudy(
        scenario=CASE, options=options, candidates=candidates, budget_s=budget_s, **fields
    )(bench)
    return bench


def test_a_faster_plan_than_the_candidates_is_found_and_compared_with_serial_in_turns():
    bench = measured(1.5)
    *others, (plans, rounds, final) = bench.calls
    assert final
    assert not any(call[2] for call in others)
    assert plans[0] == Plan()
    assert plans[1].comm_sms == 1
    assert rounds >= 1
    assert [call[0] for call in others[:3]] == [(Plan(),), (EVEN,), (others[2][0][0],)]


def test_the_search_ends_with_its_budget():
    begun = time.monotonic()
    measured(0.4)
    assert time.monotonic() - begun < 2.0


def test_a_budget_that_the_candidates_spend_still_ends_in_the_last_comparison():
    bench = measured(0.001)
    assert bench.calls[-1][2]
    assert len(bench.calls) == 3, "serial, one candidate, and both in turns"


def test_the_best_plan_of_other_machines_takes_part_in_the_last_comparison(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    options = Options(seed=1, trials=12)
    shared = SharedStudy(
        storage=open_storage(url),
        name="one",
        space=space_of(CASE, options),
        judge=judge_of(CASE, options),
        trials=12,
    )
    create(shared, [EVEN], {"measured": True})
    bench = measured(4.0, shared=StudyAddress(url=url, study="one"))
    plans, _, final = bench.calls[-1]
    assert final
    assert len(plans) > 2


def test_the_simulator_proposes_its_fastest_plans_first():
    best = Plan(strategy="iso", chunks=(1024, 1024), comm_sms=4)
    plans = candidates_of(CASE, Options(), best)
    assert len(plans) == 8
    assert Plan() not in plans
