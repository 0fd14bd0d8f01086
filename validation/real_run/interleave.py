"""Runs of several plans interleaved: same tokens, same cache, so that all see the same machine."""

import torch
import torch.distributed as dist
from torch import Tensor

from isotune.simulator.schedule import Plan, Program, StepTimes
from isotune.validation.executor import Session
from isotune.validation.ranks import Rank
from isotune.validation.real_run.setup import Setup


class Interleaved:
    """Runs plans of a setup's workload in any order, on weights that are loaded once."""

    def __init__(self, rank: Rank, session: Session, setup: Setup) -> None:
        workload = setup.scenario.workload
        self._rank, self._session, self._workload = rank, session, workload
        ids = random_ids(setup, rank.device)[:, workload.context :]
        self._cache = session.cache(workload.batch, workload.context + workload.tokens)
        self._programs: dict[Plan, Program] = {}
        self._embedded = session.executor(Plan()).embed(ids, workload.context)

    def run(self, number: int, plan: Plan) -> StepTimes:
        """One run of a plan, begun by all ranks together; `number` names it in failures."""
        if plan not in self._programs:
            self._programs[plan] = self._session.program(plan, self._workload)
        executor, program = self._session.executor(plan), self._programs[plan]
        self._rank.program = number
        wait_for_all(self._rank)
        return executor.run(program, self._embedded, self._cache).times


def random_ids(setup: Setup, device: torch.device) -> Tensor:
    """The tokens [requests, context + tokens] of a setup's workload, the same on every rank."""
    workload, words = setup.scenario.workload, setup.scenario.model.vocab_size
    generator = torch.Generator().manual_seed(setup.seed)
    shape = (workload.batch, workload.context + workload.tokens)
    return torch.randint(0, words, shape, generator=generator).to(device)


def wait_for_all(rank: Rank) -> None:
    """Wait until every rank is here, so that their clocks begin together."""
    if rank.ranks > 1:
        device = rank.device
        dist.barrier(device_ids=[device.index] if device.type == "cuda" else None)
