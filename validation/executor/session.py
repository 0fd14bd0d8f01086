"""Plans run on one rank's shard: forward passes, and greedy generation after them."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from isotune.simulator.architecture import Model
from isotune.simulator.schedule import Plan, Program, Workload, expand
from isotune.validation.choices import Launch
from isotune.validation.executor.collective_ops import Collectives, collectives_of, group_of
from isotune.validation.executor.interpreter import Executor, Outcome
from isotune.validation.executor.kv_cache import KvCache
from isotune.validation.executor.shard import Shard
from isotune.validation.executor.streams import streams_on

SERIAL = Plan()


class Groups:
    """The process groups of SM budgets. A communicator holds memory, so few are kept.

    The one that was asked for least lately is destroyed, by all ranks together: they ask for the
    same ones in the same order.
    """

    def __init__(self, most: int = 2) -> None:
        self._most = most
        self._kept: dict[int, Any] = {}
        self._aside: Any = None

    def of(self, sms: int) -> Any:
        """The group whose collectives hold so many SMs."""
        group = self._kept.pop(sms, None)
        if group is None:
            if len(self._kept) == self._most:
                dist.destroy_process_group(self._kept.pop(next(iter(self._kept))))
            group = group_of(None, cuda=True, sms=sms)
        self._kept[sms] = group
        return group

    def aside(self, *, cuda: bool) -> Any:
        """A group of all ranks for small sums inside a sublayer, beside the plan's collectives."""
        if self._aside is None:
            self._aside = group_of(None, cuda=cuda)
        return self._aside


GROUPS = Groups()
"""Those of this rank: sessions share them."""


class Session:
    """A shard, with the executors and process groups of the plans run on it.

    `model` is the simulator's view of the same model: programs expand from it. Every rank
    asks for the same plans in the same order, since a group is made by all ranks together.
    `stand_in` gives what runs in place of a plan's collectives where there are no other ranks.
    `launch` says whether a GPU's kernels are launched one by one, or captured and replayed.
    """

    def __init__(
        self,
        shard: Shard,
        model: Model,
        on_step: Callable[[int], object] = int,
        stand_in: Callable[[Plan], Collectives] | None = None,
        launch: Launch = "eager",
    ) -> None:
        self.shard, self.model = shard, model
        self._on_step, self._stand_in = on_step, stand_in
        self._streams = streams_on(shard.device, launch)
        self._aside = (
            None
            if stand_in is not None or shard.tp == 1
            else GROUPS.aside(cuda=shard.device.type == "cuda")
        )
        self._executors: dict[Plan, tuple[Any, Executor]] = {}

    def close(self) -> None:
        """Let go of graphs; the session runs nothing more."""
        self._streams.close()
        self._executors.clear()

    @property
    def attention(self) -> str:
        """The names of the kernels that run its attention."""
        shard = self.shard
        kernels = [layer.sublayers["attention"].kernel(shard.embedding) for layer in shard.layers]
        return ", ".join(dict.fromkeys(kernels))

    def executor(self, plan: Plan) -> Executor:
        """What runs a plan: its transfer type, and its budget of SMs for the collective.

        It is the same one at every call, until the group of its budget had to go.
        """
        group = self._group(plan.comm_sms)
        known = self._executors.get(plan)
        if known is not None and known[0] is group:
            return known[1]
        if self._stand_in is not None:
            collectives = self._stand_in(plan)
        else:
            collectives = collectives_of(plan.comm_dtype, self.shard.tp, group)
        executor = Executor(
            self.shard, self._streams, collectives, self._on_step, self._mean_over_ranks
        )
        self._executors[plan] = group, executor
        return executor

    def program(self, plan: Plan, workload: Workload) -> Program:
        """A plan's program for a workload on this model."""
        return expand(self.model, workload, plan)

    def cache(self, requests: int, tokens: int) -> KvCache:
        """An empty cache of keys and values."""
        return KvCache.empty(self.shard, requests, tokens)

    def forward(self, plan: Plan, ids: Tensor, cache: KvCache, context: int = 0) -> Outcome:
        """Run a plan on ids [requests, tokens] that follow `context` tokens in the cache."""
        executor = self.executor(plan)
        program = self.program(plan, self.workload(ids, context))
        return executor.run(program, executor.embed(ids, context), cache)

    def workload(self, ids: Tensor, context: int) -> Workload:
        """The workload of a pass: prefill, or one token of decode after a context."""
        requests, tokens = ids.shape
        if context and tokens != 1:
            raise ValueError(f"a pass after {context} tokens takes 1 token, not {tokens}")
        phase, prompt = ("decode", context) if context else ("prefill", tokens)
        fields = {"phase": phase, "batch": requests, "prompt": prompt, "tp": self.shard.tp}
        return Workload.model_validate(fields)

    def greedy(self, plan: Plan, ids: Tensor, tokens: int, decode: Plan = SERIAL) -> Tensor:
        """The `tokens` likeliest next tokens [requests, tokens] after a prefill by a plan."""
        requests, prompt = ids.shape
        cache = self.cache(requests, prompt + tokens)
        logits = self.forward(plan, ids, cache).logits
        generated: list[Tensor] = []
        for position in range(prompt, prompt + tokens):
            token = self.executor(decode).gather(logits).argmax(-1, keepdim=True)
            generated.append(token)
            if len(generated) < tokens:
                logits = self.forward(decode, token, cache, position).logits
        return torch.cat(generated, 1)

    def _group(self, comm_sms: int | None) -> Any:
        alone = self.shard.tp == 1 or self._stand_in is not None
        if comm_sms is None or alone or self.shard.device.type != "cuda":
            return None
        return GROUPS.of(comm_sms)

    def _mean_over_ranks(self, one: Tensor) -> Tensor:
        """The mean of a tensor over all ranks; the tensor itself where no others run."""
        if self._aside is None:
            return one
        dist.all_reduce(one, group=self._aside)
        return one / self.shard.tp
