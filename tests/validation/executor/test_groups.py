"""Communicators of SM budgets hold memory: few are kept, and plans follow."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from isotune.simulator.schedule import Plan
from isotune.validation.executor import Session, session
from isotune.validation.real_run import fits_machine


@pytest.fixture
def made(monkeypatch):
    """Groups that were made and destroyed, in order."""
    events = []

    def group_of(_, *, cuda, sms=None):
        assert cuda
        events.append(("made", sms))
        return SimpleNamespace(sms=sms)

    monkeypatch.setattr(session, "group_of", group_of)
    monkeypatch.setattr(
        dist, "destroy_process_group", lambda group: events.append(("destroyed", group.sms))
    )
    monkeypatch.setattr(session, "GROUPS", session.Groups())
    return events


def test_two_are_kept_and_the_one_least_lately_asked_for_goes(made):
    groups = session.Groups()
    first = groups.of(4)
    groups.of(8)
    assert groups.of(4) is first
    groups.of(16)
    assert made == [("made", 4), ("made", 8), ("destroyed", 8), ("made", 16)]


def test_sessions_share_them_and_no_executor_keeps_a_group_that_is_gone(made, monkeypatch):
    monkeypatch.setattr(session, "streams_on", lambda *_: SimpleNamespace(replays=False))
    shard = SimpleNamespace(device=torch.device("cuda"), tp=2)
    sessions = [Session(shard, None) for _ in "ab"]
    plans = {sms: Plan(strategy="iso", chunks=(5, 5), comm_sms=sms) for sms in (4, 8, 16)}
    one = sessions[0].executor(plans[4])
    assert sessions[0].executor(plans[4]) is one
    sessions[1].executor(plans[4])
    assert made == [("made", None), ("made", 4)]  # the first is for sums inside a sublayer
    for sms in (8, 16, 4):
        again = sessions[0].executor(plans[sms])
    assert again is not one
    assert made[2:] == [
        *(("made", 8), ("destroyed", 4), ("made", 16), ("destroyed", 8), ("made", 4)),
    ]


@pytest.mark.parametrize(
    ("sms", "device", "emulated", "counted"),
    [
        (4, "cuda", False, True),
        (None, "cuda", False, False),
        (4, "cpu", False, False),
        (4, "cuda", True, False),
    ],
)
def test_the_memory_of_a_further_communicator_is_counted(sms, device, emulated, counted):
    plan = Plan(strategy="iso", chunks=(5, 5), comm_sms=sms)
    setup = SimpleNamespace(plan=plan, device=device, emulated=emulated)
    assert bool(fits_machine._communicators(setup)) is counted
