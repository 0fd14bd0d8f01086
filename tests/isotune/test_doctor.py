"""`isotune doctor`: what is here, which machine is near, and the commands to go on with."""

import json
import os
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from isotune.commands import doctor
from isotune.simulator.machine import Found, bundled_profiles, nearest_machine, read_profile

ROOT = Path(__file__).parents[2]
MESH = "        \x1b[4mGPU0    GPU1\x1b[0m\nGPU0     X      {0}\nGPU1    {0}      X\n"


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Puts an nvidia-smi that lists GPUs, and prints how they are joined."""

    def says(listed, link="NV18", knows_capability=True):
        program = tmp_path / "nvidia-smi"
        refuse = "" if knows_capability else "case $1 in *compute_cap*) exit 2;; esac\n"
        program.write_text(
            f"#!/bin/sh\n{refuse}if [ $1 = topo ]; then cat <<'END'\n{MESH.format(link)}END\n"
            f"else cat <<'END'\n{listed}\nEND\nfi\n"
        )
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return says


@pytest.fixture
def found(isotune):
    def of():
        done = isotune("doctor", "--json")
        assert (done.code, done.err) == (0, "")
        return json.loads(done.out)

    return of


def test_the_machine_of_a_profile_is_recognised(driver, found):
    driver("\n".join(["NVIDIA H100 80GB HBM3, 81559, 9.0"] * 8))
    facts = found()
    assert facts["gpus"]["link"] == "nvlink"
    assert facts["profile"] == {
        "name": "h100",
        "of_this_gpu": True,
        "measured": True,
        "differs": [],
    }
    assert facts["next"][0] == "isotune search --hw h100 --tp 8"


@pytest.mark.parametrize(
    ("listed", "link", "near"),
    [
        (["NVIDIA H100 NVL, 95830, 9.0"] * 8, "NODE", "h100-pcie"),
        (["NVIDIA GH200 480GB, 97871, 9.0"] * 8, "NV18", "h100"),
        (["NVIDIA RTX 6000 Ada Generation, 49140, 8.9"] * 8, "SYS", "l40s"),
        (["NVIDIA A100-SXM4-40GB, 40960, 8.0"] * 4, "NV4", "a100"),
        (["Tesla T4, 15360, 7.5"] * 4, "SYS", "a30"),
    ],
)
def test_an_unknown_gpu_gets_the_machine_of_its_generation_and_link(
    driver, found, listed, link, near
):
    driver("\n".join(listed), link)
    facts = found()["profile"]
    profile = read_profile(facts["name"])
    assert (profile.name, facts["of_this_gpu"]) == (near, False)
    memory = float(listed[0].split(", ")[1]) * 2**20
    assert profile.node.link == ("nvlink" if link.startswith("NV") else "pcie")
    told = any("GB of memory" in one for one in facts["differs"])
    assert told == (abs(memory / profile.gpu.memory - 1) > 0.1)


MEASURED = [
    profile.name
    for profile in bundled_profiles()
    if not profile.inherits("gemm") and (profile.gpu.architecture or "").startswith("sm")
]


@pytest.mark.parametrize("name", MEASURED)
def test_a_measured_machine_is_nearest_to_one_like_it_under_another_name(name):
    profile = read_profile(name)
    gpu, node = profile.gpu, profile.node
    memory, link = gpu.memory * 1.02, node.link
    like = Found(name="another", count=4, memory=memory, architecture=gpu.architecture, link=link)
    resembles = nearest_machine(like, bundled_profiles())
    assert (resembles.gpu.architecture, resembles.node.link) == (gpu.architecture, link)
    assert resembles.gpu.memory == pytest.approx(gpu.memory, rel=0.1)


def test_an_old_driver_that_knows_no_capability_is_read(driver, found):
    driver("NVIDIA L4\nNVIDIA L4", "PHB", knows_capability=False)
    facts = found()
    assert (facts["gpus"]["count"], facts["gpus"]["memory"]) == (2, None)
    assert facts["profile"]["name"] == "l4"


def test_a_gpu_of_which_nothing_is_known_gets_no_machine(driver, found, isotune):
    driver("Tesla K80")
    assert found()["profile"] is None
    assert "the driver does not say which machine is near" in _words(isotune("doctor").out)


def test_without_gpus_the_reason_and_a_first_command_are_printed(
    monkeypatch, tmp_path, found, isotune
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "_torch", lambda: None)
    facts = found()
    assert (facts["gpus"], facts["profile"]) == (None, None)
    assert "nvidia-smi found no GPU here" in facts["gpus_trouble"]
    assert facts["next"] == ["isotune search --hw a800 --model llama-2-7b --prompt 2k"]
    assert "nvidia-smi found no GPU here" in _words(isotune("doctor").out)


def test_torch_names_the_gpus_where_nvidia_smi_is_missing(monkeypatch, tmp_path, found):
    monkeypatch.setenv("PATH", str(tmp_path))
    gpu = {"name": "NVIDIA H200", "memory": 150e9, "architecture": "sm90"}
    torch = {"version": "2.9.0", "cuda": "12.8", "nccl": "2.27.5", "gpus": [gpu] * 2}
    monkeypatch.setattr(doctor, "_torch", lambda: torch)
    facts = found()
    assert facts["gpus"]["count"] == 2
    assert facts["profile"]["differs"] == ["8 GPUs, not 2"]


def test_an_extra_that_is_missing_says_what_it_would_bring(monkeypatch, found, isotune):
    gone = {"plotly", "torch"}
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name in gone else find_spec(name))
    facts = found()
    missing = {extra["name"]: extra["missing"] for extra in facts["extras"]}
    assert "torch" in missing["validate"]
    assert "plotly" in missing["report"]
    assert {"validate", "report"} <= set(facts["missing"])
    printed = isotune("doctor").out
    assert "one HTML page of saved results" in _words(printed)
    assert max(map(len, printed.splitlines())) <= 80


def test_the_extras_are_those_that_the_package_offers():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    offered = project["optional-dependencies"]
    assert set(doctor.EXTRAS) == set(offered) - {"test", "docs", "dev"}
    for name, (packages, _) in doctor.EXTRAS.items():
        wanted = " ".join(offered[name]).replace("-", "_")
        assert all(package in wanted for package in packages), name


def _words(text):
    return " ".join(text.split())
