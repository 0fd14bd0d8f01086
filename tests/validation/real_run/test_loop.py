"""The loop without a GPU closes: its mechanics, not its timings."""

import subprocess
import sys
from pathlib import Path

import pytest
from _support.paths import ROOT
from netns import NoNamespacesError, network

import isotune.commands

SCRIPT = ROOT / "experiments" / "cpu_loop.py"
CALIBRATE = Path(isotune.commands.__file__).with_name("measurements") / "calibrate.py"


def test_measure_calibrate_search_and_validate_work_together_on_a_paced_link(tmp_path):
    try:
        with network(2):
            pass
    except NoNamespacesError as error:
        pytest.skip(str(error))
    if not CALIBRATE.exists():
        pytest.skip("`isotune calibrate` is not there yet")
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--keep", tmp_path],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split()[0] for line in done.stdout.splitlines()]
    assert rows == ["plan", "ISO", "SPD", "both"]
    assert (tmp_path / "r1.yaml").exists()
