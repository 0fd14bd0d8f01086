"""What mattered in a search is said in the field's words, of the plan that it found."""

import pytest

from isotune.simulator.architecture import load_model
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Plan, Workload
from isotune.tuner.search import Options, search
from isotune.tuner.space import labelled

SHARES = {
    "strategy": 0.1,
    "chunks": 0.1,
    "share_0": 0.3,
    "share_1": 0.2,
    "share_2": 0.1,
    "comm_sms": 0.1,
    "comm_dtype": 0.05,
    "drops": 0.05,
}


@pytest.mark.parametrize(
    ("plan", "names"),
    [
        (Plan(), ["strategy", "transfer type", "drop set"]),
        (
            Plan(strategy="iso", chunks=(1, 1)),
            [
                "strategy",
                "number of chunks",
                "split point",
                "SM budget",
                "transfer type",
                "drop set",
            ],
        ),
        (
            Plan(strategy="iso", chunks=(1, 1, 1)),
            [
                "strategy",
                "number of chunks",
                "split point 1",
                "split point 2",
                "SM budget",
                "transfer type",
                "drop set",
            ],
        ),
    ],
)
def test_a_plan_has_only_its_own_parameters(plan: Plan, names: list[str]) -> None:
    assert list(labelled(SHARES, plan)) == names


def test_a_search_that_ends_with_two_chunks_tells_of_one_split_point() -> None:
    case = Scenario(
        model=load_model("llama-2-70b"), hardware=read_profile("a800"), workload=Workload()
    )
    result = search(case, Options(trials=24))
    assert len(result.best.plan.chunks) == 2
    importances = result.trials.importances
    assert "split point" in importances
    assert not [name for name in importances if "share" in name or "_" in name]
