"""What a study tried, saved and made again."""

import json

import pytest

from isotune.simulator.schedule import Plan
from isotune.tuner.accuracy import Recovery, Sensitivity
from isotune.tuner.search import Options, Trial, search, study_of


@pytest.fixture(scope="module")
def trials(make_scenario):
    scenario = make_scenario(prompt=1024)
    table = Sensitivity(model="llama-2-7b", blocks=(0.02, 0.001, 0.002))
    options = Options(
        trials=16, recovery=Recovery(table=table), objectives=("latency", "accuracy_cost")
    )
    return search(scenario, options).trials


def test_every_trial_is_kept_with_its_plan_s_cost_and_whether_it_keeps_to_the_limits(trials):
    assert len(trials.tried) == trials.run
    best = min((t for t in trials.tried if t.feasible), key=lambda trial: trial.values[0])
    assert best.values == trials.best.values
    for trial in trials.tried:
        assert trial.accuracy_cost == pytest.approx(trial.values[1])
        assert trial.feasible is (trial.accuracy_cost <= 0.01 + 1e-12)


def test_a_study_made_again_from_json_has_the_same_trials(trials):
    distributions = json.loads(json.dumps(trials.distributions))
    study = study_of(distributions, trials.tried, 2)
    again = [(trial.params, tuple(trial.values)) for trial in study.get_trials()]
    assert again == [(trial.params, trial.values) for trial in trials.tried]


def test_a_trial_outside_its_ranges_is_refused(trials):
    wrong = Trial(plan=Plan(), params={"chunks": 10_000}, values=(1.0,))
    with pytest.raises(ValueError, match="10000"):
        study_of(trials.distributions, [wrong], 1)
