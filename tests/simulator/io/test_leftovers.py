"""What a killed run leaves beside its output is removed by the next; what is in use is not."""

import os
import time
from pathlib import Path

import pytest

from isotune.simulator.io import check_writable, temporary_file, temporary_folder
from isotune.simulator.io.leftovers import remove_leftovers

LONG_AGO = time.time() - 3600


def aged(path):
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def killed(make, path):
    """What a process leaves that is killed within the block."""
    child = os.fork()
    if child == 0:
        with make(path) as made:
            if made.is_dir():
                (made / "half").write_text("half")
            os._exit(9)
    os.waitpid(child, 0)


@pytest.mark.parametrize("make", [temporary_file, temporary_folder])
def test_the_next_run_removes_what_a_killed_one_left(tmp_path, make):
    output = tmp_path / "plan.yaml"
    killed(make, output)
    (left,) = tmp_path.iterdir()
    check_writable(output)
    assert names(tmp_path) == [left.name], "it may be another run's, which has just begun"
    aged(left)
    check_writable(output)
    assert names(tmp_path) == []


@pytest.mark.parametrize("make", [temporary_file, temporary_folder])
def test_what_a_run_is_writing_is_not_removed(tmp_path, make):
    output = tmp_path / "plan.yaml"
    with make(output) as made:
        aged(made)
        remove_leftovers(output)
        assert made.exists()
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", [".plan.yaml.txt", ".plan.yaml.abcdefgh", ".other.abcdefgh.tmp"])
def test_other_hidden_files_are_not_removed(tmp_path, name):
    aged(Path(tmp_path / name).absolute()) if (tmp_path / name).write_text("mine") else None
    check_writable(tmp_path / "plan.yaml")
    assert names(tmp_path) == [name]
