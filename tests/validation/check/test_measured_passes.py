"""Whole passes: the same prediction as everywhere else, or a reason why there is none."""

from typing import Any

import pytest

import isotune
from isotune.simulator.errors import InputError
from isotune.simulator.machine import HardwareProfile
from isotune.simulator.schedule import Plan
from isotune.validation.check.measured_engines import LADDER_STATES, engine_of
from isotune.validation.check.measured_passes import model_named, run_seconds
from isotune.validation.tables import Run


def run(**changes: Any) -> Run:
    fields: dict[str, Any] = {
        "line": 2, "hw": "h100", "model": "Qwen2.5-72B-Instruct", "tp": 8, "batch": 1,
        "prompt_len": 2048, "phase": "prefill", "steps": 1, "link": "nvlink_nccl",
        "runtime": "vllm_eager", "strategy": "serial", "latency_s": 0.1, "source": "",
    }  # fmt: skip
    return Run(**fields | changes)


def test_a_serial_run_of_a_serving_engine_is_what_predict_says(h100: HardwareProfile) -> None:
    scenario = isotune.scenario("qwen2.5-72b", "h100", prompt=2048, runtime="eager")
    assert run_seconds(run(), h100) == pytest.approx(isotune.predict(scenario).latency_s)
    drop = Plan(dropped=tuple(range(80)))
    spd = isotune.predict(scenario, drop)
    add = spd.op_seconds.get("partial_add", 0.0)
    assert run_seconds(run(strategy="spd_all"), h100) == pytest.approx(spd.latency_s - add)


def test_fewer_syncs_take_less_time(h100: HardwareProfile) -> None:
    names = ("no_comm", "desync4", "spd_all", "serial")
    times = [run_seconds(run(strategy=name), h100) for name in names]
    assert times == sorted(times)


def test_overlap_lies_between_no_communication_and_serial(h100: HardwareProfile) -> None:
    names = ("no_comm", "ladder", "serial")
    free, hidden, exposed = (
        run_seconds(run(strategy=name, prompt_len=8192, model="llama-3-8b"), h100) for name in names
    )
    assert free < hidden < exposed


def test_a_slower_link_takes_longer(h100: HardwareProfile) -> None:
    links = ("nvlink_multimem", "nvlink_nccl", "nvls_no_p2p", "host_staged")
    times = [run_seconds(run(link=link), h100) for link in links]
    assert times == sorted(times)


def test_a_decode_step_is_priced_at_the_mean_context_of_its_run(h100: HardwareProfile) -> None:
    decode = run(phase="decode", steps=512, prompt_len=1024, batch=64, model="llama-3-8b")
    scenario = isotune.scenario(
        "llama-3-8b", "h100", phase="decode", prompt=1024 + 256, batch=64, runtime="eager"
    )
    assert run_seconds(decode, h100) == pytest.approx(isotune.predict(scenario).latency_s)


def test_an_engine_that_writes_its_attention_scores_is_slower(h100: HardwareProfile) -> None:
    served = run(model="llama-3-8b", runtime="cuda_graph", batch=16, prompt_len=1024)
    logged = served.model_copy(update={"source": "ladder_logs"})
    assert engine_of(served) is None
    assert engine_of(logged) is LADDER_STATES[512]
    assert engine_of(logged.model_copy(update={"generated": 32})) is LADDER_STATES[32]
    assert run_seconds(logged, h100) > 1.3 * run_seconds(served, h100)


@pytest.mark.parametrize(
    ("name", "bundled"),
    [
        ("Qwen2.5-72B-Instruct", "qwen2.5-72b"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.1-70b"),
        ("llama-3-8b", "llama-3-8b"),
        ("Mixtral-8x22B-Instruct-v0.1", "mixtral-8x22b"),
        ("llama-2-70b-chat-hf", "llama-2-70b"),
    ],
)
def test_a_model_is_known_by_its_shapes_whatever_its_tuning(name: str, bundled: str) -> None:
    assert model_named(name).name == bundled


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "gpt-17"}, "model 'gpt-17' is not bundled"),
        ({"strategy": "magic"}, "strategy 'magic' is not known"),
        ({"link": "carrier_pigeon"}, "link 'carrier_pigeon' is not known"),
        ({"tp": 16}, "tp: "),
    ],
)
def test_what_cannot_be_predicted_says_why(
    h100: HardwareProfile, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        run_seconds(run(**changes), h100)


def test_a_machine_without_the_link_says_so() -> None:
    with pytest.raises(InputError, match="multimem"):
        run_seconds(run(link="nvlink_multimem", tp=4), isotune.read_profile("a800"))
