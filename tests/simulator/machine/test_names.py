"""A machine is found by its profile's name, its GPU's name, or what the driver says is here."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from isotune import hw_profiles
from isotune.simulator.errors import InputError
from isotune.simulator.machine import read_profile


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("8xH100", "h100"),
        ("8 x NVIDIA H100 80GB HBM3", "h100"),
        ("nvidia h100 80gb hbm3", "h100"),
        ("A100-SXM4-80GB", "a100"),
        ("h100-sxm", "h100"),
        ("h100_sxm.yaml", "h100"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("RTX 4090", "rtx4090"),
    ],
)
def test_a_machine_has_the_names_that_people_give_it(name: str, profile: str) -> None:
    assert read_profile(name).name == profile


def test_every_product_name_stands_for_a_bundled_profile() -> None:
    assert set(hw_profiles.PRODUCTS.values()) <= set(hw_profiles.names())
    for product, profile in hw_profiles.PRODUCTS.items():
        assert read_profile(product).name == profile


def test_another_number_of_gpus_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match=r"not 4 \(allowed: --hw h100 --tp 4 for 4 of them"):
        read_profile("4xh100")
    with pytest.raises(InputError, match=r"not 16 \(allowed: a profile of your own"):
        read_profile("16xh100")


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts an nvidia-smi that prints a text before all others."""

    def says(text: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return says


def test_auto_is_what_the_driver_lists(driver: Callable[[str], None]) -> None:
    driver("\n".join(["NVIDIA H100 80GB HBM3"] * 8))
    assert read_profile("auto").name == "h100"


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("NVIDIA H100 80GB HBM3", r"8 GPUs, not 1"),
        ("NVIDIA H100 80GB HBM3\nNVIDIA L4", r"one kind, found 1 x NVIDIA H100 80GB HBM3, 1 x"),
        ("", r"found no GPU"),
        ("Tesla K80", r"'Tesla K80': no such file or profile"),
        ("NVIDIA H100 NVL, 95830, 9.0", r"nearest machine is h100 \(86 GB.*8 GPUs, not 1"),
        ("NVIDIA RTX 6000 Ada, 49140, 8.9", r"nearest machine is l40s \(8 GPUs, not 1\)"),
    ],
)
def test_auto_refuses_what_no_profile_describes(
    driver: Callable[[str], None], listed: str, message: str
) -> None:
    driver(listed)
    with pytest.raises(InputError, match=message):
        read_profile("auto")


def test_auto_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="nvidia-smi found no GPU here"):
        read_profile("auto")
