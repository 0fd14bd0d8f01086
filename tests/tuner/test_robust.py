"""A robust plan is chosen over the errors of the profile, and says what could change."""

from dataclasses import replace

import pytest

from isotune.simulator.architecture import load_model
from isotune.simulator.batch import Timer
from isotune.simulator.errors import InputError
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Plan, Workload
from isotune.tuner.exact import best_split
from isotune.tuner.robust import robust_choice

CASE = Scenario(
    model=replace(load_model("llama-2-70b"), num_hidden_layers=4),
    hardware=read_profile("a800"),
    workload=Workload(prompt=2048),
)
ERRORS = {"gemm": 0.1, "attention": 0.05, "collectives": 0.25, "elementwise": 0.1}


def test_without_errors_the_robust_plan_is_the_exact_one():
    choice = robust_choice(CASE, {}, draws=3)
    best = best_split(CASE, chunks=2)
    assert choice.expected_s == pytest.approx(best.latency_s, rel=1e-9)
    assert choice.worst_s == pytest.approx(Timer(CASE).latency(choice.plan), rel=1e-9)
    assert choice.near_best_in == choice.best_in == 1.0
    assert choice.saving_interval[0] == pytest.approx(choice.saving_interval[1])


def test_no_plan_is_better_on_average_or_at_worst_than_the_one_chosen_for_it():
    expected, worst = (robust_choice(CASE, ERRORS, mode) for mode in ("expected", "worst"))
    assert expected.expected_s <= worst.expected_s
    assert worst.worst_s <= expected.worst_s
    nominal = best_split(CASE, chunks=2).plan
    assert expected.expected_s <= robust_choice(CASE, ERRORS, also=nominal).expected_s


def test_larger_errors_widen_the_saving_and_bring_other_winners():
    small = robust_choice(CASE, {"collectives": 0.02})
    large = robust_choice(CASE, {"collectives": 0.4})
    widths = [c.saving_interval[1] - c.saving_interval[0] for c in (small, large)]
    assert widths[0] < widths[1]
    assert len(small.winners) <= len(large.winners)
    assert sum(share for _, share in large.winners) == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_choice():
    assert robust_choice(CASE, ERRORS, seed=3) == robust_choice(CASE, ERRORS, seed=3)


def test_drops_and_transfer_of_the_plan_it_starts_from_are_kept():
    also = Plan(strategy="iso", chunks=(1024, 1024), comm_dtype="int8", dropped=(0, 3))
    choice = robust_choice(CASE, ERRORS, also=also)
    assert (choice.plan.comm_dtype, choice.plan.dropped) == ("int8", (0, 3))


@pytest.mark.parametrize(("errors", "mode"), [({"gemv": 0.1}, "expected"), (ERRORS, "best")])
def test_what_is_unknown_is_refused_with_what_is_allowed(errors, mode):
    with pytest.raises(InputError, match="allowed: "):
        robust_choice(CASE, errors, mode)
