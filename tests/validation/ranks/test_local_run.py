"""A rank that fails ends the run with one clear line, within the timeout, and leaves nothing."""

import os
import signal
import subprocess
import sys
import time

import pytest
from _support.jobs import Began, Failing, Fails, gone
from _support.paths import SUPPORT

from isotune.validation.ranks import placements, run
from isotune.validation.real_run.messages import TimedRun


@pytest.mark.parametrize(
    ("how", "parts"),
    [
        ("die", ["rank 1 of 2", "measuring, step 3", "killed by SIGKILL", "memory runs out"]),
        ("hang", ["rank 1 of 2", "measuring, step 3", "did nothing for 5 s"]),
        ("memory", ["rank 1 of 2", "measuring, step 3", "ran out of memory", "no room for 3 GB"]),
        ("disagree", ["joining", "rank 1 disagrees with rank 0 about the plan"]),
    ],
)
def test_a_failing_rank_is_named_with_its_step_and_nothing_is_left_running(how, parts):
    sent = []
    text = run(
        Failing(how),
        placements(2),
        device="cpu",
        timeout_s=5.0,
        on_message=lambda _, message: sent.append(message),
    )
    over = time.monotonic()
    assert "\n" not in text
    for part in parts:
        assert part in text
    pids = [message.pid for message in sent if isinstance(message, Began)]
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)
    fails = [message.at for message in sent if isinstance(message, Fails)]
    # Counted from the failure: to start takes as long as the machine is busy.
    assert all(over - failed < (5 if how == "hang" else 0) + 20 for failed in fails)
    assert len(fails) == (0 if how == "disagree" else 1)
    # What was measured before is kept.
    measured = [message for message in sent if isinstance(message, TimedRun)]
    assert len(measured) == (0 if how == "disagree" else 2)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_ranks_end_with_the_process_that_started_them_even_a_stopped_one(how):
    code = (
        "from _support.jobs import Began, Failing\n"
        "from isotune.validation.ranks import placements, run\n"
        "if __name__ == '__main__':\n"
        "    print(run(Failing('hang'), placements(2), device='cpu', timeout_s=100,\n"
        "        on_message=lambda _, m: isinstance(m, Began) and print(m.pid, flush=True)))\n"
    )
    script = SUPPORT.parent
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(script), *sys.path])},
    ) as starter:
        assert starter.stdout is not None
        pids = [int(starter.stdout.readline()) for _ in range(2)]
        os.kill(pids[1], signal.SIGSTOP)
        starter.send_signal(signal.Signals[how])
        out, _ = starter.communicate(timeout=30)
    # A scheduler's SIGTERM leaves time to keep what was measured: it is a failure like others.
    assert out.startswith("ended by SIGTERM (rank ") == (how == "SIGTERM")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not all(map(gone, pids)):
        time.sleep(0.1)
    assert all(map(gone, pids))
