"""Recovery of dropped syncs, block after block: each step is kept only where it helps.

The blocks are repaired from the first to the last, on the hidden states that the repaired
blocks before them give. A step is judged by the loss on held-back text, the blocks after it
still with their syncs; one that does not lower it is undone and said to be.
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from simulator.errors import InputError
from validation.spd.block import Block
from validation.spd.distil import Training, distil
from validation.spd.grouping import group_heads, group_neurons
from validation.spd.network import Network, Quality, Stream, evaluate
from validation.spd.permute import HeadUnits, permute_heads, permute_neurons
from validation.spd.record import BlockRecord, StepRecord
from validation.spd.sample import Sample, missing_mean, take_sample
from validation.spd.text import Windows

STEPS = ("bias", "heads", "neurons", "distil")
"""Bias correction, head grouping, neuron grouping, distillation: the order they are done in."""
Progress = Callable[[int, int], object]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How recovery works: windows run together, tokens that grouping looks at, training."""

    batch: int = 4
    sample: int = 2048
    seed: int = 0
    training: Training = field(default_factory=Training)


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """A step's loss on held-back text (nats per token) before and after it, and whether it was
    kept; `note` says why there was nothing to do."""

    step: str
    before: float
    after: float
    kept: bool
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """A repaired block: what became of each step, and what it changed.

    Orders are old numbers place by place; `missing` [tp, hidden] is the bias correction. The
    layer is None where its parameters are as they were.
    """

    index: int
    steps: tuple[StepResult, ...]
    query_order: Tensor | None = None
    key_order: Tensor | None = None
    neuron_order: Tensor | None = None
    missing: Tensor | None = None
    distilled: bool = False
    layer: Any = None

    def block(self, original: Block) -> Block:
        """The block in a network."""
        return replace(original, layer=self.layer or original.layer, missing=self.missing)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """A repaired network, and its held-back losses: `whole` with every sync, `zero_shot` with
    the syncs dropped and nothing repaired, `recovered`.

    Where the repairs together did not help, none is in it (`blocks` is empty).
    """

    network: Network
    dropped: tuple[int, ...]
    blocks: tuple[Repaired, ...]
    whole: Quality
    zero_shot: Quality
    recovered: Quality
    synced: Quality


@dataclass(frozen=True, kw_only=True)
class _Data:
    calibration: Sequence[Stream]
    held_back: Sequence[Stream]
    settings: Settings


@dataclass(frozen=True, kw_only=True)
class _State:
    """A block on its way through the steps."""

    block: Block
    repaired: Repaired


def recover(
    network: Network,
    calibration: Windows,
    held_back: Windows,
    dropped: Collection[int],
    steps: Sequence[str] | Mapping[int, Sequence[str]],
    *,
    settings: Settings | None = None,
    done: Mapping[int, Repaired] | None = None,
    on_block: Callable[[Repaired], object] = lambda _: None,
    on_progress: Progress | None = None,
) -> Recovery:
    """Repair the blocks whose syncs are dropped, by the same steps or by each block's own.

    The network given is left as it is. `done` has blocks repaired before (by an interrupted
    run), `on_block` is told of each new one.

    Raises:
        InputError: an unknown step or block, or a loss that is not finite.
    """
    settings = settings or Settings()
    plan = _plan(network, dropped, steps)
    repaired, finished = network.branch(), []
    data = _Data(
        calibration=[repaired.enter(part) for part in calibration.batches(settings.batch)],
        held_back=[repaired.enter(part) for part in held_back.batches(settings.batch)],
        settings=settings,
    )
    for index in range(len(network)):
        if index in plan:
            known = (done or {}).get(index)
            found = known or _repair(repaired, index, plan[index], data)
            if known is None:
                on_block(found)
            repaired.replace(index, found.block(repaired.block(index)))
            finished.append(found)
        for stream in (*data.calibration, *data.held_back):
            stream.hidden = repaired.run(index, stream.hidden, stream.calls, index in plan)
        if on_progress:
            on_progress(index + 1, len(network))
    return _judged(network, repaired, tuple(finished), held_back, data)


def _judged(
    network: Network,
    repaired: Network,
    blocks: tuple[Repaired, ...],
    held_back: Windows,
    data: _Data,
) -> Recovery:
    """The recovery, or none where it did not help on the whole."""
    dropped, batch = tuple(one.index for one in blocks), data.settings.batch
    whole = evaluate(network, held_back, batch=batch)
    zero_shot = evaluate(network, held_back, dropped=dropped, batch=batch)
    nats = sum(repaired.loss(stream.windows, stream.hidden) for stream in data.held_back)
    recovered = Quality(nats=nats, tokens=held_back.tokens)
    if recovered.nats > zero_shot.nats:
        repaired, blocks, recovered = network.branch(), (), zero_shot
    return Recovery(
        network=repaired,
        dropped=dropped,
        blocks=blocks,
        whole=whole,
        zero_shot=zero_shot,
        recovered=recovered,
        synced=evaluate(repaired, held_back, batch=batch),
    )


def _plan(
    network: Network, dropped: Collection[int], steps: Sequence[str] | Mapping[int, Sequence[str]]
) -> dict[int, tuple[str, ...]]:
    """The steps of each dropped block, in their order."""
    wanted = steps if isinstance(steps, Mapping) else dict.fromkeys(dropped, steps)
    outside = [index for index in dropped if not 0 <= index < len(network)]
    if outside:
        raise InputError(
            f"drop: {network.shape.name} has blocks 0 to {len(network) - 1}, not {outside[0]}"
        )
    for index in sorted(dropped):
        unknown = [step for step in wanted.get(index, ()) if step not in STEPS]
        if unknown:
            raise InputError(f"unknown step {unknown[0]!r:.40} (allowed: {', '.join(STEPS)})")
    return {
        index: tuple(step for step in STEPS if step in wanted.get(index, ()))
        for index in sorted(dropped)
    }


def _repair(network: Network, index: int, steps: Sequence[str], data: _Data) -> Repaired:
    """Take a block through its steps."""
    state = _State(block=network.block(index), repaired=Repaired(index=index, steps=()))
    if not steps:
        return state.repaired
    teacher = state.block
    loss = _tail_loss(network, index, state.block, data)
    for step in steps:
        candidate, note = _STEPS[step](state, index, teacher, data)
        if candidate is None:
            result = StepResult(step=step, before=loss, after=loss, kept=False, note=note)
        else:
            after = _tail_loss(network, index, candidate.block, data)
            kept = after < loss
            result = StepResult(step=step, before=loss, after=after, kept=kept, note=note)
            if kept:
                state, loss = candidate, after
        record = replace(state.repaired, steps=(*state.repaired.steps, result))
        state = replace(state, repaired=record)
    changed = state.block.layer is not teacher.layer
    return replace(
        state.repaired,
        missing=state.block.missing,
        layer=state.block.layer if changed else None,
    )


def _tail_loss(network: Network, index: int, block: Block, data: _Data) -> float:
    """Held-back loss, nats per token, with this block dropped and those after it whole."""
    nats, tokens = 0.0, 0
    for stream in data.held_back:
        with torch.no_grad():
            hidden = block.dropped(stream.hidden, stream.calls[index])
        for after in range(index + 1, len(network)):
            hidden = network.run(after, hidden, stream.calls, drop=False)
        nats += network.loss(stream.windows, hidden)
        tokens += stream.windows.tokens
    return nats / tokens


_Step = tuple[_State | None, str]


def _sample(block: Block, index: int, data: _Data) -> Sample:
    settings = data.settings
    return take_sample(block, data.calibration, index, settings.sample, settings.seed)


def _bias(state: _State, index: int, _: Block, data: _Data) -> _Step:
    mean = _sample(state.block, index, data).mean
    block = replace(state.block, missing=missing_mean(state.block, mean))
    return replace(state, block=block), ""


def _heads(state: _State, index: int, _: Block, data: _Data) -> _Step:
    units = HeadUnits.of(state.block.config, state.block.tp)
    if not units.free:
        return None, "no head may change its rank"
    sample = _sample(state.block, index, data)
    corrected = state.block.missing is not None
    rank = group_heads(state.block, sample, units, centred=corrected)
    if torch.equal(rank, units.now):
        return None, "the heads are best where they are"
    order = units.order(rank)
    layer = copy.deepcopy(state.block.layer)
    permute_heads(layer, order)
    block = replace(state.block, layer=layer)
    if corrected:
        size = len(sample.mean) // len(order.query)
        columns = (order.query[:, None] * size + torch.arange(size)).flatten()
        block = replace(block, missing=missing_mean(block, sample.mean[columns]))
    record = replace(state.repaired, query_order=order.query, key_order=order.key)
    return _State(block=block, repaired=record), ""


def _neurons(state: _State, index: int, _: Block, data: _Data) -> _Step:
    if state.block.down is None:
        return None, "experts share no neurons"
    order = group_neurons(state.block, _sample(state.block, index, data))
    if torch.equal(order, torch.arange(len(order))):
        return None, "the neurons are best where they are"
    layer = copy.deepcopy(state.block.layer)
    permute_neurons(layer, order)
    record = replace(state.repaired, neuron_order=order)
    return _State(block=replace(state.block, layer=layer), repaired=record), ""


def _distil(state: _State, index: int, teacher: Block, data: _Data) -> _Step:
    training = data.settings.training
    found = distil(state.block, teacher, index, data.calibration, data.held_back, training)
    if found.epoch == 0:
        return None, "training did not lower the block's error on held-back text"
    note = f"best after epoch {found.epoch}"
    return _State(block=found.block, repaired=replace(state.repaired, distilled=True)), note


_STEPS: Mapping[str, Callable[[_State, int, Block, _Data], _Step]] = {
    "bias": _bias,
    "heads": _heads,
    "neurons": _neurons,
    "distil": _distil,
}


def block_record(block: Repaired) -> BlockRecord:
    """What the folder of the recovered model tells of a block."""
    return BlockRecord(
        block=block.index,
        steps=tuple(StepRecord.model_validate(asdict(step)) for step in block.steps),
        heads_moved=block.query_order is not None,
        neurons_moved=block.neuron_order is not None,
        corrected=block.missing is not None,
        distilled=block.distilled,
    )
