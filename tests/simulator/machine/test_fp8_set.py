from isotune.simulator.architecture import load_model
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Workload

H100 = read_profile("h100")


def at(**types: str) -> Scenario:
    return Scenario(
        model=load_model("llama-3.1-70b"), hardware=H100, workload=Workload(prompt=2048, **types)
    )


def test_products_of_fp8_operands_take_the_measured_set_with_its_source_and_its_error():
    both = at(dtype="fp8", weight_dtype="fp8")
    assert both.section("gemm") == "gemm.sets.fp8"
    assert both.cautions() == ()
    assert "rows held back" in H100.source_of("gemm.sets.fp8")
    assert H100.calibration is not None
    held = H100.calibration.errors["gemm.fp8"]
    assert held.held_back >= 300
    assert both.class_errors()["gemm"] > held.mape


def test_fp8_weights_alone_still_mean_storage_and_say_that_nobody_measured_them():
    weights = at(weight_dtype="fp8")
    assert weights.section("gemm") == "gemm"
    assert "fp8 weights times bf16 activations" in weights.cautions()[0]
