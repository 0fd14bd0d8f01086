"""Plans run on real processes, and the same model in transformers."""

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from isotune.simulator.architecture import read_model
from isotune.simulator.schedule import Plan
from isotune.validation.executor import Session, load_shard
from isotune.validation.ranks import Rank, placements, run
from isotune.validation.weights import Safetensors, load_config

PROMPT = 21


@dataclass(frozen=True, kw_only=True)
class Case:
    """A plan on a saved model: what to compute."""

    folder: Path
    plan: Plan
    batch: int = 1
    dtype: torch.dtype = torch.float32
    generate: int = 0


@dataclass(frozen=True)
class Computed:
    """Logits of case `number` at every position and at the last one, and generated tokens."""

    number: int
    logits: list[list[list[float]]]
    last: list[list[float]]
    generated: list[list[int]] | None


@dataclass(frozen=True)
class Cases:
    """Each rank runs all cases; rank 0 sends what it `Computed`."""

    messages: ClassVar = (Computed,)
    cases: tuple[Case, ...]

    def __call__(self, rank: Rank) -> None:
        torch.set_num_threads(1)
        open_session = cache(partial(_session, rank))
        for number, case in enumerate(self.cases):
            session = open_session(case.folder, case.dtype)
            tokens = ids(case).to(rank.device)
            rank.at("measuring")
            outcome = session.forward(case.plan, tokens, session.cache(case.batch, PROMPT))
            executor = session.executor(case.plan)
            logits, last = executor.logits(outcome.hidden), executor.gather(outcome.logits)
            generated = session.greedy(case.plan, tokens, case.generate) if case.generate else None
            if rank.index == 0:
                tokens_list = None if generated is None else generated.tolist()
                rank.send(Computed(number, logits.tolist(), last.tolist(), tokens_list))


def ids(case: Case) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(3, 131, (case.batch, PROMPT), generator=generator)


def _session(rank: Rank, folder: Path, dtype: torch.dtype) -> Session:
    model = read_model(folder)
    config = load_config(folder, model.num_hidden_layers)
    weights = Safetensors(folder, dtype, rank.device)
    shard = load_shard(config, weights, rank=rank.index, tp=rank.ranks)
    return Session(shard, model, rank.step)


def run_cases(cases: list[Case], tp: int, device: str = "cpu") -> list[Any]:
    """(case, logits [batch, tokens, words], last logits, generated tokens) of each case."""
    results: list[Any] = []
    if tp == 1:
        Cases(tuple(cases))(Rank(0, 1, torch.device("cpu"), results.append))
        return [_arrays(cases, found) for found in results]
    failure = run(
        Cases(tuple(cases)),
        placements(tp),
        device=device,
        timeout_s=60,
        on_message=lambda _, message: results.append(message),
    )
    assert failure is None, failure
    return [_arrays(cases, found) for found in results]


def _arrays(cases: list[Case], found: Computed) -> tuple[Any, ...]:
    generated = None if found.generated is None else np.array(found.generated)
    logits, last = (np.array(one, np.float32) for one in (found.logits, found.last))
    return cases[found.number], logits, last, generated


def save_random_model(folder: Path) -> Path:
    """Give a folder that has a config.json weights on which every mistake shows."""
    model = read_model(folder)
    torch.manual_seed(1)
    net = AutoModelForCausalLM.from_config(load_config(folder, model.num_hidden_layers))
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.normal_().mul_(parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.2)
        for name, buffer in net.named_buffers():
            if name in net.state_dict():
                buffer.normal_().mul_(0.2)
    net.save_pretrained(folder)
    return folder


@cache
def unsharded(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """transformers' own model with the weights in a folder."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
