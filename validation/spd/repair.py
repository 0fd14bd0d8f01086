"""One dropped block taken through the recovery steps, each kept only where it helps.

A step is judged by the loss on held-back text with the blocks after this one still whole; one
that does not lower it is undone and said to be.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from validation.spd.block import Block
from validation.spd.distil import Training, distil
from validation.spd.grouping import group_heads, group_neurons
from validation.spd.network import Network, Stream
from validation.spd.permute import HeadUnits, permute_heads, permute_neurons
from validation.spd.record import BlockRecord, StepRecord
from validation.spd.sample import Sample, missing_mean, take_sample


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
class Texts:
    """The hidden states at a block, of the text that repairs and of the text that judges."""

    calibration: Sequence[Stream]
    held_back: Sequence[Stream]
    settings: Settings


@dataclass(frozen=True, kw_only=True)
class _State:
    """A block on its way through the steps; the sample is in the order of its heads."""

    block: Block
    teacher: Block
    repaired: Repaired
    sample: Sample
    texts: Texts


def repair(network: Network, index: int, steps: Sequence[str], texts: Texts) -> Repaired:
    """Take a block through its steps.

    Raises:
        InputError: a loss that is not finite.
    """
    nothing = Repaired(index=index, steps=())
    if not steps:
        return nothing
    teacher, settings = network.block(index), texts.settings
    sample = take_sample(teacher, texts.calibration, index, settings.sample, settings.seed)
    state = _State(block=teacher, teacher=teacher, repaired=nothing, sample=sample, texts=texts)
    loss = _tail_loss(network, index, teacher, texts)
    for step in steps:
        candidate, note = _STEPS[step](state)
        after = loss if candidate is None else _tail_loss(network, index, candidate.block, texts)
        kept = candidate is not None and after < loss
        told = (
            *state.repaired.steps,
            StepResult(step=step, before=loss, after=after, kept=kept, note=note),
        )
        if candidate is not None and kept:
            state, loss = candidate, after
        state = replace(state, repaired=replace(state.repaired, steps=told))
    layer = state.block.layer
    return replace(
        state.repaired,
        missing=state.block.missing,
        layer=None if layer is teacher.layer else layer,
    )


def _tail_loss(network: Network, index: int, block: Block, texts: Texts) -> float:
    """Held-back loss, nats per token, with this block dropped and those after it whole."""
    nats, tokens = 0.0, 0
    for stream in texts.held_back:
        with torch.no_grad():
            hidden = block.dropped(stream.hidden, stream.calls[index])
        for after in range(index + 1, len(network)):
            hidden = network.run(after, hidden, stream.calls, drop=False)
        nats += network.loss(stream.windows, hidden)
        tokens += stream.windows.tokens
    return nats / tokens


_Step = tuple[_State | None, str]


def _bias(state: _State) -> _Step:
    block = replace(state.block, missing=missing_mean(state.block, state.sample.mean))
    return replace(state, block=block), ""


def _heads(state: _State) -> _Step:
    units = HeadUnits.of(state.block.config, state.block.tp)
    if not units.free:
        return None, "no head may change its rank"
    corrected = state.block.missing is not None
    rank = group_heads(state.block, state.sample, units, centred=corrected)
    if torch.equal(rank, units.now):
        return None, "the heads are best where they are"
    order = units.order(rank)
    layer = copy.deepcopy(state.block.layer)
    permute_heads(layer, order)
    block, sample = replace(state.block, layer=layer), state.sample.permuted(order)
    if corrected:
        block = replace(block, missing=missing_mean(block, sample.mean))
    record = replace(state.repaired, query_order=order.query, key_order=order.key)
    return replace(state, block=block, sample=sample, repaired=record), ""


def _neurons(state: _State) -> _Step:
    if state.block.down is None:
        return None, "experts share no neurons"
    order = group_neurons(state.block, state.sample)
    if torch.equal(order, torch.arange(len(order))):
        return None, "the neurons are best where they are"
    layer = copy.deepcopy(state.block.layer)
    permute_neurons(layer, order)
    record = replace(state.repaired, neuron_order=order)
    return replace(state, block=replace(state.block, layer=layer), repaired=record), ""


def _distil(state: _State) -> _Step:
    texts, index = state.texts, state.repaired.index
    found = distil(
        state.block,
        state.teacher,
        index,
        texts.calibration,
        texts.held_back,
        texts.settings.training,
    )
    if found.epoch == 0:
        return None, "training did not lower the block's error on held-back text"
    note = f"best after epoch {found.epoch}"
    record = replace(state.repaired, distilled=True)
    return replace(state, block=found.block, repaired=record), note


_STEPS: Mapping[str, Callable[[_State], _Step]] = {
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
