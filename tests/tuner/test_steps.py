"""The steps that an engine makes of a prompt: complete, no slower than serial, and priced whole."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import isotune
from isotune.cli import main
from isotune.simulator.errors import InputError
from isotune.simulator.predict import predict
from isotune.simulator.schedule import Sequences
from isotune.tuner.steps import MOST_STEPS, search_batch, search_steps, steps_of

DECODES = (Sequences(count=8, new_tokens=1, context=500),)


@pytest.fixture(scope="module")
def scenario():
    return isotune.scenario("llama-2-7b", "h100", tp=4)


@pytest.fixture(scope="module")
def found(scenario):
    return search_steps(scenario, 4096, 1024, DECODES)


@given(st.integers(1, 5000), st.integers(60, 2000), st.integers(0, 40))
def test_steps_hold_the_prompt_once_and_no_more_than_the_budget(prompt, budget, decodes):
    riding = (Sequences(count=decodes, new_tokens=1, context=300),) if decodes else ()
    steps = steps_of(prompt, budget, riding)
    assert sum(step[0].new_tokens for step in steps) == prompt
    reached = 0
    for index, (part, *others) in enumerate(steps):
        assert part.context == reached
        reached += part.new_tokens
        assert part.new_tokens + decodes <= budget
        assert [group.context for group in others] == [300 + index] * len(riding)
    assert all(step[0].new_tokens == budget - decodes for step in steps[:-1])


def test_no_step_is_slower_than_serial_and_each_plan_is_its_prediction(found):
    assert len(found.steps) == 5
    for step in found.steps:
        assert step.best.latency_s <= step.serial.latency_s
        again = predict(step.best.scenario, step.best.plan)
        assert again.latency_s == pytest.approx(step.best.latency_s, rel=1e-9)
    assert found.steps[0].best.plan.overlaps


def test_the_first_token_comes_after_all_steps_and_a_decode_waits_for_the_slowest(found):
    assert found.asked.first_token_s == pytest.approx(sum(s.best.latency_s for s in found.steps))
    assert found.asked.slowest_s == max(s.best.latency_s for s in found.steps)


def test_a_larger_budget_brings_the_prompt_sooner_and_lets_decodes_wait(found):
    budgets = {one.tokens: one for one in (found.asked, *found.others)}
    assert set(budgets) == {512, 1024, 2048, 4096, 4104}
    assert budgets[4104].steps == 1
    assert budgets[4104].serial_first_token_s < budgets[512].serial_first_token_s
    assert budgets[4104].slowest_s > budgets[1024].slowest_s > budgets[512].slowest_s


def test_a_budget_whose_steps_were_sampled_is_near_the_one_searched_whole(scenario):
    sampled = next(o for o in search_steps(scenario, 4096, 1024).others if o.tokens == 512)
    whole = search_steps(scenario, 4096, 512).asked
    assert sampled.steps == whole.steps == 8
    assert sampled.first_token_s == pytest.approx(whole.first_token_s, rel=0.03)


def test_the_best_plan_of_a_mixed_batch_beats_its_even_split(scenario):
    batch = (Sequences(count=1, new_tokens=2000, context=4096), *DECODES)
    step = search_batch(scenario, batch).steps[0]
    even = predict(step.best.scenario, isotune.Plan(strategy="iso", chunks=(1004, 1004)))
    assert step.best.latency_s <= even.latency_s


@pytest.mark.parametrize(
    ("prompt", "budget", "riding", "message"),
    [
        (100, 8, DECODES, "leave none for the prompt beside 8 decodes"),
        (100, 50, (Sequences(count=1, new_tokens=20),), "no decode"),
        (10_000, 2, (), f"allowed: {MOST_STEPS}"),
    ],
)
def test_what_makes_no_steps_is_refused(prompt, budget, riding, message):
    with pytest.raises(InputError, match=message):
        steps_of(prompt, budget, riding)


def run(capsys, *options):
    with pytest.raises(SystemExit) as ended:
        main(["search", "--hw", "h100", "--model", "llama-2-7b", "--tp", "4", *options])
    return ended.value.code, *capsys.readouterr()


def test_the_command_prints_the_steps(capsys):
    code, out, _ = run(
        capsys, "--prompt", "2k", "--token-budget", "1k", "--mix", "8x1@500", "--json"
    )
    data = json.loads(out)
    assert (code, data["kind"], data["decodes"], len(data["steps"])) == (0, "steps", 8, 3)
    assert [one["tokens"] for one in data["budgets"]] == [1024, 512, 2048, 2056]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mix", "8x1@500", "--prompt", "2k"), "needs --token-budget"),
        (("--mix", "8y1"), "'8y1' is not COUNTxNEW@CONTEXT"),
        (("--token-budget", "1k", "--prompt", "1k:2k"), "a range does not go with --token-budget"),
        (("--token-budget", "1k", "--tp", "2,4"), "several layouts or batches do not go"),
        (("--token-budget", "1k", "--batch", "4"), "no --phase, no --batch"),
        (("--token-budget", "1k", "--trials", "4"), "--trials does not go with --token-budget"),
    ],
)
def test_what_does_not_go_together_is_one_line(capsys, options, message):
    code, _, err = run(capsys, *options)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
