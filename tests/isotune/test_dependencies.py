"""Each dependency is declared, bounded, pinned for continuous integration, and has its reason."""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator

import pytest
from _support.paths import ROOT
from packaging.requirements import Requirement

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
FOR_USERS = [*PROJECT["dependencies"]] + [
    line for name in sorted(EXTRAS.keys() - {"test", "docs", "dev"}) for line in EXTRAS[name]
]
UNBOUNDED = {"rich", "lazy-loader", "pyarrow"}
"""Their majors come without breaks; CONTRIBUTING.md says so."""
NOT_IN_CI = {"aiconfigurator-core"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def asked(lines: list[str]) -> list[Requirement]:
    """The requirements of other projects."""
    found = [Requirement(line) for line in lines]
    return [one for one in found if canonical(one.name) != "isotune"]


ALL = asked([*FOR_USERS, *(line for lines in EXTRAS.values() for line in lines)])


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    split = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonical(name): version for name, version in split}


def needed(requirement: Requirement, seen: set[str]) -> Iterator[str]:
    """A package and what it needs, as far as it is installed here."""
    name = canonical(requirement.name)
    key = f"{name}[{','.join(sorted(requirement.extras))}]"
    if key in seen:
        return
    seen.add(key)
    yield name
    try:
        lines = importlib.metadata.distribution(name).requires or []
    except importlib.metadata.PackageNotFoundError:
        return
    for line in lines:
        one = Requirement(line)
        extras = (*requirement.extras, "")
        if one.marker is None or any(one.marker.evaluate({"extra": name}) for name in extras):
            yield from needed(one, seen)


def test_what_continuous_integration_installs_is_pinned() -> None:
    seen: set[str] = set()
    names = {name for one in ALL for name in needed(one, seen)}
    # What torch needs differs with its build: that for CUDA brings NVIDIA's packages.
    of_cuda = {name for name in names if name.startswith(("nvidia-", "cuda-")) or name == "triton"}
    assert names - set(pins()) - NOT_IN_CI - of_cuda == set()


@pytest.mark.parametrize("requirement", ALL, ids=lambda one: one.name)
def test_a_pin_is_in_the_declared_range(requirement: Requirement) -> None:
    name = canonical(requirement.name)
    assert name in NOT_IN_CI or requirement.specifier.contains(pins()[name])


def test_dependencies_of_users_are_bounded_where_a_major_breaks() -> None:
    bounded = {
        canonical(one.name): any(bound.operator == "<" for bound in one.specifier)
        for one in asked(FOR_USERS)
    }
    assert {name for name, is_bounded in bounded.items() if not is_bounded} == UNBOUNDED


def test_contributing_says_why_each_is_there_and_names_no_other() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, _, section = text.partition("## Why each dependency\n")
    rows = [line.split("|")[1] for line in section.split("\n## ")[0].splitlines() if "|" in line]
    cells = [re.sub(r"\(.*?\)", "", row) for row in rows[2:]]
    named = {canonical(name.strip()) for cell in cells for name in cell.split(",")}
    assert named == {canonical(one.name) for one in ALL}
