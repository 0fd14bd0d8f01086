"""A policy is near the optimum at every length, and says where ISO pays."""

from dataclasses import replace

import numpy as np
import pytest

from isotune.simulator.architecture import load_model
from isotune.simulator.batch import Timer
from isotune.simulator.errors import InputError
from isotune.simulator.files import Bucket, Policy, Rule, read_policy
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import Plan, Workload, check_plan, granularity
from isotune.tuner.exact import best_split, solve
from isotune.tuner.policy import LOSS, find_policy
from isotune.tuner.prompt_lengths import Lengths, read_lengths

CASE = Scenario(
    model=replace(load_model("llama-2-70b"), num_hidden_layers=4),
    hardware=read_profile("rtx4090"),
    workload=Workload(),
)


@pytest.fixture(scope="module")
def found():
    return find_policy(CASE, Lengths.between(48, 3000))


def loss_at(buckets, length):
    there = CASE.with_workload(prompt=length)
    timer = Timer(there)
    optimum = min(best_split(there, chunks=3).latency_s, timer.latency(Plan()))
    rule = next(b.rule for b in buckets if b.first <= length <= b.last)
    return timer.latency(rule.plan(length)) / optimum - 1


def test_lengths_between_the_solved_ones_lose_little_too(found):
    rng = np.random.default_rng(7)
    for length in rng.integers(48, 3001, 25).tolist():
        assert loss_at(found.buckets, length) <= LOSS + 1e-9, length


def test_little_is_lost_where_a_split_point_moves_to_the_next_tile(found):
    """Just before it moves, a rule's cut is furthest from the shares it was made for."""
    cuts = {
        length: bucket.rule.sizes(length)[:-1]
        for bucket in found.buckets
        for length in range(max(512, bucket.first), bucket.last + 1)
    }
    moved = [length for length in cuts if length - 1 in cuts and cuts[length - 1] != cuts[length]]
    assert len(moved) > 5
    for length in moved:
        assert loss_at(found.buckets, length - 1) <= LOSS + 1e-9, length - 1
        assert loss_at(found.buckets, length) <= LOSS + 1e-9, length


def test_the_policy_saves_over_serial_and_never_exceeds_its_loss(found):
    assert 0.05 < found.expected_saving < 0.5
    assert found.worst_loss <= LOSS
    assert found.buckets[0].first == 48
    assert found.buckets[-1].last == 3000
    assert found.serial_below == min(b.first for b in found.buckets if b.rule.shares)


def test_a_rule_cuts_every_length_into_a_plan_that_runs():
    rule = Rule(strategy="iso", shares=(0.6, 0.3, 0.1), comm_sms=4)
    for length in (1, 2, 17, 127, 128, 129, 511, 4096, 100_001):
        plan = rule.plan(length)
        check_plan(plan, CASE.model, Workload(prompt=length))
        assert all(size % granularity(length) == 0 for size in plan.chunks[:-1])


def test_a_plan_on_the_grid_is_its_own_rule():
    plan = Plan(strategy="iso", chunks=(2432, 1664), comm_sms=8, dropped=(1, 2))
    assert Rule.of(plan).plan(4096) == plan


def test_a_length_without_a_bucket_is_refused_with_the_lengths_there_are(tmp_path):
    policy = Policy.model_validate(
        {
            "hardware": "a800",
            "model": {
                "name": "llama-2-70b",
                "num_hidden_layers": 80,
                "hidden_size": 8192,
                "parameters": 1,
            },
            "workload": Workload(),
            "serial_below": None,
            "expected_saving": 0.0,
            "buckets": [Bucket(first=10, last=20, rule=Rule())],
        }
    )
    policy.write(tmp_path / "policy.yaml")
    assert read_policy(tmp_path / "policy.yaml") == policy
    with pytest.raises(InputError, match=r"no bucket for 21 tokens \(allowed: 10 to 20\)"):
        policy.bucket(21)


def test_lengths_are_read_with_or_without_counts_and_a_heading(tmp_path):
    path = tmp_path / "lengths.csv"
    path.write_text("tokens,count\n100,3\n\n50\n")
    assert read_lengths(path).tokens == (50, 100)
    assert read_lengths(path).weights == (0.25, 0.75)
    path.write_text("\n".join(str(n) for n in range(1, 1001)))
    many = read_lengths(path)
    assert len(many.tokens) <= 64
    assert sum(many.weights) == pytest.approx(1.0)


@pytest.mark.parametrize("text", ["", "tokens\n", "10\nten\n", "10\n-3\n", "10,0\n", "10,nan\n"])
def test_a_bad_line_is_named(tmp_path, text):
    path = tmp_path / "lengths.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"row 2|row 1|no rows"):
        read_lengths(path)


def test_a_smaller_loss_needs_more_rules_and_saves_no_less(found):
    closer = find_policy(CASE, Lengths.between(48, 3000), loss=0.005)
    assert closer.worst_loss <= 0.005
    assert len(closer.buckets) > len(found.buckets)
    assert closer.expected_saving > found.expected_saving - 0.005


def test_the_simplest_policy_cuts_every_prompt_in_the_middle(found):
    simplest = found.simplest
    assert simplest.rule.shares == (0.5, 0.5)
    solved = solve(CASE, [3000], Plan())[0]
    chosen = predict(CASE.with_workload(prompt=3000), simplest.rule.plan(3000)).latency_s
    assert chosen / solved.optimum - 1 <= simplest.worst_loss + 1e-9
    assert 0 < simplest.expected_saving < found.expected_saving + LOSS
