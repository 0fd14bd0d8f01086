"""Runs the command line in this process, as the console script does, and keeps its results."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from _support.report_cases import results_in

from isotune.cli import main


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def isotune(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def run(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        captured = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def saved_results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One result of each kind, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("results")
    before = Path.cwd()
    os.chdir(folder)
    try:
        return dict(results_in(folder))
    finally:
        os.chdir(before)
