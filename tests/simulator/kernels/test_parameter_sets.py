from typing import Any

import pytest
import yaml

from isotune import hw_profiles, read_profile
from isotune.simulator.architecture import load_model
from isotune.simulator.errors import InputError
from isotune.simulator.io import validate
from isotune.simulator.machine import HardwareProfile, write_profile
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import Workload

H100 = yaml.safe_load((hw_profiles.FOLDER / "h100.yaml").read_text())
FP8 = {"dtype": "fp8", "error": 0.2, "launch": "4 us", "tensor_efficiency": 0.5}


def profile(section: str = "gemm", **sets: dict[str, Any]) -> HardwareProfile:
    data = H100 | {"gemm": {k: v for k, v in H100["gemm"].items() if k != "sets"}}
    data[section] = dict(data[section])
    data[section]["sets"] = sets
    kept = {
        name: source
        for name, source in H100["sources"].items()
        if not name.startswith(("gemm.sets.", f"{section}.sets."))
    }
    data["sources"] = kept | {f"{section}.sets.{name}": "these tests" for name in sets}
    return validate(HardwareProfile, data, "h100")


def scenario(machine: HardwareProfile, dtype: str = "fp8", **fields: Any) -> Scenario:
    workload = Workload(dtype=dtype, weight_dtype=fields.pop("weight_dtype", dtype), prompt=512)
    return Scenario(model=load_model("llama-2-7b"), hardware=machine, workload=workload, **fields)


def test_a_set_states_what_differs_and_inherits_the_rest_from_the_default_set():
    gemm = profile(fp8=FP8).gemm
    found = gemm.of("fp8")
    assert (found.name, found.error, found.stands_in_for) == ("fp8", 0.2, "")
    assert (found.parameters.launch, found.parameters.tensor_efficiency) == (4e-6, 0.5)
    assert found.parameters.sm_feed == gemm.sm_feed


def test_usual_types_take_the_default_set_and_others_say_what_it_stands_in_for():
    gemm = profile().gemm
    for usual in ("bf16", "fp16"):
        assert gemm.of(usual).parameters is gemm
        assert gemm.of(usual).stands_in_for == ""
    assert gemm.of("fp8").stands_in_for == "fp8 operands"
    assert gemm.of("bf16", "int4").stands_in_for == "int4 weights times bf16 activations"


def test_weights_of_a_narrow_type_do_not_take_the_set_of_products_in_that_type():
    assert profile(fp8=FP8).gemm.of("bf16", "fp8").name == ""


def test_a_set_of_weights_alone_is_found_by_both_types():
    gemm = profile(int4={"dtype": "bf16", "weight_dtype": "int4", "dequantisation": 0.3}).gemm
    assert gemm.of("bf16", "int4").parameters.dequantisation == 0.3
    assert gemm.of("bf16").name == ""


def test_the_type_goes_before_the_engine_and_both_before_either():
    gemm = profile(
        fp8=FP8,
        vllm={"engine": "vllm", "launch": "5 us"},
        both={"dtype": "fp8", "engine": "vllm", "launch": "6 us"},
        sglang={"engine": "sglang", "launch": "7 us"},
    ).gemm
    chosen = {
        (dtype, engine): gemm.of(dtype, engine=engine).name
        for dtype in ("bf16", "fp8")
        for engine in (None, "vllm", "sglang", "trtllm")
    }
    assert chosen == {
        ("bf16", None): "",
        ("bf16", "vllm"): "vllm",
        ("bf16", "sglang"): "sglang",
        ("bf16", "trtllm"): "",
        ("fp8", None): "fp8",
        ("fp8", "vllm"): "both",
        ("fp8", "sglang"): "fp8",
        ("fp8", "trtllm"): "fp8",
    }
    assert gemm.of("fp8", engine="sglang").stands_in_for == "sglang"
    assert gemm.of(engine="trtllm").stands_in_for == "trtllm"


def test_nested_figures_are_replaced_one_by_one():
    slow = {"engine": "vllm", "decode": {"launch": "9 us"}}
    attention = profile("attention", vllm=slow).attention
    found = attention.of(engine="vllm").parameters
    assert found.decode == attention.decode.model_copy(update={"launch": 9e-6})
    assert found.prefill == attention.prefill


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"a": {"launch": "4 us"}}, "a set needs dtype, engine or both"),
        ({"a": {"dtype": "fp6", "launch": "4 us"}}, "gemm.sets.a.dtype: Input should be"),
        ({"a": {"dtype": "fp8", "lunch": "4 us"}}, "sets.a.: lunch: Extra inputs"),
        ({"a": {"dtype": "fp8", "launch": "4 s"}}, "sets.a.: launch: Input should be less"),
        ({"a": {"dtype": "fp8", "launch": 4e-6}}, "launch: 4e-06 is not a number with a unit"),
        ({"a": FP8, "b": FP8}, "sets.b: is for the same type and engine as a"),
        ({"a": {"weight_dtype": "int4", "engine": "x"}}, "weight_dtype: needs dtype"),
        ({"a.b": FP8}, "String should match pattern"),
    ],
)
def test_a_set_that_says_nothing_or_something_wrong_is_refused(sets: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        profile(**sets)


def test_a_set_needs_a_source_of_its_own():
    data = H100 | {"gemm": {k: v for k, v in H100["gemm"].items() if k != "sets"}}
    data["gemm"]["sets"] = {"mine": FP8}
    with pytest.raises(InputError, match=r"gemm\.sets\.mine has no source of its own"):
        validate(HardwareProfile, data, "h100")


def test_a_profile_with_sets_is_written_and_read_back(tmp_path):
    machine = profile(fp8=FP8)
    write_profile(machine, tmp_path / "mine.yaml", "A test.")
    again = read_profile(str(tmp_path / "mine.yaml"))
    assert again == machine
    assert list(yaml.safe_load((tmp_path / "mine.yaml").read_text())["gemm"])[-1] == "sets"


def test_a_derived_profile_inherits_the_sets_and_scales_them(tmp_path):
    machine = profile(fp8=FP8 | {"l2_bandwidth": "4 TB/s"})
    write_profile(machine, tmp_path / "base.yaml", "A test.")
    half = {
        "name": "half",
        "description": "half the SMs",
        "gpu": H100["gpu"] | {"sms": 66},
        "node": H100["node"],
        "derived_from": "base.yaml",
        "sources": {"gpu": "data sheet", "node": "data sheet"},
    }
    (tmp_path / "half.yaml").write_text(yaml.safe_dump(half))
    derived = read_profile(str(tmp_path / "half.yaml"))
    assert derived.inherits("gemm")
    assert derived.gemm.of("fp8").parameters.l2_bandwidth == pytest.approx(2e12)
    assert "ratio of the SMs" in derived.source_of("gemm.sets.fp8.l2_bandwidth")
    assert derived.source_of("gemm.sets.fp8.launch").startswith("inherited from h100")


def test_a_prediction_uses_the_set_of_its_types_its_error_and_its_source():
    with_set, without = scenario(profile(fp8=FP8)), scenario(profile())
    assert predict(with_set).latency_s != predict(without).latency_s
    assert with_set.class_errors()["gemm"] == 0.2
    assert without.class_errors() == without.hardware.class_errors()
    assert (with_set.section("gemm"), without.section("gemm")) == ("gemm.sets.fp8", "gemm")
    assert with_set.cautions() == ()
    assert without.cautions() == (
        "gemm of h100 was not measured for fp8 operands: its default set stands in.",
    )


def test_a_set_changes_nothing_for_other_types():
    bf16 = scenario(profile(fp8=FP8), "bf16")
    assert predict(bf16).latency_s == predict(scenario(profile(), "bf16")).latency_s
    assert bf16.class_errors() == bf16.hardware.class_errors()


def test_an_engine_s_set_is_used_under_that_engine():
    machine = profile("elementwise", slow={"engine": "vllm", "launch": "50 us"})
    plain = scenario(machine, "bf16")
    under, other = (plain.with_workload(engine=name) for name in ("vllm", "sglang"))
    assert predict(under).latency_s > predict(plain).latency_s > predict(other).latency_s
    assert not any("was not measured for" in text for text in under.cautions())
    assert any("elementwise of h100 was not measured for sglang" in c for c in other.cautions())
