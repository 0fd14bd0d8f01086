import pytest

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


MEASURED = {
    "h100": ("fp8", "fp8_block"),
    "h200": ("fp8", "fp8_block"),
    "b200": ("fp8", "fp8_block", "nvfp4"),
    "l40s": ("fp8", "fp8_block"),
    "rtxpro6000": ("fp8", "nvfp4"),
}


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, dtype) for name, types in MEASURED.items() for dtype in types]
)
def test_each_measured_type_has_a_set_within_an_eighth_of_rows_held_back(name, dtype):
    machine = read_profile(name)
    found = machine.gemm.of(dtype)
    assert found.stands_in_for == ""
    assert "rows held back" in machine.source_of(found.path("gemm"))
    held = machine.calibration.errors[f"gemm.{dtype}"]
    assert held.held_back >= 70
    assert held.mape < 0.125
    assert 0.8 * held.mape < found.error < 2 * held.mape


@pytest.mark.parametrize("name", ["h100", "h200", "b200", "l40s"])
def test_block_scales_say_that_their_launch_was_not_measured(name):
    machine = read_profile(name)
    source = machine.source_of("gemm.sets.fp8_block")
    assert "launch assumed" in source
    assert machine.gemm.of("fp8_block").parameters.launch == pytest.approx(2 * machine.gemm.launch)


def test_fp8_weights_alone_still_mean_storage_and_say_that_nobody_measured_them():
    weights = at(weight_dtype="fp8")
    assert weights.section("gemm") == "gemm"
    assert "fp8 weights times bf16 activations" in weights.cautions()[0]


@pytest.mark.parametrize("name", ["h100", "h200", "b200", "rtxpro6000"])
def test_machines_with_measured_experts_have_a_section_and_sets_with_their_errors(name):
    machine = read_profile(name)
    for dtype, weight_dtype in (("bf16", "bf16"), ("fp8", "fp8"), ("bf16", "int4")):
        found = machine.expert_kernels(dtype, weight_dtype)
        assert found.stands_in_for == ""
        assert 0 < found.error < 0.25
        assert "rows held back" in machine.source_of(found.path("experts"))
