"""What every engine keeps to, and what its gates do to a message. Engines are tested by listing."""

import numpy as np
import pytest
import yaml

from isotune import hw_profiles
from isotune.simulator.architecture import load_model
from isotune.simulator.batch import Timer
from isotune.simulator.engines import (
    ALGORITHMS,
    DEFAULT,
    ENGINES,
    LIBRARY,
    Engine,
    engine_named,
)
from isotune.simulator.engines import engine as schema
from isotune.simulator.errors import DoesNotFitError, InputError
from isotune.simulator.io import validate
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario, SimulatedRun, predict
from isotune.simulator.predict.carriers import carriers_of, site_of
from isotune.simulator.schedule import Plan, Workload

FOLDER = __import__("pathlib").Path(schema.__file__).parent
SIZES = np.array([2.0**power for power in range(10, 31)])
KIB = 1024


def scenario(engine, hardware="h100", model="llama-3.1-70b", **workload):
    return Scenario(
        model=load_model(model),
        hardware=read_profile(hardware),
        workload=Workload(engine=engine, **workload),
    )


def carrier(engine, hardware, ranks, size, tokens=1):
    found = carriers_of(engine_named(engine), read_profile(hardware), ranks)
    return next(one for one in found if one.takes(np.asarray(float(size)), np.asarray(tokens)))


def test_every_file_is_an_engine_that_is_listed():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(ENGINES)
    assert DEFAULT in ENGINES


@pytest.mark.parametrize("name", ENGINES)
def test_every_fact_of_an_engine_has_a_source(name):
    engine = engine_named(name)
    assert engine.name == name
    assert engine.version
    without = set(engine.facts()) - set(engine.sources())
    assert without == {"all_reduce.otherwise"}
    assert all(len(text) > 10 or text == "by definition" for text in engine.sources().values())


@pytest.mark.parametrize("machine", hw_profiles.names())
@pytest.mark.parametrize("name", ENGINES)
def test_every_message_on_every_machine_is_carried_and_has_a_time(name, machine):
    hardware = read_profile(machine)
    for ranks in (2, 4, 8):
        carriers = carriers_of(engine_named(name), hardware, ranks)
        assert carriers[-1].name == LIBRARY
        assert carriers[-1].takes(SIZES, SIZES).all()
        for one in carriers:
            assert one.name in ALGORITHMS
            assert one.lines.path or one.lines.derived, "measured, or said to be derived"
            assert one.is_library or one.source


@pytest.mark.parametrize("name", ENGINES)
def test_the_compiled_engine_and_the_reference_agree_under_every_engine(name):
    for workload in ({"prompt": 1500}, {"phase": "decode", "batch": 24}):
        of = scenario(name, model="llama-2-7b", **workload)
        plans = [Plan()]
        if workload.get("phase") != "decode":
            plans += [Plan(strategy="iso", chunks=(40, 1460)), Plan(dropped=(1, 2))]
        for plan in plans:
            run = SimulatedRun.of(of, plan)
            assert run.latency == pytest.approx(run.timeline.latency, rel=1e-9)
            assert Timer(of).latency(plan) == pytest.approx(run.latency, rel=1e-9)
            assert float(Timer(of).seconds([plan])[0]) == pytest.approx(run.latency, rel=1e-9)


def test_the_default_engine_leaves_every_message_to_the_library():
    assert [one.name for one in scenario(DEFAULT).carriers_among(8)] == [LIBRARY]
    assert scenario(DEFAULT).workload.runtime == "cuda_graph"
    assert "engine" not in Workload().model_dump()


@pytest.mark.parametrize(
    ("engine", "hardware", "ranks", "size", "name"),
    [
        ("vllm", "h100", 8, 100 * KIB, "fused_norm"),
        ("vllm", "h100", 8, 600 * KIB, "multimem"),
        ("vllm", "h100", 8, 65 * KIB * KIB, LIBRARY),
        ("vllm", "a800", 8, 200 * KIB, "one_shot"),
        ("vllm", "a800", 8, 300 * KIB, "two_shot"),
        ("vllm", "a800", 8, 9 * KIB * KIB, LIBRARY),
        ("vllm", "b300", 4, 60 * KIB * KIB, "fused_norm"),
        ("vllm", "l40s", 2, 300 * KIB, "one_shot"),
        ("vllm", "l40s", 4, 300 * KIB, LIBRARY),
        ("vllm", "rtx4090", 2, 300 * KIB, LIBRARY),
        ("sglang", "a100", 4, 600 * KIB, "two_shot"),
        ("sglang", "mi300x", 8, 12 * KIB * KIB, "two_shot"),
        ("trtllm", "h100", 8, 4 * KIB * KIB, "fused_norm"),
        ("trtllm", "h100", 8, 9 * KIB * KIB, LIBRARY),
        ("executor", "h100", 8, 100 * KIB, LIBRARY),
    ],
)
def test_the_gates_of_an_engine_choose_by_size_ranks_gpu_and_link(
    engine, hardware, ranks, size, name
):
    assert carrier(engine, hardware, ranks, size).name == name


def test_a_gate_by_tokens_is_asked_for_tokens():
    assert carrier("sglang", "h100", 8, KIB * KIB, tokens=2048).name == "fused_norm"
    assert carrier("sglang", "h100", 8, KIB * KIB, tokens=2049).name == "two_shot"
    assert carrier("tokenweave", "h100", 8, KIB * KIB, tokens=1024).name == "multimem"
    assert carrier("tokenweave", "h100", 8, KIB * KIB, tokens=1023).name == "two_shot"


def test_a_half_of_a_message_may_get_another_algorithm_and_the_prediction_says_so():
    of = scenario("vllm", "a800", "llama-3.1-70b", phase="decode", batch=32)
    whole = predict(of)
    halves = predict(of, Plan(strategy="request_overlap", chunks=(16, 16)))
    assert {one.algorithm for one in whole.all_reduces} == {"two-shot"}
    assert {one.algorithm for one in halves.all_reduces} == {"one-shot"}
    assert {(one.tokens, one.count) for one in halves.all_reduces} == {(16, 160)}
    assert [one.message_bytes for one in whole.all_reduces] == [32 * 8192 * 2] * 2


def test_the_serial_baseline_is_the_engine_s_pass():
    plans = {name: predict(scenario(name, phase="decode", batch=16)) for name in ENGINES}
    assert plans["vllm"].serial_latency_s < plans["nccl"].serial_latency_s
    assert plans["vllm"].baseline.all_reduces[0].norm
    assert not plans["nccl"].baseline.all_reduces[0].norm


def test_a_fused_all_reduce_and_its_norm_together_are_the_kernel():
    found = predict(scenario("vllm", "gb300", tp=4, phase="decode", batch=64))
    one = found.all_reduces[0]
    assert (one.algorithm, one.norm, one.measured) == ("fused with norm", True, True)
    blocks = found.scenario.model.num_hidden_layers
    together = one.seconds + found.op_seconds["attention_norm"] / blocks
    kernel = carrier("vllm", "gb300", 4, one.message_bytes).lines.parameters
    line = kernel.algorithms["fused_norm"].protocols[1]
    skew = found.scenario.hardware.runtime.sync_skew
    assert together == pytest.approx(
        line.latency + 2 * line.latency_per_rank + 1.5 * one.message_bytes / 470e9 + skew, rel=0.3
    )


def test_nothing_is_fused_where_all_reduces_run_beside_compute():
    of = scenario("vllm", "b300", prompt=512, tp=4)
    cut = Plan(strategy="iso", chunks=(256, 256))
    assert all(one.norm for one in predict(of).all_reduces)
    assert not any(one.norm for one in predict(of, cut).all_reduces)


def test_dropping_a_fused_all_reduce_saves_what_it_costs_beside_the_norm():
    of = scenario("vllm", phase="decode", batch=8)
    plain, dropped = predict(of), predict(of, Plan(dropped=(3,)))
    assert 0 < plain.latency_s - dropped.latency_s < 20e-6


def test_ranks_on_several_nodes_use_the_library(tmp_path):
    data = yaml.safe_load((hw_profiles.FOLDER / "h100.yaml").read_text())
    data["inter_node"] = {"nodes": 2, "link_bandwidth": "50 GB/s", "latency": "10 us"}
    data["sources"]["inter_node"] = "made up"
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(data))
    found = carriers_of(engine_named("vllm"), read_profile(str(tmp_path / "two.yaml")), 16)
    assert [one.name for one in found] == [LIBRARY]


def test_a_machine_without_an_algorithm_gets_derived_figures_that_say_so_and_widen_the_interval():
    plain, under = (scenario(name, "a800", phase="decode", batch=8) for name in (DEFAULT, "vllm"))
    assert not predict(under).all_reduces[0].measured
    assert any("one-shot of a800 is derived" in text for text in under.cautions())
    assert under.class_errors()["collectives"] > plain.class_errors()["collectives"]


def test_an_engine_asks_for_the_architecture_and_the_default_does_not():
    machine = read_profile("h100")
    bare = machine.model_copy(update={"gpu": machine.gpu.model_copy(update={"architecture": None})})
    model = load_model("llama-2-7b")
    Scenario(model=model, hardware=bare, workload=Workload())
    with pytest.raises(InputError, match=r"gpu\.architecture: h100 does not name it"):
        Scenario(model=model, hardware=bare, workload=Workload(engine="vllm"))


@pytest.mark.parametrize(
    ("fields", "launch"),
    [
        ({"engine": "vllm"}, "piecewise_graph"),
        ({"engine": "vllm", "phase": "decode"}, "cuda_graph"),
        ({"engine": "vllm", "sequences": ("1x512+0", "8x1+64")}, "piecewise_graph"),
        ({"engine": "executor"}, "eager"),
        ({"engine": "vllm", "runtime": "eager"}, "eager"),
        ({}, "cuda_graph"),
    ],
)
def test_an_engine_launches_its_own_way_unless_told_otherwise(fields, launch):
    assert Workload(**fields).runtime == launch


def test_a_piecewise_graph_leaves_attention_to_the_host():
    def ops(runtime):
        work = {"model": "llama-2-7b", "prompt": 16, "runtime": runtime}
        return predict(scenario(DEFAULT, **work)).op_seconds

    graph, pieces, eager = map(ops, ("cuda_graph", "piecewise_graph", "eager"))
    assert graph["attention"] < pieces["attention"] == eager["attention"]
    assert graph["mlp_up"] == pieces["mlp_up"] < eager["mlp_up"]


def test_an_engine_uses_its_share_of_the_memory():
    work = {"model": "llama-3.1-70b", "phase": "decode", "prompt": 4096, "tp": 2}
    batch = next(n for n in range(1, 100) if not _fits(scenario("vllm", batch=n, **work)))
    assert _fits(scenario(DEFAULT, batch=batch, **work))
    with pytest.raises(DoesNotFitError, match="the 90% that vLLM uses by default"):
        predict(scenario("vllm", batch=batch, **work))


def _fits(of):
    try:
        predict(of)
    except DoesNotFitError:
        return False
    return True


def test_more_tokens_than_a_step_has_are_said():
    assert any("at most 8,192 tokens a step" in c for c in scenario("vllm", prompt=9000).cautions())
    assert not any("tokens a step" in c for c in scenario("vllm", prompt=8192).cautions())
    assert site_of(read_profile("a100")).architecture == "sm80"
    assert any("at most 2,048" in c for c in scenario("vllm", "a100", prompt=4096).cautions())


def test_kernels_measured_under_one_engine_are_not_those_of_another():
    plain = scenario("sglang")
    assert not any("was not measured for sglang" in text for text in plain.cautions())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"all_reduce": [{"algorithm": "magic", "source": "me"}]}, "unknown 'magic'"),
        ({"all_reduce": [{"algorithm": "one_shot"}]}, "Field required"),
        ({"launches": {"prefill": "fast", "decode": "eager", "source": "me"}}, "cuda_graph"),
        ({"memory_fraction": {"value": 1.5, "source": "me"}}, "less than or equal to 1"),
        ({"speed": 9}, "Extra inputs"),
    ],
)
def test_a_wrong_fact_is_one_line(change, complaint):
    data = yaml.safe_load((FOLDER / "nccl.yaml").read_text()) | change
    with pytest.raises(InputError, match=complaint) as refused:
        validate(Engine, data, "mine.yaml")
    assert "\n" not in str(refused.value)


def test_an_unknown_engine_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"vlm.*did you mean vllm.*allowed: nccl"):
        engine_named("vlm")
    with pytest.raises(InputError, match="unknown engine 'vlm'"):
        Workload(engine="vlm")
