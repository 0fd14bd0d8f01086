"""What many tests need: scenarios of any size, and any plan that suits one."""

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from isotune.simulator.architecture import load_model
from isotune.simulator.machine import HardwareProfile, read_profile
from isotune.simulator.number_types import COMM_DTYPES
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import SEARCHABLE, STRATEGIES, Plan, Workload

ALIKE = {"derandomize": True, "deadline": None, "database": None}
settings.register_profile("isotune", max_examples=40, **ALIKE)
settings.register_profile("thorough", max_examples=400, **ALIKE)
settings.load_profile("isotune")

MakeScenario = Callable[..., Scenario]
MakePlans = Callable[..., SearchStrategy[Plan]]


def _scenario(
    model: str = "llama-2-7b",
    hardware: str | HardwareProfile = "a800",
    *,
    blocks: int | None = 3,
    **workload: Any,
) -> Scenario:
    shape = load_model(model)
    profile = read_profile(hardware) if isinstance(hardware, str) else hardware
    return Scenario(
        model=shape if blocks is None else replace(shape, num_hidden_layers=blocks),
        hardware=profile,
        workload=Workload(**workload),
    )


def _chunks(total: int, most: int) -> SearchStrategy[tuple[int, ...]]:
    """Any cut of `total` into 1 to `most` positive parts."""
    if total == 1:
        return st.just((1,))
    cuts = st.sets(st.integers(1, total - 1), max_size=min(most, total) - 1)
    return cuts.map(sorted).map(
        lambda at: tuple(b - a for a, b in zip([0, *at], [*at, total], strict=True))
    )


@st.composite
def _plans(
    draw: st.DrawFn,
    scenario: Scenario,
    strategies: tuple[str, ...] = SEARCHABLE,
    most_chunks: int = 4,
) -> Plan:
    able = [name for name in strategies if STRATEGIES[name].refusal(scenario.workload) is None]
    strategy = draw(st.sampled_from(able))
    how = STRATEGIES[strategy]
    serial = not how.chunked
    blocks = st.integers(0, scenario.model.num_hidden_layers - 1)
    total = how.total(scenario.workload)
    return Plan(
        strategy=strategy,
        chunks=() if serial else draw(_chunks(total, most_chunks)),
        comm_dtype=draw(st.sampled_from(COMM_DTYPES)) if how.quantised else "bf16",
        comm_sms=None if not how.overlaps else draw(st.none() | st.integers(1, 40)),
        dropped=tuple(sorted(draw(st.sets(blocks)))) if how.drops else (),
    )


@pytest.fixture(scope="session")
def make_scenario() -> MakeScenario:
    """A scenario by names, sizes and fields of the workload; its model cut to `blocks` blocks."""
    return _scenario


@pytest.fixture(scope="session")
def plans() -> MakePlans:
    """A Hypothesis strategy of all plans that suit a scenario."""
    return _plans


TOGETHER = {
    "isotune/report": "pages",
    "isotune/test_results.py": "pages",
    "isotune/test_api.py": "api",
    "isotune/test_wheel.py": "wheel",
    "tuner/search/test_deployments.py": "deployments",
    "tuner/search/test_distributed.py": "distributed",
    "tuner/test_policy.py": "policy",
    "tuner/test_techniques.py": "techniques",
    "validation/executor/test_numbers.py": "numbers",
    "validation/real_run/test_quality.py": "quality",
    "validation/spd/test_recover": "recovery",
    "validation/spd/test_sensitivity.py": "sensitivity",
    "validation/spd/test_spd.py": "spd",
}
"""Tests that share something costly, by the group that has it: one worker runs a group, so that
it is made once."""
SLOW = (
    "docs/test_commands.py",
    "isotune/report",
    "isotune/test_measured_search.py",
    "isotune/test_notebook.py",
    "isotune/test_wheel.py",
    "tuner/search/test_distributed.py",
    "validation/executor",
    "validation/measure",
    "validation/ranks",
    "validation/real_run",
    "validation/spd",
    "validation/weights",
)
"""Tests of seconds each: they start processes, train models, or run whole pages of commands."""


FORKSERVER_PRELOAD = [
    "isotune.tuner.search.best_plan",
    "isotune.tuner.search.distributed",
    "sqlalchemy",
    "isotune.validation.ranks.process",
    "isotune.validation.executor.interpreter",
    "isotune.validation.reference",
]
"""What the processes that tests start would each import for seconds."""


def pytest_xdist_auto_num_workers() -> int:
    """Two workers a core: half of the tests wait, for processes, servers and a browser."""
    return 2 * (os.cpu_count() or 1)


def pytest_configure() -> None:
    """One thread per process: workers on all cores would only wait for one another's threads."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    multiprocessing.set_forkserver_preload(FORKSERVER_PRELOAD)


@pytest.fixture(scope="session", autouse=True)
def _ranks_from_a_fork_server() -> None:
    """Fork ranks from a process that has imported torch once; commands in tests still spawn."""
    if find_spec("torch") is not None:
        from isotune.validation.ranks import process

        process.START_METHOD = "forkserver"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what belongs on one worker, and what is slow.

    As items are collected: pytest-xdist reads the groups before other hooks may change the list.
    """
    place = item.path.relative_to(Path(__file__).parent).as_posix()
    for name, group in TOGETHER.items():
        if place.startswith(name):
            item.add_marker(pytest.mark.xdist_group(group))
    if place.startswith(SLOW):
        item.add_marker(pytest.mark.slow)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest --update-golden` writes what the tests of printed text compare with."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a printed text with `tests/golden/NAME.txt`, or writes it there when asked."""

    def check(name: str, text: str) -> None:
        path = Path(__file__).parent / "golden" / f"{name}.txt"
        stripped = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(stripped, encoding="utf-8")
        assert stripped == path.read_text(encoding="utf-8"), (
            f"{path.name} differs; if that is meant: pytest --update-golden {request.node.nodeid}"
        )

    return check
