"""The real torchrun starts the ranks: on one machine, and two agents that stand for two nodes."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
import yaml
from _support.jobs import gone
from _support.paths import SUPPORT
from _support.tiny_models import model_reference, write_config


@pytest.fixture
def plan(tmp_path):
    folder = write_config(tmp_path / "tiny", "llama")
    fields = {
        "hardware": "a800",
        "model": model_reference(folder),
        "workload": {"prompt": 64, "tp": 2},
        "plan": {"strategy": "iso", "chunks": [40, 24]},
    }
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(fields))
    return path


def torchrun(*arguments):
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment | {"OMP_NUM_THREADS": "1"},
    )


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


VALIDATE = ("-m", "isotune", "validate")
FAST = ("--json", "--device", "cpu", "--repeat", "2", "--warmup", "1")


def test_torchrun_starts_the_ranks_of_one_machine(plan):
    run = torchrun(*("--nproc-per-node", 2, "--master-port", free_port()), *VALIDATE, plan, *FAST)
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    found = json.loads(out)
    assert found["numbers"]["ok"]
    assert len(found["memory"]["peak_bytes"]) == 2


def test_two_agents_are_two_nodes_of_one_run(plan):
    port = free_port()
    agents = [
        torchrun(
            *("--nnodes", 2, "--nproc-per-node", 1, "--node-rank", node),
            *("--master-addr", "127.0.0.1", "--master-port", port),
            *(*VALIDATE, plan, *FAST),
        )
        for node in range(2)
    ]
    outputs = [agent.communicate(timeout=300) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    assert json.loads(outputs[0][0])["complete"]
    assert outputs[1][0] == ""


def test_bad_input_is_one_line_whatever_the_number_of_ranks(plan):
    (run,) = agents(1, *VALIDATE, plan, "--device", "cpu", "--layers", 3)
    out, err = run.communicate(timeout=300)
    assert run.returncode == 1  # torchrun's own
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("isotune:")]
    assert "--layers: tiny has 2 blocks (allowed: 1 to 2)" in line


def test_a_measured_search_with_a_storage_runs_under_torchrun(tmp_path):
    found, study = tmp_path / "found.yaml", f"sqlite:///{tmp_path / 'study.db'}"
    model = write_config(tmp_path / "tiny", "llama")
    scenario = ("--hw", "a800", "--model", model, "--tp", 2, "--prompt", 64)
    asked = ("--measured", "--budget", "3s", "--trials", 3, "--storage", study, "-o", found)
    (run,) = agents(1, "-m", "isotune", "search", *scenario, *asked, "--device", "cpu", "--json")
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    result = json.loads(out)
    assert result["complete"]
    assert result["compared_in_turns"]
    assert min(item["measured_s"] for item in result["tried"]) > 0
    assert yaml.safe_load(found.read_text())["plan"]["strategy"] == result["plan"]["strategy"]


def agents(nodes, *arguments):
    """One torchrun with two ranks, or two with one rank each."""
    port, each = free_port(), 2 // nodes
    ranks = ("--nproc-per-node", each, "--master-addr", "127.0.0.1", "--master-port", port)
    return [
        torchrun("--nnodes", nodes, "--node-rank", node, *ranks, *arguments)
        for node in range(nodes)
    ]


@pytest.mark.parametrize(
    ("how", "nodes", "words", "stated_s"),
    [
        ("die", 1, "was killed by SIGKILL, as when memory runs out", 0),
        ("raise", 2, "ValueError: no such thing", 0),
        ("hang", 2, "did nothing for 5 s", 5),
    ],
)
def test_a_failing_rank_is_named_with_its_step_and_what_was_measured_is_kept(
    how, nodes, words, stated_s
):
    runs = agents(nodes, SUPPORT / "jobs.py", how)
    (out, err), *others = [run.communicate(timeout=300) for run in runs]
    over = time.monotonic()
    assert [run.returncode for run in runs] == [1] * nodes, err
    found = json.loads(out)
    assert found["failure"] == f"rank 1 of 2 (measuring, step 3) {words}"
    assert found["measured"] == 2
    assert len(found["pids"]) == 2
    assert all(map(gone, found["pids"]))
    # Counted from the failure: to start takes as long as the machine is busy.
    assert stated_s <= found["ended"] - found["fails"] < stated_s + 20
    assert over - found["fails"] < stated_s + 45  # torchrun gives processes 30 s to end
    # The other node's processes say nothing; torchrun has a word of its own.
    assert all("isotune:" not in text for pair in others for text in pair)


def test_a_rank_whose_starter_is_killed_is_named_and_what_was_measured_is_kept():
    (out, err), _ = [run.communicate(timeout=300) for run in agents(2, SUPPORT / "jobs.py", "lose")]
    found = json.loads(out)
    # Where it stood was last reported up to 0.2 s before.
    assert found["failure"].startswith("rank 1 of 2 ("), err
    assert found["failure"].endswith(") ended without a word")
    assert found["measured"] == 2
    assert found["ended"] - found["fails"] < 20
    assert all(map(gone, found["pids"]))


def test_a_rank_killed_in_the_middle_of_a_validation_leaves_one_line_and_the_repeats_so_far(plan):
    options = ("--device", "cpu", "--repeat", 1000, "--check-dtype", "none", "--json")
    program = SUPPORT / "dying.py"
    (run,) = agents(1, program, "validate", plan, *options)
    out, err = run.communicate(timeout=300)
    assert run.returncode == 1
    (line,) = [line for line in err.splitlines() if line.startswith("isotune:")]
    assert "rank 1 of 2 (measuring, " in line
    assert " of block " in line
    assert line.endswith("was killed by SIGKILL, as when memory runs out")
    found = json.loads(out)
    assert not found["complete"]
    assert f"isotune: {found['failure']}" == line
    assert 0 < len(found["time"]["measured_all_s"]) < 10
