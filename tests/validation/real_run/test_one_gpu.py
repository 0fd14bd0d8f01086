"""The scripts of a first run on GPUs work without one: parts survive each other, results stay."""

import json
import os
import subprocess
import sys

import pytest
from _support.paths import ROOT
from _support.tiny_models import write_config

SCRIPT = ROOT / "experiments" / "one_gpu.py"
NODE = ROOT / "experiments" / "one_node.sh"
PATHS = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def run(*words, timeout=300):
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=PATHS,
        check=False,
    )


@pytest.mark.slow
def test_every_part_runs_dry_and_ends_on_the_page(tmp_path):
    done = run(tmp_path, "--device", "cpu", "--parts", "machine,numbers,races,held,emulated")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert list(found) == ["machine", "numbers", "races", "held", "emulated"]
    assert found["held"]["skipped"] == "needs a GPU"
    assert all(row["ok"] for row in found["numbers"]["rows"])
    assert {row["same of 6"] for row in found["races"]["rows"]} == {6}
    assert [row["launch"] for row in found["emulated"]["rows"]] == ["eager", "graph"]
    assert all(row["ISO ms"] > 0 for row in found["emulated"]["rows"])
    page = (tmp_path / "one_gpu.md").read_text()
    assert "## Rank 0 of 8, emulated" in page
    assert "Not run: needs a GPU." in page


def test_a_part_that_fails_leaves_the_others_and_earlier_results(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import one_gpu

    results = {"held": {"rows": [{"held": 8, "slower": 1.06}], "seconds": 1.0, "failed": None}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "models").write_text("a file where a folder must be")
    done = run(tmp_path, "--device", "cpu", "--parts", "numbers,machine")
    assert done.returncode == 1
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["held"] == results["held"]
    assert "Error" in found["numbers"]["failed"]
    assert found["machine"]["rows"][0]["torch"]
    assert "**Ended early**" in (tmp_path / "one_gpu.md").read_text()
    # A part that hangs is ended, and its rows until then stay.
    slow = one_gpu.Part("slow", 0.0, False, one_gpu.machine)
    monkeypatch.setitem(one_gpu.PARTS, "machine", slow)
    assert one_gpu.run_part("machine", tmp_path, cpu=True)["failed"] == "took longer than 0 s"


def test_an_unknown_part_is_refused_in_one_line(tmp_path):
    done = run(tmp_path, "--parts", "machine,luck")
    assert done.returncode == 2
    assert "--parts: luck (allowed: machine, numbers" in done.stderr


@pytest.mark.slow
def test_a_node_is_measured_searched_validated_and_reported_in_one_command(tmp_path):
    model = write_config(tmp_path / "llama", "llama", max_position_embeddings=512)
    out = tmp_path / "out"
    fast = {"DEVICE": "cpu", "RANKS": "2", "TOKENS": "96", "SECONDS_EACH": "0.002", "TRIALS": "10"}
    command = f"{sys.executable} -m isotune"
    wrapper = tmp_path / "isotune"
    wrapper.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    wrapper.chmod(0o755)
    done = subprocess.run(
        [NODE, out, model, "96"],
        capture_output=True,
        text=True,
        timeout=600,
        env=PATHS | fast | {"BASE": "a100", "ISOTUNE": str(wrapper)},
        check=False,
    )
    said = done.stdout + done.stderr + (out / "failed.txt").read_text()
    assert done.returncode == 0, said
    assert json.loads((out / "validate-eager.json").read_text())["numbers"]["ok"]
    assert (out / "here.yaml").exists()
    assert "<html" in (out / "report.html").read_text()
