"""Every result: one type that is saved, read back, printed and drawn."""

import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from isotune import results
from isotune.present import section_of
from isotune.present.figures import figures_of
from isotune.results import KINDS, SharedSearch, Validation, read_result
from isotune.simulator.errors import InputError
from isotune.simulator.predict import predict
from isotune.simulator.schedule import Plan, measurement
from isotune.tuner.accuracy import Sensitivity
from isotune.validation import real_run
from isotune.validation.spd.checkpoint import BlockRecord, Perplexities, Record, StepRecord


def validation(make_scenario, *, serial_ran=True, emulated=False):
    scenario = make_scenario(prompt=1024, tp=2)
    plan = Plan(strategy="iso", chunks=(512, 512))
    both = predict(scenario, plan), predict(scenario)
    sides = [
        real_run.Comparison(prediction=p, measured=measurement(p.program, [[p.timeline]] * 3))
        for p in both
    ]
    if not serial_ran:
        sides[1] = real_run.Comparison(prediction=both[1], measured=None)
    setup = SimpleNamespace(
        scenario=scenario,
        plan=plan,
        weights=None,
        ranks=1 if emulated else 2,
        device="cuda",
        notes=(),
        launch="eager",
        emulated=emulated,
    )
    return Validation.of(
        real_run.Validation(
            setup=setup, numbers=None, plan=sides[0], serial=sides[1], peak_bytes={0: 1e9}
        )
    )


@pytest.fixture(scope="module")
def every(saved_results):
    """One result of each kind, as the commands print it, or made of its domain object."""
    found = {name: read_result(path) for name, path in saved_results.items()}
    by_kind = {result.kind: result for result in found.values()}
    check = by_kind["check"]
    by_kind["checks"] = results.Checks(
        checks=[results.Scores.model_validate(check.to_dict())], refused={"x.csv": "no column"}
    )
    by_kind["recovery"] = results.Recovery.of(RECORD, "recovered")
    by_kind["drop_check"] = results.DropCheck(
        rounds=[ROUND], budget=0.01, within_budget=True, dropped=1
    )
    by_kind["measured"] = MEASURED
    by_kind["shared_search"] = shared(by_kind["prediction"])
    return by_kind


TEXT = Perplexities(tokens=100, whole=5.0, zero_shot=6.0, recovered=5.5, synced=5.2)
STEP = StepRecord(step="bias", before=2.5, after=2.4, noise=0.01, kept=True)
RECORD = Record(
    model="tiny",
    tp=2,
    dropped=(1,),
    blocks=(BlockRecord(block=1, steps=(STEP,)),),
    held_back=TEXT,
    text="0" * 64,
    context=128,
    seed=0,
)
ROUND = results.Round(
    treatments={1: "bias"}, predicted_growth=0.001, measured_growth=0.002, latency_s=0.1
)
MEASURED = results.MeasuredSearch(
    plan=Plan(),
    measured_s=0.2,
    predicted_s=0.1,
    serial_measured_s=0.2,
    measured_saving=0.0,
    predicted_saving=0.0,
    compared_in_turns=True,
    rank_correlation=None,
    kinds={"mlp": results.Pair(predicted_s=0.1, measured_s=0.2)},
    tried=[
        results.Tried(
            plan=Plan(), proposed=False, predicted_s=0.1, measured_s=0.2, measured_all_s=[0.2]
        )
    ],
    failure=None,
)


def shared(best):
    return SharedSearch(
        study="team",
        model=best.model,
        hardware=best.hardware,
        workload=best.workload,
        run=8,
        mine=3,
        pruned=1,
        failed=0,
        why={"does not fit": 1},
        interrupted=False,
        latency_s=best.latency_s,
        plan=best.plan,
        best=best,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_printed_is_read_back_and_drawn(every, tmp_path, kind):
    if kind == "validation" and kind not in every:
        pytest.skip("needs the extra `validate`")
    result = every[kind]
    path = tmp_path / "result.json"
    data = result.to_dict()
    assert (data["kind"], data["schema"]) == (kind, results.SCHEMA)
    path.write_text(json.dumps(data, allow_nan=False))
    again = read_result(path)
    assert type(again) is type(result)
    assert again.to_dict() == data
    assert section_of(again) == section_of(result)
    assert section_of(again).verdict
    figures_of(again, "result.json")
    assert again.rows()
    screen = Console(width=80, record=True, quiet=True)
    screen.print(again)


def test_every_kind_says_which_schema_it_has_and_a_later_one_is_refused(tmp_path):
    path = tmp_path / "later.json"
    path.write_text(json.dumps(MEASURED.to_dict() | {"schema": results.SCHEMA + 1}))
    with pytest.raises(InputError, match="schema"):
        read_result(path)


def test_a_plan_that_was_measured_without_a_serial_run_has_a_time(make_scenario):
    verdict = section_of(validation(make_scenario, serial_ran=False)).verdict
    assert "the predicted time is off by" in verdict
    assert "the saving was not measured" in verdict
    assert "no time was measured" not in verdict


def test_an_emulation_is_called_one_wherever_it_is_shown(make_scenario):
    section = section_of(validation(make_scenario, emulated=True))
    assert section.verdict.startswith("Emulation of rank 0 of 2")
    assert "one device (cuda) that plays rank 0 of 2" in section.lines[0]
    assert "emulated" in [column.name for column in section.tables[0].columns]


def test_a_validation_keeps_its_quality_and_its_memory(make_scenario):
    quality = results.Quality(
        tokens=10,
        original_perplexity=5.0,
        perplexity=5.5,
        agreement=0.9,
        max_logprob_change=1.0,
        limits={"max_perplexity_rise": 0.01},
        perplexity_rise=0.1,
        ok=False,
        exceeded=["perplexity +10.00 % (allowed +1 %)"],
    )
    ran = validation(make_scenario).model_copy(update={"quality": quality})
    again = Validation.model_validate(ran.to_dict())
    assert again.quality == quality
    assert again.memory.peak_bytes == (1e9,)
    assert any("NOT GOOD" in note for note in section_of(again).notes)


def test_a_shared_search_is_drawn_like_any_other(every):
    section = section_of(every["shared_search"])
    assert section.verdict.startswith("Study team, best so far: ISO with SPD (30 blocks) takes")
    titles = [figure.title for figure in figures_of(every["shared_search"], "s.json")]
    assert titles[0].startswith("One block in time")


def test_a_sensitivity_file_is_its_own_result():
    table = Sensitivity(model="tiny", blocks=(0.001, 0.02))
    section = section_of(results.SensitivityScan.of(table))
    assert "1 of 2 attention all-reduces can be dropped" in section.verdict
