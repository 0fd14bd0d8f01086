"""What every rank of a validation does: it checks the numbers, then measures."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor

from isotune.simulator.errors import DisagreementError
from isotune.simulator.predict import SERIAL
from isotune.simulator.schedule import CommDtype, Plan, Program, expand
from isotune.validation.choices import Launch
from isotune.validation.executor import Session, emulated, load_shard
from isotune.validation.ranks import Rank, forget_peak_resident_bytes, peak_resident_bytes
from isotune.validation.real_run.interleave import Interleaved, random_ids
from isotune.validation.real_run.machine_record import MachineRecord
from isotune.validation.real_run.messages import MESSAGES, Numbers, PeakMemory, TimedRun
from isotune.validation.real_run.setup import Setup
from isotune.validation.reference import lossy, streamed_model
from isotune.validation.spd.checkpoint import read_bias_corrections
from isotune.validation.weights import RandomWeights, Safetensors, ShardSlice, Weights, load_config

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}
_TOLERANCE = {"float32": 1e-4, "bf16": 4e-2, "fp16": 1e-2}
_QUANTISED_TOLERANCE: dict[CommDtype, float] = {"bf16": 0.0, "int8": 2e-2, "fp8": 4e-2}
_POSITIONS = 32
_WARM_S = 0.5
_MOST_WARMUPS = 200


@dataclass(frozen=True)
class ValidateJob:
    """The job of one rank: rank 0 sends a `MachineRecord` and `Numbers`, all send `TimedRun`s and
    their `PeakMemory`."""

    messages: ClassVar = MESSAGES
    setup: Setup

    def programs(self) -> tuple[Program, Program]:
        """The serial run's program and the plan's."""
        scenario, plan = self.setup.scenario, self.setup.plan
        model, workload = scenario.model, scenario.workload
        return expand(model, workload, SERIAL), expand(model, workload, plan)

    def __call__(self, rank: Rank) -> None:
        """See `Job`.

        Raises:
            DisagreementError: another rank runs another plan.
        """
        check_same_request(rank, repr((self.setup.agreed, self.setup.plan)))
        if self.setup.check_dtype != "none":
            numbers = self._check(rank)
            if numbers is not None:
                rank.send(numbers)
            if rank.device.type == "cuda":
                # NCCL's buffers of further groups do not come from torch's cache.
                torch.cuda.empty_cache()
            forget_peak(rank.device)
        session = open_session(
            rank, self.setup, self.setup.scenario.workload.dtype, self.setup.launch
        )
        if rank.index == 0:
            rank.send(MachineRecord.of(rank.device, session.attention))
        self._measure(rank, session)
        rank.send(PeakMemory(_peak_bytes(rank.device)))
        session.close()

    def _check(self, rank: Rank) -> Numbers | None:
        setup, dtype = self.setup, self.setup.check_dtype
        workload, plan = setup.scenario.workload, setup.plan
        session = open_session(rank, setup, dtype)
        rank.at("checking numbers")
        ids, context = random_ids(setup, rank.device), workload.context
        cache = session.cache(*ids.shape)
        if context:
            session.forward(SERIAL, ids[:, :context], cache)
        outcome = session.forward(plan, ids[:, context:], cache, context)
        tokens = torch.linspace(0, workload.tokens - 1, min(_POSITIONS, workload.tokens)).long()
        got = session.executor(plan).logits(outcome.hidden[:, tokens]).float()
        last = session.executor(plan).gather(outcome.logits).float()
        del session, cache
        if rank.index:
            return None
        want = self._reference(rank, ids, tokens + context)
        scale = want.abs().max()
        worst = max((got - want).abs().max(), (last - want[:, -1]).abs().max()) / scale
        return Numbers(
            max_rel_error=float(worst),
            tolerance=max(_TOLERANCE[dtype], _QUANTISED_TOLERANCE[plan.comm_dtype]),
            reference=_reference_name(setup),
            dtype=dtype,
            positions=len(tokens) * workload.batch,
        )

    def _reference(self, rank: Rank, ids: Tensor, positions: Tensor) -> Tensor:
        """Logits [requests, positions, words] of the unsharded model."""
        setup, plan = self.setup, self.setup.plan
        config = load_config(setup.config, setup.scenario.model.num_hidden_layers)
        model = streamed_model(config, weights_of(rank, setup, setup.check_dtype))
        keep = positions.to(ids.device)
        with torch.inference_mode():
            if not plan.lossy:
                whole = model(ids, use_cache=False, logits_to_keep=keep).logits
            else:
                context, tp = setup.scenario.workload.context, rank.ranks
                name = _name_of_cache(model)
                past = getattr(model(ids[:, :context]), name) if context else None
                bias_corrections = bias_corrections_of(rank, setup, setup.check_dtype)
                with lossy(
                    model,
                    tp=tp,
                    dropped=plan.dropped,
                    transfer=plan.comm_dtype,
                    bias_corrections=bias_corrections,
                ):
                    whole = model(
                        ids[:, context:], **{name: past}, logits_to_keep=keep - context
                    ).logits
        return whole.float()

    def _measure(self, rank: Rank, session: Session) -> None:
        setup, interleaved = self.setup, Interleaved(rank, session, self.setup)
        # Serial and plan are interleaved, so that both see the same machine.
        plans = (*((0, serial) for serial in setup.baseline), (1, setup.plan))
        rank.at("warming up")
        for _ in range(self._warmups(rank, interleaved, plans)):
            for number, plan in plans:
                interleaved.run(number, plan)
        rank.at("measuring")
        for repeat in range(setup.repeat):
            for number, plan in plans:
                rank.send(TimedRun(number, repeat, interleaved.run(number, plan)))

    def _warmups(
        self, rank: Rank, interleaved: Interleaved, plans: Sequence[tuple[int, Plan]]
    ) -> int:
        """Rounds still to run unclocked, after a first one that opens connections and kernels.

        On a GPU they take half a second at least, in which its clock rises; all ranks run as many.
        """
        wanted = self.setup.warmup - 1
        for number, plan in plans:
            interleaved.run(number, plan)
        if rank.device.type != "cuda":
            return wanted
        once = sum(interleaved.run(number, plan).latency for number, plan in plans)
        slowest = torch.tensor([once], device=rank.device)
        if rank.ranks > 1:
            dist.all_reduce(slowest, dist.ReduceOp.MAX)
        return max(wanted - 1, min(_MOST_WARMUPS, int(_WARM_S / float(slowest))))


def open_session(rank: Rank, setup: Setup, dtype: str, launch: Launch = "eager") -> Session:
    """This rank's shard in a number type, ready to run plans."""
    rank.at("loading")
    config = load_config(setup.config, setup.scenario.model.num_hidden_layers)
    tp = setup.scenario.workload.tp
    weights, bias_corrections = (
        weights_of(rank, setup, dtype),
        bias_corrections_of(rank, setup, dtype),
    )
    shard = load_shard(config, weights, rank=rank.index, tp=tp, bias_corrections=bias_corrections)
    stand_in = emulated(setup.scenario, rank.device) if setup.emulated else None
    return Session(shard, setup.scenario.model, rank.step, stand_in, launch)


def weights_of(rank: Rank, setup: Setup, dtype: str) -> Weights:
    """A setup's weights; every read reports that the rank is alive."""
    kind = DTYPES[dtype]
    weights: Weights
    if setup.weights is None:
        weights = RandomWeights(kind, rank.device, setup.seed)
    else:
        weights = Safetensors(setup.weights, kind, rank.device)
    return _Reporting(weights, rank.tick)


class _Reporting:
    """Weights of which every read reports that the rank is alive."""

    def __init__(self, weights: Weights, tick: Callable[[], None]) -> None:
        self._weights, self._tick = weights, tick

    def read(self, name: str, shape: tuple[int, ...], shard: ShardSlice | None) -> Tensor:
        """See `Weights`."""
        self._tick()
        return self._weights.read(name, shape, shard)


def bias_corrections_of(rank: Rank, setup: Setup, dtype: str) -> dict[int, Tensor]:
    """The bias corrections of a recovered model, [tp, hidden] by block."""
    if setup.weights is None or not setup.plan.dropped:
        return {}
    tp = setup.scenario.workload.tp
    return read_bias_corrections(setup.weights, tp, dtype=DTYPES[dtype], device=rank.device)


def check_same_request(rank: Rank, request: str) -> None:
    """Refuse to run if the ranks got different plans or options.

    Raises:
        DisagreementError: which ranks differ from rank 0.
    """
    digest = bytearray(hashlib.sha256(request.encode()).digest())
    own = torch.frombuffer(digest, dtype=torch.uint8).to(rank.device)
    digests = [torch.empty_like(own) for _ in range(rank.ranks)]
    dist.all_gather(digests, own)
    others = [str(index) for index, one in enumerate(digests) if not torch.equal(one, digests[0])]
    if others:
        raise DisagreementError(
            f"rank {', '.join(others)} disagrees with rank 0 about the plan, model, "
            "workload, hardware or options"
        )


def _reference_name(setup: Setup) -> str:
    import transformers

    plan = setup.plan
    if not plan.lossy:
        return f"transformers {transformers.__version__}, unsharded"
    changes = ", ".join(plan.changes)
    return f"the plan's mathematics ({changes}) in one process, on transformers' layers"


def _peak_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return peak_resident_bytes()


def _name_of_cache(model: Any) -> str:
    """What transformers calls the cache: it renamed it in 5.x, and warns of the old name."""
    return "cache" if "cache" in signature(model.forward).parameters else "past_key_values"


def forget_peak(device: torch.device) -> None:
    """Peak memory begins anew: the check of the numbers holds more than what is measured."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        forget_peak_resident_bytes()
