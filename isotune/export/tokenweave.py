"""TokenWeave's configuration: per length a split offset and the CTAs of its two all-reduces.

Public format: github.com/microsoft/tokenweave, `vllm/tokenweave_configs/*.json`, read in
`vllm/model_executor/models/llama.py` and described in `docs/AddTokenWeave.md`. For a batch of n
tokens the engine takes the entry of the nearest length and cuts after
`roundup(n, 256) / 2 + split_offset` tokens. (Older revisions call the key `chunk_offset`.)
"""

import json

from isotune.export.source import Exported, Source, lost_everywhere
from isotune.simulator.errors import InputError
from isotune.simulator.schedule import Plan, Workload

LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768, 65536)
"""Lengths of the published configurations (`artifact/configs_generator/generator.py`)."""
FEWEST_TOKENS = 1024
"""Shorter batches TokenWeave runs whole (`docs/AddTokenWeave.md`)."""
CTAS = (2, 4, 8)
"""CTAs of its fused kernel that its authors swept; NCCL's SMs are another kernel's."""
_PADDING = 256
_FAMILIES = {"llama": "llama", "qwen2": "qwen2", "mixtral": "mixtral", "qwen3_moe": "qwen3moe"}
_Entry = dict[str, int]


def tokenweave(source: Source, lengths: tuple[int, ...] = ()) -> Exported:
    """A configuration with an entry per length: those asked for, else the published ones.

    Raises:
        InputError: nothing that TokenWeave can express.
    """
    source.refuse("tokenweave")
    entries: dict[str, _Entry] = {}
    lost = lost_everywhere(source)
    for prompt in lengths or _lengths(source):
        plan = source.plan(prompt)
        try:
            tokens, entry = _entry(plan, source.workload.model_copy(update={"prompt": prompt}))
        except InputError as error:
            if len(lengths or _lengths(source)) == 1:
                raise
            lost.append(f"{prompt} tokens: {error}")
            continue
        entries[str(tokens)] = entry
    if not entries:
        raise InputError(f"export: TokenWeave can express none of it ({lost[-1]})")
    text = "{\n" + ",\n".join(f'  "{n}": {json.dumps(e)}' for n, e in entries.items()) + "\n}"
    runs = not lost_everywhere(source)
    lost += _lost(source)
    return Exported(text=text, data=entries, lost=tuple(lost), hint=_hint(source), runs=runs)


def _lengths(source: Source) -> tuple[int, ...]:
    first, last = source.lengths
    return tuple(n for n in LENGTHS if first <= n <= last) or (last,)


def _entry(plan: Plan, workload: Workload) -> tuple[int, _Entry]:
    """Tokens of the whole batch, and the entry that cuts it as the plan does."""
    if workload.parallelism.gpus != workload.tp or workload.ep > 1:
        raise InputError(
            f"export: TokenWeave runs tensor parallelism only, not {workload.parallelism.text}"
        )
    tokens, first = _cut(plan, workload)
    if tokens < FEWEST_TOKENS:
        raise InputError(
            f"export: TokenWeave runs fewer than {FEWEST_TOKENS} tokens whole, these are {tokens}"
        )
    if first % workload.tp:
        raise InputError(
            f"export: TokenWeave gives each GPU an equal part of a chunk; {first} tokens do not "
            f"divide by {workload.tp} GPUs"
        )
    padded = -(-tokens // _PADDING) * _PADDING
    ctas = _ctas(plan, workload)
    return tokens, {
        "attention_ctas": ctas,
        "mlp_ctas": ctas,
        "split_offset": first - padded // 2,
    }


def _ctas(plan: Plan, workload: Workload) -> int:
    """CTAs of its kernel: the plan's SMs where the plan was made for that kernel, else the most."""
    asked = plan.comm_sms if workload.engine == "tokenweave" else None
    return next((ctas for ctas in CTAS if asked is not None and ctas >= asked), CTAS[-1])


def _cut(plan: Plan, workload: Workload) -> tuple[int, int]:
    """Tokens of the batch, and of its first chunk."""
    if len(plan.chunks) < 2:
        raise InputError(
            "export: the plan is serial; TokenWeave has no entry for that and would split (serve "
            "without TokenWeave instead)"
        )
    if plan.how.splits == "tiles" or len(plan.chunks) > 2:
        raise InputError(
            f"export: TokenWeave cuts a batch in two (search with --max-chunks 2); it has no "
            f"{plan.strategy} with {len(plan.chunks)} chunks"
        )
    if plan.how.splits == "requests":
        return workload.batch * workload.tokens, plan.chunks[0] * workload.tokens
    if workload.batch > 1:
        raise InputError(
            "export: TokenWeave cuts the batch once, not each of its "
            f"{workload.batch} requests (allowed: request_overlap, or batch 1)"
        )
    return workload.tokens, plan.chunks[0]


def _lost(source: Source) -> list[str]:
    found = [
        "the collective's SMs: attention_ctas and mlp_ctas are CTAs of TokenWeave's own kernel, of "
        f"{', '.join(map(str, CTAS))} that its authors swept"
    ]
    first, last = source.lengths
    if first < last:
        found.append("between the lengths written, TokenWeave takes the entry of the nearest one")
        if first < FEWEST_TOKENS:
            found.append(f"prompts below {FEWEST_TOKENS} tokens: TokenWeave runs them whole")
    else:
        found.append("the only entry serves every length: TokenWeave takes the nearest one")
    return found


def _hint(source: Source) -> str:
    family = _FAMILIES[source.model.architecture]
    name = f"{family}_config_{source.workload.tp}.json"
    return f"TokenWeave reads it from vllm/tokenweave_configs/{name}"
