"""A GPU's memory is what nvidia-smi reports, which is neither the name's GB nor its GiB."""

import pytest

from isotune.simulator.machine import read_profile


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [("h200", 150.8), ("h100", 85.5), ("b200", 192.3), ("gb200", 198.7), ("b300", 288.4)],
)
def test_the_memory_is_that_of_nvidia_smi_with_its_source(name: str, gigabytes: float) -> None:
    machine = read_profile(name)
    assert machine.gpu.memory / 1e9 == pytest.approx(gigabytes, abs=0.05)
    assert "nvidia-smi" in machine.source_of("gpu.memory")


@pytest.mark.parametrize(
    ("name", "base"), [("gb200", "b200"), ("b300", "b200"), ("gb300", "b200"), ("a30", "a100")]
)
def test_a_machine_that_nobody_measured_says_whose_kernels_stand_in(name: str, base: str) -> None:
    machine = read_profile(name)
    assert machine.inherits("gemm")
    assert f"kernels and collectives of {base}" in machine.cautions()[0] or (
        f"kernels of {base}" in machine.cautions()[0]
    )
