"""Programs of the strategies that others measured: each one a small change of an expansion."""

from collections.abc import Callable, Collection
from dataclasses import replace

from isotune.simulator.architecture import Collective, LmHead, Norm, Op, PartialAdd
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Plan, Program, Step, Stream, expand

STRATEGIES = (
    "serial",
    "no_comm",
    "spd_all",
    "drop_mlp_sync",
    "parallel_block",
    "desync4",
    "ladder",
    "split_overlap_fused_norm",
)
"""What a table of runs may name.

no_comm has no all-reduces. spd_all drops every attention sync, drop_mlp_sync every MLP sync.
parallel_block runs attention and MLP on one normed input, with one sync for both. desync4 keeps
the MLP sync of every second block. ladder (arXiv 2501.06589) syncs a module while the next one
runs. split_overlap_fused_norm (TokenWeave, arXiv 2505.11329) overlaps two halves of the prompt
and computes the norms, sharded, inside the all-reduces.
"""


def program_of(strategy: str, scenario: Scenario) -> Program:
    """The program of one of `STRATEGIES`."""
    blocks = range(scenario.model.num_hidden_layers)
    if strategy == "split_overlap_fused_norm":
        half = scenario.workload.tokens // 2
        chunks = (scenario.workload.tokens - half, half)
        return without(_expand(scenario, Plan(strategy="iso", chunks=chunks)), _block_norm)
    if strategy == "spd_all":
        # The engines measured keep no extra add: it joins a residual add they have anyway.
        return without(_expand(scenario, Plan(dropped=tuple(blocks))), _partial_add)
    serial = _expand(scenario, Plan())
    if strategy == "no_comm":
        return without(serial, _all_reduce)
    if strategy == "drop_mlp_sync":
        return without(serial, _mlp_sync)
    if strategy == "parallel_block":
        return without(serial, _within_block)
    if strategy == "desync4":
        even = {block for block in blocks if block % 2 == 0 and block != blocks[-1]}
        return without(without(serial, _attention_sync), _mlp_sync, even)
    return ladder(serial) if strategy == "ladder" else serial


def _partial_add(op: Op) -> bool:
    return isinstance(op, PartialAdd)


def _all_reduce(op: Op) -> bool:
    return isinstance(op, Collective)


def _attention_sync(op: Op) -> bool:
    return _all_reduce(op) and op.sublayer == "attention"


def _mlp_sync(op: Op) -> bool:
    return _all_reduce(op) and op.sublayer == "mlp"


def _block_norm(op: Op) -> bool:
    return type(op) is Norm


def _within_block(op: Op) -> bool:
    """The all-reduce between attention and MLP, and the norm after it."""
    return _attention_sync(op) or (_block_norm(op) and op.sublayer == "mlp")


def _expand(scenario: Scenario, plan: Plan) -> Program:
    return expand(scenario.model, scenario.workload, plan)


def without(
    program: Program, gone: Callable[[Op], bool], blocks: Collection[int] | None = None
) -> Program:
    """The program without some ops (of some blocks); steps left without ops are gone."""
    kept: list[Step] = []
    place: dict[int, int] = {}
    for index, step in enumerate(program.steps):
        left = tuple(op for op in step.ops if not gone(op))
        if blocks is not None and step.block not in blocks:
            left = step.ops
        if left:
            place[index] = len(kept)
            kept.append(replace(step, ops=left))
    steps = tuple(
        replace(step, depends_on=tuple(place[d] for d in step.depends_on if d in place))
        for step in kept
    )
    return Program(steps, program.chunks)


def ladder(serial: Program) -> Program:
    """A serial program whose sync of one module is in flight while the next module computes."""
    steps: list[Step] = []
    syncs: list[int] = []
    for index, step in enumerate(serial.steps):
        if step.is_sync:
            steps.append(replace(step, stream=Stream.COMM, depends_on=(index - 1,)))
            syncs.append(index)
            continue
        awaited = syncs[-1:] if isinstance(step.ops[-1], LmHead) else syncs[-2:-1]
        steps.append(replace(step, depends_on=tuple(awaited)))
    return Program(tuple(steps), serial.chunks)
