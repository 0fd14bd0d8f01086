"""The process of a command: Ctrl-C is one line and exit 130, passwords are not listed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from isotune.simulator.io import heard, keep_interrupts

SLOW = ("search", "--hw", "a800", "--trials", "1000000", "-o", "plan.yaml")


def started(tmp_path, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "isotune", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )


@pytest.mark.parametrize("after_s", [0.15, 0.3, 0.6, 1.2, 2.5])
def test_ctrl_c_is_one_line_and_exit_130(tmp_path, after_s):
    command = started(tmp_path, *SLOW)
    stat = Path(f"/proc/{command.pid}/stat")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # seconds of its own: the machine may be busy
        fields = stat.read_text().rpartition(") ")[2].split()
        if (int(fields[11]) + int(fields[12])) / 100 >= after_s:
            break
        time.sleep(0.005)
    command.send_signal(signal.SIGINT)
    try:
        _, err = command.communicate(timeout=30)
    finally:
        command.kill()
    assert err == "isotune: interrupted\n"
    assert command.returncode == 130


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads Linux' /proc")
def test_a_password_is_in_no_list_of_processes(tmp_path):
    url = "postgresql://user:S3CRET@10.255.255.1:1/db?password=OTHER"
    command = started(tmp_path, "search", "--hw", "a800", "--storage", url)
    listed = Path(f"/proc/{command.pid}/cmdline")
    try:
        deadline, text = time.monotonic() + 20, ""
        while time.monotonic() < deadline:
            text = listed.read_text()
            if "user:" in text and "S3CRET" not in text:
                break
            time.sleep(0.02)
    finally:
        command.kill()
        command.communicate()
    assert "user:******@10.255.255.1:1/db?password=*****" in text


def test_a_password_is_in_no_message_and_no_saved_command(isotune, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url in (
        "postgres://user:S3CRET@host/db",
        "mysql://user:S3CRET@host",
        "postgresql+psycopg://user:S3CRET@host/db",
        "postgresql://user:S3/CRET@host/db",
        "postgresql://user:S3:CRET@host/db",
        "postgresql://user:S3CRET@127.0.0.1:1/db",
        "postgresql://user@127.0.0.1:1/db?password=S3CRET",
        "postgresql://user@127.0.0.1:1/db?pass%77ord=S3CRET",
    ):
        outcome = isotune("search", "--hw", "a800", "--storage", url)
        assert outcome.code == 2
        assert outcome.err.count("\n") == 1
        assert "S3" not in outcome.err
        assert "CRET" not in outcome.err
    unused = ("--hw", "a800", "--name", "postgresql://u@h/d?password=S3CRET")
    assert "S3CRET" not in isotune("hw", "show", "a800", "--json").out
    assert "S3CRET" not in isotune("predict", *unused).err


def test_an_interrupt_that_is_swallowed_comes_again_until_it_is_heard():
    class Lost:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    before = sys.unraisablehook, signal.getsignal(signal.SIGINT)
    keep_interrupts()
    try:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):  # noqa: PT012
                Lost()
                time.sleep(10)
        heard()
        time.sleep(1)
    finally:
        sys.unraisablehook = before[0]
        signal.signal(signal.SIGINT, before[1])


ENDED = """
import signal, sys
from isotune.simulator.io import heard, keep_interrupts
keep_interrupts()
try:
    exec("signal.raise_signal(signal.SIGINT)")
except KeyboardInterrupt:
    heard()
    sys.exit(130)
"""


def test_an_interrupt_in_an_executed_text_ends_with_the_exit_code_all_the_same(tmp_path):
    where = {"PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", ENDED], cwd=tmp_path, check=False, env=where)
    assert ended.returncode == 130


def test_an_argument_that_is_not_utf_8_is_one_line(isotune):
    outcome = isotune("predict", "--hw", "a800", "--model", "m\udcff.json")
    assert outcome.code == 2
    assert "is not UTF-8 text" in outcome.err
    assert outcome.err.count("\n") == 1
