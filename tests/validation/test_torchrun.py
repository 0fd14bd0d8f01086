"""The real torchrun starts the ranks: on one machine, and two agents that stand for two nodes."""

import json
import os
import socket
import subprocess
import sys

import pytest
import yaml
from tiny_models import model_reference, write_config


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
    out, err = run.communicate(timeout=180)
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
    outputs = [agent.communicate(timeout=180) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    assert json.loads(outputs[0][0])["complete"]
    assert outputs[1][0] == ""
