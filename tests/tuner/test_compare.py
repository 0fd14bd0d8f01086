"""Machines, engines, layouts and techniques side by side."""

import pytest

from isotune.present import section_of
from isotune.results import Compared
from isotune.simulator.errors import InputError
from isotune.simulator.predict import predict, saving_interval
from isotune.simulator.schedule import SPD
from isotune.tuner.accuracy import assumed_drops
from isotune.tuner.compare import alternatives, beats, compare, name_of

SIZES = {"tp": (4, 8), "ep": (1,), "cp": (1, 2), "dp": (1, 2)}


@pytest.fixture(scope="module")
def found(make_scenario):
    machines = [make_scenario(hardware=name, batch=2) for name in ("h100", "l40s")]
    first = machines[0].with_workload(tp=8)
    return compare(first, machines, ("nccl", "vllm"), **SIZES)


def test_every_case_is_there_once_and_begins_with_its_serial_pass(found):
    cases = [name_of(one.scenario) for one in found.contenders]
    firsts = [cases.index(name) for name in dict.fromkeys(cases)]
    assert len(firsts) == 2 * 2 * 4, "tp 4, tp 8, tp 4 x cp 2 and tp 4 x dp 2 fit into a node"
    assert all(found.contenders[at].technique == "serial" for at in firsts)
    assert cases[0] == "h100, nccl, tp8"
    together = [name for at, name in enumerate(cases) if at == 0 or cases[at - 1] != name]
    assert len(together) == len(firsts)


def test_every_contender_is_its_own_prediction(found):
    for one in found.contenders[::7]:
        again = predict(one.scenario, one.prediction.plan)
        assert one.prediction.latency_s == again.latency_s
        tokens = 2 * one.scenario.workload.tokens
        per_gpu = tokens / again.latency_s / one.scenario.workload.parallelism.gpus
        assert one.tokens_per_s_per_gpu == pytest.approx(per_gpu)


def test_savings_are_against_the_first_and_certain_on_one_machine_only(found):
    first = found.contenders[0]
    assert first.interval_beside(first) == (0.0, 0.0)
    for one in found.contenders:
        saved = one.saving_beside(first)
        assert saved == pytest.approx(1 - one.prediction.latency_s / first.prediction.latency_s)
        interval = one.interval_beside(first)
        assert (interval is None) == (one.scenario.hardware.name != "h100")
        assert interval is None or interval[0] <= saved <= interval[1]


def test_errors_of_collectives_cancel_in_one_case_only(found):
    first = found.contenders[0]
    for one in found.contenders:
        if one.scenario.hardware != first.scenario.hardware:
            continue
        low, high = one.interval_beside(first)
        least, most = saving_interval(one.prediction.run, first.prediction.run)
        if one.scenario == first.scenario:
            assert (low, high) == (least, most)
        else:
            assert low < least < most < high


def test_only_the_techniques_that_are_asked_for_are_compared(make_scenario):
    case = make_scenario(hardware="h100", tp=8)

    def strategies(*names):
        found = compare(case, [case], ("nccl",), names, tp=(8,))
        return {one.prediction.plan.strategy for one in found.contenders}, found

    assert strategies("request_overlap")[0] == {"serial"}, "one request does not take turns"
    assert strategies("iso")[0] == {"serial", "iso"}
    assert strategies(SPD)[0] == {"serial"}
    dropped = [one.prediction.plan.dropped for one in strategies(SPD)[1].contenders]
    assert assumed_drops(case.model, 8) in dropped


def test_a_technique_that_changes_the_outputs_is_compared_and_never_what_is_run(found):
    here = [one for one in found.contenders if one.scenario == found.contenders[0].scenario]
    lossy = [one for one in here if one.prediction.plan.dropped]
    assert lossy
    assert not any(one.runnable for one in lossy)
    assert not alternatives(found)["technique"].prediction.plan.lossy


def test_what_is_changed_alone_is_the_only_difference(found):
    first, instead = found.contenders[0], alternatives(found)
    assert set(instead) == {"technique", "layout", "engine", "machine"}
    assert instead["technique"].scenario == first.scenario
    assert instead["technique"].runnable
    for what in ("layout", "engine", "machine"):
        one = instead[what]
        assert one.technique == "serial"
        differs = {
            "machine": one.scenario.hardware.name != first.scenario.hardware.name,
            "engine": one.scenario.workload.engine != first.scenario.workload.engine,
            "layout": one.scenario.workload.parallelism != first.scenario.workload.parallelism,
        }
        assert [name for name, other in differs.items() if other] == [what]
    assert beats(first, instead["machine"]), "an L40S is no faster than an H100"
    assert not beats(instead["machine"], first)


def test_what_cannot_be_is_left_out_with_its_reason(make_scenario):
    machine = make_scenario(hardware="h100", phase="decode", batch=2, tp=4)
    found = compare(machine, [machine], ("nccl",), tp=(4,), cp=(1, 2))
    assert {one.scenario.workload.cp for one in found.contenders} == {1}
    assert list(found.left_out) == ["h100, tp4_cp2"]
    assert "a decode has one" in found.left_out["h100, tp4_cp2"]


def test_a_comparison_of_too_many_cases_is_refused(make_scenario, monkeypatch):
    monkeypatch.setattr("isotune.tuner.compare.MOST_CASES", 3)
    machine = make_scenario(hardware="h100", batch=2)
    with pytest.raises(InputError, match=r"4 cases to compare \(allowed: up to 3\)"):
        compare(machine, [machine], ("nccl",), **SIZES)


def test_where_nothing_hides_anything_the_other_cases_are_still_told(make_scenario):
    machine = make_scenario(hardware="h100", phase="decode", batch=8, tp=8)
    found = compare(machine, [machine], ("nccl",), ("serial",), tp=(8, 4))
    said = section_of(Compared.of(found)).verdict
    assert "No technique that anyone can run is faster there. Another layout" in said
    assert "beats that." in said
