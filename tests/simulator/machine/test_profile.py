"""A hardware profile: every figure has a unit and a source, and a bad one is named."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from isotune import hw_profiles
from isotune.simulator.errors import InputError
from isotune.simulator.machine import HardwareProfile, read_profile

BUNDLED = hw_profiles.names()


@pytest.fixture(scope="module")
def a800() -> dict[str, Any]:
    data = yaml.safe_load((hw_profiles.FOLDER / "a800.yaml").read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


def refusal(folder: Path, data: dict[str, Any]) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_profile(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def changed(data: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with the field at `path` set, or removed where the value is `...`."""
    copy = deepcopy(data)
    *groups, last = path.split(".")
    group = copy
    for name in groups:
        group = group[name]
    if value is ...:
        del group[last]
    else:
        group[last] = value
    return copy


def test_the_machines_of_the_papers_and_their_neighbours_are_bundled() -> None:
    assert set(BUNDLED) >= {"a100", "a100-lbw", "a800", "h100", "h200", "rtx4090"}


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_profile_loads_and_is_called_what_its_file_is(name: str) -> None:
    assert read_profile(name).name == name


@pytest.mark.parametrize("name", BUNDLED)
def test_every_figure_of_a_bundled_profile_has_a_source(name: str) -> None:
    profile = read_profile(name)
    figures = list(profile.figures())
    assert len(figures) > 30
    assert [path for path in figures if not profile.source_of(path)] == []


@pytest.mark.parametrize("spelling", ["a800", "a800.yaml", "a800.yml", "A800", "A800.YAML"])
def test_a_bundled_profile_is_found_with_or_without_yaml_in_any_case(spelling: str) -> None:
    assert read_profile(spelling) == read_profile("a800")


def test_a_profile_of_ones_own_is_found_by_its_path(tmp_path: Path, a800: dict[str, Any]) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(yaml.safe_dump(changed(a800, "name", "lab")), encoding="utf-8")
    assert read_profile(str(path)).name == "lab"


def test_a_profile_survives_being_written_and_read(tmp_path: Path) -> None:
    profile = read_profile("h100")
    path = tmp_path / "copy.yaml"
    data = profile.model_dump(mode="json", exclude_none=True)
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert read_profile(str(path)) == profile


@pytest.mark.parametrize(
    ("name", "near"), [("a8000", "a800"), ("rtx-4090", "rtx4090"), ("H10O.yaml", "h100")]
)
def test_an_unknown_profile_gives_the_nearest_names(name: str, near: str) -> None:
    with pytest.raises(InputError, match=rf"hardware '{name}'.*did you mean .*{near}.*bundled: "):
        read_profile(name)


@pytest.mark.parametrize("name", ["", ".", "x" * 300, "a\0b", "../a800", "no/such/a800.yaml"])
def test_what_cannot_be_a_profile_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match="no such file or profile"):
        read_profile(name)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("gpu.memory", "80 GB/s", "gpu.memory: unknown unit 'GB/s' in '80 GB/s' (units: B,"),
        ("gpu.memory", 80e9, "gpu.memory: 80000000000.0 is not a number with a unit (units: B,"),
        ("gpu.memory", 80, "gpu.memory: 80 is not a number with a unit"),
        ("gpu.memory", "-80 GB", "gpu.memory: Input should be greater than or"),
        ("gpu.memory", "0 GB", "gpu.memory: Input should be greater than or"),
        ("gpu.memory", None, "gpu.memory: None is not a number with a unit"),
        ("gpu.memory", ..., "gpu.memory: Field required"),
        ("gpu.sms", -1, "gpu.sms: Input should be greater than 0 (got -1)"),
        ("gpu.sms", True, "gpu.sms: Input should be a valid integer (got True)"),
        ("gpu.sms", "108", "gpu.sms: Input should be a valid integer (got '108')"),
        ("gpu.ssm", 108, "gpu.ssm: Extra inputs are not permitted (got 108)"),
        ("gpu", 5, "gpu: Input should be a valid dictionary"),
        ("gpu", ..., "gpu: Field required"),
        ("node.link", "wire", "node.link: Input should be 'nvlink', 'pcie' or 'infinity_fabric'"),
        ("node.gpus", 0, "node.gpus: Input should be greater than or equal to 1 (got 0)"),
        ("node.link_bandwidth", "200 GB", "node.link_bandwidth: unknown unit 'GB'"),
        ("runtime.sustained_clock", 1.5, "runtime.sustained_clock: Input should be less than"),
        ("runtime.sustained_clock", float("nan"), "runtime.sustained_clock: Input should be"),
        ("runtime.launch_gap", "1 s", "runtime.launch_gap: Input should be less than or equal"),
        ("collectives.default", "magic", "collectives: unknown algorithm 'magic' (there are: nccl"),
        ("name", "../../etc", "name: String should match pattern"),
        ("extra", 1, "extra: Extra inputs are not permitted"),
        ("sources", {"gpu": "spec"}, "node.gpus has no source"),
        ("sources.gpu", " ", "gpu.sms has no source"),
        ("sources.gpu", ..., "gpu.sms has no source"),
        ("sources.gpo", "spec", "'gpo' names no figure"),
        ("sources", ..., "sources: Field required"),
    ],
)
def test_a_bad_figure_is_named_with_what_is_allowed(
    tmp_path: Path, a800: dict[str, Any], path: str, value: object, message: str
) -> None:
    assert message in refusal(tmp_path, changed(a800, path, value))


def test_the_longest_source_that_covers_a_figure_is_its_source(a800: dict[str, Any]) -> None:
    sources = a800["sources"] | {"gpu": "data sheet", "gpu.memory": "nvidia-smi"}
    profile = HardwareProfile.model_validate(
        read_profile("a800").model_dump() | {"sources": sources}
    )
    assert profile.source_of("gpu.memory") == "nvidia-smi"
    assert profile.source_of("gpu.memory_bandwidth") == "data sheet"


@pytest.mark.parametrize("name", hw_profiles.names())
def test_a_source_is_not_the_profile_itself_nor_the_figure_again(name: str) -> None:
    profile = read_profile(name)
    for path in profile.figures():
        source = profile.source_of(path)
        assert not re.search(rf"kept from {re.escape(name)}\b(?!-)", source), path
        assert not re.fullmatch(r"[0-9.e+-]+ ?[A-Za-z/]*", source), path
