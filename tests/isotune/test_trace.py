"""Traces: valid by the format's own rules, and saying what the timeline says."""

import copy
import json

import pytest
from _support.trace_format import check_trace
from hypothesis import given, settings
from hypothesis import strategies as st

from isotune.present.trace import predicted, trace
from isotune.simulator.predict import predict
from isotune.simulator.schedule import Plan

ISO = Plan(strategy="iso", chunks=(640, 384))


def slices(found, pid=None):
    events = found["traceEvents"]
    return [e for e in events if e["ph"] == "X" and pid in (None, e["pid"])]


@given(data=st.data())
@settings(max_examples=25)
def test_the_trace_of_any_plan_is_a_valid_trace(data, make_scenario, plans):
    scenario = make_scenario(prompt=700, batch=3, tp=8)
    prediction = predict(scenario, data.draw(plans(scenario)))
    check_trace(json.loads(json.dumps(trace(predicted(prediction)))))


def test_a_trace_has_every_step_with_its_predicted_times(make_scenario):
    prediction = predict(make_scenario(prompt=1024), ISO)
    found = trace(predicted(prediction))
    ran = slices(found, 2)
    assert len(ran) == len(prediction.program.steps)
    timeline = prediction.timeline
    assert max(e["ts"] + e["dur"] for e in ran) == pytest.approx(timeline.latency * 1e6, abs=2e-3)
    starts = sorted(start * 1e6 for start in timeline.starts)
    assert [e["ts"] for e in ran] == pytest.approx(starts, abs=1e-3)
    assert max(e["ts"] + e["dur"] for e in slices(found, 1)) > timeline.latency * 1e6


def test_blocks_chunks_and_streams_are_named(make_scenario):
    found = trace(predicted(predict(make_scenario(prompt=1024), ISO)))
    names = {e["name"] for e in slices(found, 2)}
    assert "block 2: mlp_norm .. mlp_down, chunk 1" in names
    assert "block 0: attention_all_reduce, chunk 0" in names
    meta = [e["args"].get("name") for e in found["traceEvents"] if e["ph"] == "M"]
    assert {"serial, predicted", "plan, predicted"} <= set(meta)
    assert {"compute stream", "communication stream"} <= set(meta)


def test_an_arrow_leads_from_each_compute_step_to_its_sync_and_on(make_scenario):
    prediction = predict(make_scenario(prompt=1024), ISO)
    found = trace(predicted(prediction))
    arrows = [e for e in found["traceEvents"] if e["ph"] == "s" and e["pid"] == 2]
    into_syncs = [e for e in arrows if e["tid"] == 1]
    syncs = [step for step in prediction.program.steps if step.is_sync]
    assert len(into_syncs) == len(syncs) == 12
    assert len([e for e in arrows if e["tid"] == 2]) == len(syncs)


@pytest.mark.parametrize(
    "harm",
    [
        lambda e: e[-1].pop("pid"),
        lambda e: next(x for x in e if x["ph"] == "X").update(dur=100.0),
        lambda e: next(x for x in e if x["ph"] == "X").update(dur=-1),
        lambda e: next(x for x in e if x["ph"] == "f").update(ts=1e9),
        lambda e: e.remove(next(x for x in e if x["ph"] == "s")),
        lambda e: e.remove(next(x for x in e if x["name"] == "thread_name")),
        lambda e: e.append(dict(next(x for x in e if x["ph"] == "X"))),
    ],
)
def test_the_check_finds_a_broken_trace(harm, make_scenario):
    found = copy.deepcopy(trace(predicted(predict(make_scenario(prompt=1024), ISO))))
    check_trace(found)
    harm(found["traceEvents"])
    with pytest.raises((AssertionError, KeyError)):
        check_trace(found)


@pytest.mark.parametrize(
    ("arguments", "processes"),
    [
        (("predict", "--strategy", "iso", "--chunks", "640,384"), 2),
        (("predict",), 1),
        (("search", "--trials", "5", "-o", "plan.yaml"), 2),
    ],
)
def test_predict_and_search_write_a_trace(isotune, tmp_path, monkeypatch, arguments, processes):
    monkeypatch.chdir(tmp_path)
    scenario = ("--hw", "a800", "--model", "llama-2-7b", "--prompt", "1k", "--trace", "out.json")
    done = isotune(*arguments, *scenario, "--json")
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "out.json").read_text())
    check_trace(found)
    assert {e["pid"] for e in slices(found)} == set(range(1, processes + 1))
    latency = json.loads(done.out)["latency_s"]
    last = slices(found, processes)
    assert max(e["ts"] + e["dur"] for e in last) == pytest.approx(latency * 1e6, abs=2e-3)
    assert found["otherData"]["scenario"].startswith("llama-2-7b on 8 GPUs of a800")


def test_a_hostile_model_name_stays_text(tmp_path, isotune):
    config = {"model_type": "llama", "hidden_size": 1024, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 8, "intermediate_size": 2048, "vocab_size": 1000}
    folder = tmp_path / '"}]}<script>\u202e'
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    out = tmp_path / "t.json"
    done = isotune("predict", "--hw", "a800", "--model", str(folder), "--trace", str(out), "--json")
    assert done.code == 0, done.err
    check_trace(json.loads(out.read_text()))


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "--hw", "a800", "--prompt", "1k:2k"),
        ("search", "--join", "s", "--storage", "sqlite:///x.db"),
        ("search", "--hw", "a800", "--storage", "sqlite:///x.db"),
    ],
)
def test_a_search_for_more_than_one_plan_has_no_trace(isotune, arguments):
    done = isotune(*arguments, "--trace", "t.json")
    assert done.code == 2
    assert done.err.startswith("isotune: --trace does not go with")
    assert done.err.endswith("(trace it with isotune predict --trace)\n")
    assert done.err.count("\n") == 1


def test_where_a_trace_cannot_be_written_nothing_is_computed(isotune):
    done = isotune("predict", "--hw", "a800", "--trace", "no/such/folder/t.json")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "no/such/folder/t.json" in done.err
