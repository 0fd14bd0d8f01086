"""What vLLM, SGLang and TensorRT-LLM take of a plan: flags and settings of the versions stored.

Which strategies each runs, where, and the names of its options are facts of its file in
`simulator/engines`. Dual-batch and two-batch overlap hide the all-to-all of experts, so they are
written only where tokens travel to experts of other ranks. vLLM's passes are documented in
`docs/design/fusions.md` of github.com/vllm-project/vllm, its dual-batch overlap in
`docs/design/dbo.md`; SGLang's in `python/sglang/srt/batch_overlap` of
github.com/sgl-project/sglang; TensorRT-LLM's settings in its LLM API reference.
"""

import json
import shlex
from itertools import pairwise

import yaml

from isotune.export.source import Exported, Source, lost_everywhere, no_lengths
from isotune.simulator.architecture import Parallelism
from isotune.simulator.engines import FUSED, engine_named
from isotune.simulator.errors import InputError
from isotune.simulator.number_types import bytes_of
from isotune.simulator.schedule import Plan

_MICRO_BATCHES = ("request_overlap", "iso")
"""Strategies that two micro-batches can stand for."""
SGLANG_THRESHOLD = 0.48
"""SGLang's default: a batch less even than this is cut inside a request ("two-chunk")."""


def _exportable(source: Source) -> Parallelism:
    """How its ranks share the model; a layout without a flag is refused."""
    ranks = source.workload.parallelism
    if ranks.cp > 1:
        raise InputError(
            f"export: {ranks.text}: no flag is known for context parallelism (allowed: cp 1)"
        )
    return ranks


def vllm(source: Source, lengths: tuple[int, ...] = ()) -> Exported:
    """Flags of `vllm serve`.

    Raises:
        InputError: a plan that it does not run, or lengths, which have no place.
    """
    no_lengths("vllm", lengths)
    ranks = _exportable(source)
    flags = [f"--tensor-parallel-size {ranks.tp}"]
    flags += [f"--data-parallel-size {ranks.dp}"] * (ranks.dp > 1)
    flags += ["--enable-expert-parallel"] * (ranks.ep > 1)
    if ranks.dp > 1 and ranks.ep == 1 and source.model.num_experts > 1:
        raise InputError(
            f"export: vLLM shards experts over all {ranks.gpus} GPUs where --data-parallel-size is "
            f"above 1, not over {ranks.tp} (allowed: ep {ranks.gpus}, or dp 1)"
        )
    source.refuse("vllm")
    sharded = _tokens(source, "sequence_parallel")
    if sharded is not None:
        settings = {
            "use_inductor_graph_partition": True,
            "pass_config": {"enable_sp": True, "sp_min_token_num": sharded},
        }
        words = [*_words(flags), "--compilation-config", json.dumps(settings)]
        return _settled(words, source, f"vLLM shards norms from {sharded} tokens a step on")
    overlapped = _tokens(source, *_MICRO_BATCHES)
    if overlapped is None:
        return _settled(_words(flags), source, _fused(source, "vllm"))
    phase = source.workload.phase
    backend = "deepep_low_latency" if phase == "decode" else "deepep_high_throughput"
    flags += [
        f"--all2all-backend {backend}",
        "--enable-dbo",
        f"--dbo-{phase}-token-threshold {overlapped}",
    ]
    other = "prefill" if phase == "decode" else "decode"
    kept_out = [
        f"{other} batches: the plan says nothing of them; vLLM's own threshold holds",
        *_lost(source),
    ]
    return _exported(flags, kept_out)


def sglang(source: Source, lengths: tuple[int, ...] = ()) -> Exported:
    """Flags of `python -m sglang.launch_server`.

    Raises:
        InputError: a plan that it does not run, or lengths, which have no place.
    """
    no_lengths("sglang", lengths)
    ranks = _exportable(source)
    # SGLang counts all GPUs as tensor-parallel where attention is data-parallel under them.
    flags = [f"--tensor-parallel-size {ranks.tp if ranks.ep == 1 else ranks.gpus}"]
    flags += [f"--data-parallel-size {ranks.dp}"] * (ranks.dp > 1)
    flags += ["--enable-dp-attention"] * (ranks.dp > 1 and ranks.ep > 1)
    flags += [f"--expert-parallel-size {ranks.ep}"] * (ranks.ep > 1)
    source.refuse("sglang")
    overlapped = _tokens(source, *_MICRO_BATCHES)
    if overlapped is None:
        return _settled(_words(flags), source, _fused(source, "sglang"))
    inside = any(plan.how.splits == "prompt" for _, _, plan in source.cases())
    flags += [
        "--moe-a2a-backend deepep",
        "--enable-two-batch-overlap",
        f"--tbo-token-distribution-threshold {SGLANG_THRESHOLD if inside else 0}",
    ]
    kept_out = [
        f"the length from which overlap pays ({overlapped} tokens): SGLang has no threshold for "
        "it and overlaps every batch",
        *_lost(source),
    ]
    return _exported(flags, kept_out)


def trtllm(source: Source, lengths: tuple[int, ...] = ()) -> Exported:
    """Settings of `trtllm-serve --extra_llm_api_options FILE`.

    Raises:
        InputError: a plan that it does not run, or lengths, which have no place.
    """
    no_lengths("trtllm", lengths)
    source.refuse("trtllm")
    ranks = _exportable(source)
    settings: dict[str, int | bool | str] = {"tensor_parallel_size": ranks.gpus}
    if ranks.ep > 1:
        settings["moe_expert_parallel_size"] = ranks.ep
    if ranks.dp > 1:
        settings["enable_attention_dp"] = True
    settings["allreduce_strategy"] = "AUTO"
    lost = lost_everywhere(source)
    text = yaml.safe_dump(settings, sort_keys=False).rstrip()
    hint = _fused(source, "trtllm")
    return Exported(text=text, data=settings, lost=tuple(lost), runs=not lost, hint=hint)


def _settled(words: list[str], source: Source, hint: str) -> Exported:
    """Flags of a plan that the engine runs whole, but for what it has in no format."""
    lost = lost_everywhere(source)
    return Exported(text=shlex.join(words), data=words, lost=tuple(lost), runs=not lost, hint=hint)


def _exported(flags: list[str], lost: list[str]) -> Exported:
    words = _words(flags)
    return Exported(text=shlex.join(words), data=words, lost=tuple(lost), runs=False)


def _words(flags: list[str]) -> list[str]:
    return [word for flag in flags for word in flag.split()]


def _fused(source: Source, name: str) -> str:
    """Up to how many tokens of a step the engine fuses all-reduce and norm, as it does anyway."""
    engine, ranks = engine_named(name), source.workload.tp
    gates = (gate for gate in engine.gates(source.case.site, ranks) if gate.algorithm == FUSED)
    gate = next(gates, None)
    if gate is None:
        return ""
    row = source.model.hidden_size * bytes_of("bf16")
    tokens = int(min(gate.largest[ranks] // row, gate.most_tokens or gate.largest[ranks]))
    return f"{engine.title} fuses the all-reduce with the norm by itself up to {tokens} tokens"


def _tokens(source: Source, *strategies: str) -> int | None:
    """Tokens of a group's smallest batch under some strategies; None if there is none."""
    workload = source.workload
    firsts = [first for first, _, plan in source.cases() if plan.strategy in strategies]
    if not firsts:
        return None
    requests = -(-workload.batch // workload.dp)  # of one of the groups that attend apart
    return requests * (1 if workload.phase == "decode" else min(firsts))


def _lost(source: Source) -> list[str]:
    plans = [plan for _, _, plan in source.cases()]
    found = lost_everywhere(source)
    if any(_uneven(plan) for plan in plans):
        found.append("the split points: the engine cuts in two halves")
    if source.workload.batch > 1 and any(plan.how.splits == "prompt" for plan in plans):
        found.append("the cut in each request: the engine cuts the batch once")
    if any(plan.comm_sms for plan in plans):
        found.append("the collective's SMs: the engine has no flag for them")
    first, last = source.lengths
    if first == last:
        found.append(
            f"other lengths: the plan was found for {last} tokens and says nothing of them"
        )
    elif _serial_above(source):
        found.append("buckets that run serially above the first overlapped length")
    return found


def _uneven(plan: Plan) -> bool:
    return len(plan.chunks) > 2 or len(set(plan.chunks)) > 1


def _serial_above(source: Source) -> bool:
    cut = [len(plan.chunks) > 1 for _, _, plan in source.cases()]
    return any(earlier and not later for earlier, later in pairwise(cut))
