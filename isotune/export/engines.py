"""Flags of the micro-batch overlap that vLLM and SGLang have.

vLLM's dual-batch overlap, github.com/vllm-project/vllm: `vllm/config/parallel.py` (thresholds),
`vllm/v1/worker/ubatch_utils.py` (a batch at or above its threshold is cut in halves),
`vllm/config/vllm.py` (the all-to-all kernels it needs), `docs/design/dbo.md` (what it overlaps).
SGLang's two-batch overlap, github.com/sgl-project/sglang: in `python/sglang/srt/batch_overlap`
`two_batch_overlap.py` (how a batch is cut) and `operations_strategy.py` (which models), and
`docs/advanced_features/server_arguments.md`.

Both hide the all-to-all of experts, not the all-reduces of tensor parallelism. Where a model has
none the flags would do nothing or stop the server, so they are left out and that is said.
"""

from itertools import pairwise

from isotune.export.source import Exported, Source, lost_everywhere, no_lengths
from isotune.simulator.architecture import Parallelism
from isotune.simulator.errors import InputError
from isotune.simulator.schedule import Plan

SGLANG_THRESHOLD = 0.48
"""SGLang's default: a batch less even than this is cut inside a request ("two-chunk")."""
_SGLANG_MODELS = ("deepseek_v2", "deepseek_v3", "deepseek_v4", "qwen3_moe", "mimo_v2")


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
        InputError: a plan that does not overlap micro-batches, or lengths, which have no place.
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
    overlapped = _overlapped("vllm", source)
    if overlapped is None:
        return _whole(flags, source)
    if source.model.num_experts == 1:
        lost = (
            "all of the overlap: vLLM's dual-batch overlap hides the all-to-all of experts, and "
            f"{source.model.name} has none (--enable-dbo is left out)"
        )
        return _exported(flags, [lost, *lost_everywhere(source)])
    phase = source.workload.phase
    backend = "deepep_low_latency" if phase == "decode" else "deepep_high_throughput"
    flags += ["--enable-expert-parallel"] * (ranks.ep == 1)
    flags += [
        f"--all2all-backend {backend}",
        "--enable-dbo",
        f"--dbo-{phase}-token-threshold {overlapped}",
    ]
    other = "prefill" if phase == "decode" else "decode"
    kept_out = [
        "the overlap of all-reduces: vLLM's dual-batch overlap hides the all-to-all of experts "
        "only, and only with --data-parallel-size above 1",
        f"{other} batches: the plan says nothing of them; vLLM's own threshold holds",
        *_lost(source),
    ]
    return _exported(flags, kept_out)


def sglang(source: Source, lengths: tuple[int, ...] = ()) -> Exported:
    """Flags of `python -m sglang.launch_server`.

    Raises:
        InputError: a plan that does not overlap micro-batches, or lengths, which have no place.
    """
    no_lengths("sglang", lengths)
    ranks = _exportable(source)
    # SGLang counts all GPUs as tensor-parallel where attention is data-parallel under them.
    flags = [f"--tensor-parallel-size {ranks.tp if ranks.ep == 1 else ranks.gpus}"]
    flags += [f"--data-parallel-size {ranks.dp}"] * (ranks.dp > 1)
    flags += ["--enable-dp-attention"] * (ranks.dp > 1 and ranks.ep > 1)
    flags += [f"--expert-parallel-size {ranks.ep}"] * (ranks.ep > 1)
    overlapped = _overlapped("sglang", source)
    if overlapped is None:
        return _whole(flags, source)
    if source.model.architecture not in _SGLANG_MODELS:
        lost = (
            "all of the overlap: SGLang has its two-batch overlap for "
            f"{', '.join(_SGLANG_MODELS)}, not for {source.model.architecture} "
            "(--enable-two-batch-overlap is left out)"
        )
        return _exported(flags, [lost, *lost_everywhere(source)])
    inside = any(plan.how.splits == "prompt" for _, _, plan in source.cases())
    flags += [
        "--moe-a2a-backend deepep",
        "--enable-two-batch-overlap",
        f"--tbo-token-distribution-threshold {SGLANG_THRESHOLD if inside else 0}",
    ]
    kept_out = [
        "the overlap of all-reduces: SGLang's two-batch overlap hides the all-to-all of experts",
        f"the length from which overlap pays ({overlapped} tokens): SGLang has no threshold for "
        "it and overlaps every batch",
        *_lost(source),
    ]
    return _exported(flags, kept_out)


def _whole(flags: list[str], source: Source) -> Exported:
    """Flags of a plan that overlaps nothing."""
    lost = lost_everywhere(source)
    return _exported(flags, lost, runs=not lost)


def _exported(flags: list[str], lost: list[str], runs: bool = False) -> Exported:
    words = [word for flag in flags for word in flag.split()]
    return Exported(text=" ".join(flags), data=words, lost=tuple(lost), runs=runs)


def _overlapped(target: str, source: Source) -> int | None:
    """Tokens of the smallest batch that is overlapped; None if all is serial."""
    cuts = [(first, plan) for first, _, plan in source.cases() if len(plan.chunks) > 1]
    tiled = [plan.strategy for _, plan in cuts if plan.how.splits == "tiles"]
    if tiled:
        raise InputError(
            f"export: {target} overlaps two micro-batches; {tiled[0]} is none "
            "(allowed: iso, request_overlap, serial)"
        )
    if not cuts:
        return None
    workload = source.workload
    return workload.batch * (1 if workload.phase == "decode" else min(first for first, _ in cuts))


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
