"""What needs torch, and small synthetic tables of what the model predicts."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from isotune.cli import main
from isotune.simulator.machine import HardwareProfile, read_profile
from isotune.validation.check.measured_passes import run_seconds
from isotune.validation.tables import read_runs

# Rooms that need torch are not collected without the extra `validate`; the header says so.
NEED_TORCH = ["executor", "measure", "ranks", "real_run", "spd", "weights"]
MISSING = [name for name in ("torch", "transformers", "safetensors") if find_spec(name) is None]
if MISSING:
    collect_ignore = NEED_TORCH


def pytest_report_header() -> str:
    """Say which tests are left out, and why."""
    if not MISSING:
        return "executor tests: collected"
    return f"executor tests: left out, no {', '.join(MISSING)} (extra `validate`)"


HEADER = "hw,model,tp,batch,prompt_len,phase,steps,link,runtime,strategy,latency_ms,source"
RunTable = Callable[..., Path]


@pytest.fixture
def isotune(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line; its exit code, and what it printed on both streams."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models that have learned, by family; see `recovering`."""
    from _support.recovering import learned_models

    return learned_models(tmp_path_factory.mktemp("learned"))


@pytest.fixture(scope="session")
def recovered(models: dict[str, Path]) -> Any:
    """The same, recovered with all syncs dropped; see `recovering`."""
    from _support.recovering import recovered_models

    return recovered_models(models)


@pytest.fixture(scope="session")
def h100() -> HardwareProfile:
    return read_profile("h100")


@pytest.fixture
def run_table(tmp_path: Path, h100: HardwareProfile) -> RunTable:
    """A table of whole passes: each row's cells but the latency, which the model predicts.

    `factor` maps a strategy to measured over predicted, 1 unless given.
    """

    def write(*rows: str, factor: dict[str, float] | None = None) -> Path:
        path = tmp_path / "runs.csv"
        cells = [row.split(",") for row in rows]
        path.write_text("\n".join([HEADER, *(",".join([*c[:10], "1", c[10]]) for c in cells)]))
        lines = [HEADER]
        for cell, run in zip(cells, read_runs(path), strict=True):
            seconds = run_seconds(run, h100) * (factor or {}).get(run.strategy, 1.0)
            lines.append(",".join([*cell[:10], repr(seconds * run.steps * 1e3), cell[10]]))
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
