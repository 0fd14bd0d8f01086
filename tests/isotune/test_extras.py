"""A command whose extra is missing says what installs it, and has computed and written nothing."""

import re
import sys
import tomllib

import pytest
from _support.paths import ROOT

OF_DEVELOPERS = {"test", "docs", "dev"}
ABSENT = {
    "validate": ("torch", "transformers", "safetensors"),
    "distributed": ("psycopg",),
    "sweep": ("pyarrow", "pyarrow.dataset", "pyarrow.parquet"),
    "tables": ("aiconfigurator_core",),
    "report": ("plotly", "plotly.offline"),
}
"""Modules that an environment without the extra does not have."""
TEXT = ("--text", "no-such-text")
ASKS = {
    ("validate", "no-such-plan.yaml"): "validate",
    ("measure", "-o", "m.csv"): "validate",
    ("sensitivity", "--model", "no-such-model", "--tp", "2", *TEXT): "validate",
    ("recover", "--plan", "no-such-plan.yaml", *TEXT, "-o", "r"): "validate",
    ("remeasure", "no-such-plan.yaml", "--sensitivity", "no-such.json", *TEXT): "validate",
    ("models", "show", "no-such-model", "--check"): "validate",
    ("search", "--hw", "a800", "--storage", "postgresql://u@localhost:1/d"): "distributed",
    ("sweep", "--hw", "a800", "-o", "t.parquet"): "sweep",
    ("import", "tables", "--system", "x", "--engine", "x", "--op", "gemm", "-o", "t.csv"): "tables",
    ("report", "no-such-result.json", "-o", "r.html"): "report",
}

COMPUTES = ("isotune.tuner.search.exact_of", "isotune.tuner.sweep.design_space._possible")
"""What a search and a sweep begin to compute with; the others name files that do not exist."""


def test_every_extra_of_users_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"]) - OF_DEVELOPERS
    assert extras == set(ABSENT) == set(ASKS.values())


@pytest.mark.parametrize("asked", ASKS, ids=lambda asked: " ".join(asked[:2]))
def test_a_missing_extra_is_named_before_anything_is_read_or_computed(
    isotune, monkeypatch, tmp_path, asked
):
    monkeypatch.chdir(tmp_path)
    for module in ABSENT[ASKS[asked]]:
        monkeypatch.setitem(sys.modules, module, None)
    for work in COMPUTES:
        monkeypatch.setattr(work, _computed)
    done = isotune(*asked)
    assert (done.code, done.out) == (2, "")
    assert re.findall(r"pip install '([^']*)'", done.err) == [f"isotune[{ASKS[asked]}]"]
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def _computed(*_, **__):
    raise AssertionError("computed before the extra was asked for")
