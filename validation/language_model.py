"""The executor as a library: a checkpoint on ranks, run by plans: prefill, decode, generate."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from isotune.simulator.architecture import check_tp, read_model
from isotune.simulator.errors import InputError
from isotune.simulator.files import Policy, Rule
from isotune.simulator.schedule import Plan, check_plan
from isotune.validation.executor import KvCache, Session, load_shard
from isotune.validation.ranks import under_torchrun
from isotune.validation.spd.checkpoint import read_bias_corrections
from isotune.validation.weights import Safetensors, check_family, load_config

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}
Rules = Callable[[int], Rule]
"""How to run a prompt of so many tokens."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is drawn; `top_k` and `top_p` None keep all words. Ranks draw the same ones."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        fine = self.temperature > 0 and (self.top_k is None or self.top_k >= 1)
        if not fine or (self.top_p is not None and not 0 < self.top_p <= 1):
            raise InputError(
                f"sampling: {self} (allowed: temperature above 0, top_k 1 or more, top_p above 0 "
                "and at most 1)"
            )

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of each word [requests, words], those kept only; the order of transformers' warpers."""
        scores = logits.float() / self.temperature
        if self.top_k is not None:
            least = scores.topk(min(self.top_k, scores.shape[-1])).values[:, -1:]
            scores = scores.masked_fill(scores < least, -torch.inf)
        if self.top_p is not None:
            ascending, order = scores.sort()
            rare = ascending.softmax(-1).cumsum(-1) <= 1 - self.top_p
            rare[:, -1] = False
            scores = scores.masked_fill(rare.scatter(1, order, rare), -torch.inf)
        return scores.softmax(-1)


class LanguageModel:
    """One rank's shard of a model, run by plans; all ranks make the same calls.

    A batch is begun by `prefill` and goes on with `decode`; `generate` does both.
    """

    def __init__(self, session: Session, rules: Rules) -> None:
        self._session, self._rules = session, rules
        self._cache: KvCache | None = None
        self._position = self._room = 0
        self._decode = Plan()

    @property
    def device(self) -> torch.device:
        """Where this rank's shard lives."""
        return self._session.shard.device

    def prefill(self, ids: Tensor, room: int = 0) -> Tensor:
        """Begin a batch: logits [requests, words] after prompts [requests, tokens] of one length.

        The cache has room for so many further tokens.

        Raises:
            InputError: the policy has no plan for this length, or it does not suit the model.
        """
        requests, tokens = ids.shape
        rule = self._rules(tokens)
        plan = rule.plan(tokens)
        session = self._session
        check_plan(plan, session.model, session.workload(ids, 0))
        self._decode = Plan(dropped=plan.dropped, comm_dtype=plan.comm_dtype)
        self._cache = session.cache(requests, tokens + room)
        self._position, self._room = tokens, room
        logits = session.forward(plan, ids.to(self.device), self._cache).logits
        return session.executor(plan).gather(logits)

    def decode(self, tokens: Tensor) -> Tensor:
        """Go on by one token of each request [requests]: the next logits [requests, words].

        Raises:
            InputError: no batch was begun, or its cache is full.
        """
        if self._cache is None or self._room == 0:
            raise InputError("decode: the batch has no room left (allowed: prefill(ids, room=N))")
        ids = tokens[:, None].to(self.device)
        done = self._session.forward(self._decode, ids, self._cache, self._position)
        self._position, self._room = self._position + 1, self._room - 1
        return self._session.executor(self._decode).gather(done.logits)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        new_tokens: int,
        *,
        sampling: Sampling | None = None,
        end: int | None = None,
    ) -> list[list[int]]:
        """The tokens after each prompt: the likeliest ones, or drawn by `sampling`.

        Prompts of one length run as one batch, others one after the other, so that no padding
        enters any attention. A sequence ends after `new_tokens`, or with the token `end`.

        Raises:
            InputError: an empty prompt, or none; see `prefill`.
        """
        if not prompts or not all(prompts) or new_tokens < 1:
            raise InputError("generate: needs prompts of a token or more, and new_tokens above 0")
        generator = torch.Generator(self.device)
        generator.manual_seed(0 if sampling is None else sampling.seed)
        found: dict[int, list[int]] = {}
        for length in sorted({len(prompt) for prompt in prompts}):
            at = [index for index, prompt in enumerate(prompts) if len(prompt) == length]
            ids = torch.tensor([list(prompts[index]) for index in at])
            rows = self._continued(ids, new_tokens, sampling, end, generator)
            found |= dict(zip(at, rows, strict=True))
        return [found[index] for index in range(len(prompts))]

    def _continued(
        self,
        ids: Tensor,
        new_tokens: int,
        sampling: Sampling | None,
        end: int | None,
        generator: torch.Generator,
    ) -> list[list[int]]:
        """The tokens after prompts of one length; a sequence keeps none after its end."""
        logits = self.prefill(ids, room=new_tokens - 1)
        rows: list[list[int]] = [[] for _ in ids]
        for count in range(1, new_tokens + 1):
            tokens = self._chosen(logits, sampling, generator)
            for row, token in zip(rows, tokens.tolist(), strict=True):
                if not row or row[-1] != end:
                    row.append(token)
            if count == new_tokens or all(row[-1] == end for row in rows):
                return rows
            logits = self.decode(tokens)
        raise AssertionError("unreachable")

    def _chosen(
        self, logits: Tensor, sampling: Sampling | None, generator: torch.Generator
    ) -> Tensor:
        """A token of each request [requests]: rank 0's, on every rank."""
        if sampling is None:
            tokens = logits.argmax(-1)
        else:
            chances = sampling.probabilities(logits)
            tokens = torch.multinomial(chances, 1, generator=generator)[:, 0]
        if self._session.shard.tp > 1:
            dist.broadcast(tokens, 0)
        return tokens


def load(folder: Path, rules: Rules, *, dtype: str, device: str | None) -> LanguageModel:
    """This rank's share of a checkpoint; see `isotune.load`."""
    model = read_model(folder)
    check_family(model)
    if model.quantisation is not None:
        raise InputError(f"{folder}: its weights are quantised (allowed: bf16, fp16, float32)")
    if dtype not in TYPES:
        raise InputError(f"dtype: {dtype!r} (allowed: {', '.join(TYPES)})")
    if not any(path.suffix == ".safetensors" for path in folder.iterdir()):
        raise InputError(f"{folder}: has no weights (allowed: *.safetensors)")
    place = _place(device)
    rank, tp = _joined(place)
    check_tp(model, tp)
    weights = Safetensors(folder, TYPES[dtype], place)
    corrections = read_bias_corrections(folder, tp, dtype=TYPES[dtype], device=place)
    config = load_config(folder, model.num_hidden_layers)
    shard = load_shard(config, weights, rank=rank, tp=tp, bias_corrections=corrections)
    return LanguageModel(Session(shard, model), rules)


def rules_of(asked: Policy | Plan | None) -> Rules:
    """How prompts are run: by the buckets of a policy, all by the shares of a plan, or serially.

    Raises:
        InputError: the plan splits something else than prompts.
    """
    if isinstance(asked, Policy):
        return lambda tokens: asked.bucket(tokens).rule
    rule = Rule() if asked is None else _rule(asked)
    return lambda _: rule


def _rule(plan: Plan) -> Rule:
    if not plan.how.by_length:
        raise InputError(
            f"policy: {plan.strategy} splits no prompts by length (allowed: serial, iso)"
        )
    return Rule.of(plan)


def _place(device: str | None) -> torch.device:
    """This rank's device: a GPU where there is one, unless another is asked for."""
    if (device or "cuda") == "cpu" or (device is None and not torch.cuda.is_available()):
        return torch.device("cpu")
    gpus = torch.cuda.device_count()
    if not gpus:
        raise InputError("device: this machine has no GPU (allowed: cpu)")
    place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % gpus)
    torch.cuda.set_device(place)
    return place


def _joined(place: torch.device) -> tuple[int, int]:
    """This process's rank, and how many there are; joins torchrun's others if nobody has."""
    if not dist.is_initialized():
        if not under_torchrun():
            return 0, 1
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    return dist.get_rank(), dist.get_world_size()
