"""The recovery steps, applied to one dropped block.

A step gives a candidate, or says why there is nothing to do; `spd.recover.recovery` judges it.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from isotune.validation.spd.checkpoint import BlockRecord, StepRecord
from isotune.validation.spd.model import Block, Network, Quality, Stream, Windows
from isotune.validation.spd.recover.distil import Lesson, Training, distil
from isotune.validation.spd.recover.grouping import group_heads, group_neurons
from isotune.validation.spd.recover.paired import Change
from isotune.validation.spd.recover.permute import HeadUnits, permute_heads, permute_neurons
from isotune.validation.spd.recover.sample import Sample, mean_correction, take_sample


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How recovery works: windows run together, tokens that grouping looks at, training."""

    batch: int = 4
    sample: int = 2048
    seed: int = 0
    training: Training = field(default_factory=Training)


def judged(step: str, before: Quality, after: Quality, note: str) -> StepRecord:
    """What a step did to the loss on held-back text (nats per token), and whether it is kept.

    It is where it lowers the loss by more than the standard error of the change over the windows.
    `note` says why there was nothing to do.
    """
    change = Change.of(before.windows, after.windows, before.tokens)
    fields = {
        "step": step,
        "before": before.nats / before.tokens,
        "after": after.nats / after.tokens,
        "noise": change.error,
        "kept": change.lower,
        "note": note,
    }
    return StepRecord.model_validate(fields)


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """A repaired block: what became of each step, and what it changed.

    Orders are old numbers place by place; `bias_correction` is [tp, hidden]. The layer is None
    where its parameters are as they were.
    """

    index: int
    steps: tuple[StepRecord, ...]
    query_order: Tensor | None = None
    key_order: Tensor | None = None
    neuron_order: Tensor | None = None
    bias_correction: Tensor | None = None
    distilled: bool = False
    layer: Any = None

    def block(self, original: Block) -> Block:
        """The block in a network."""
        return replace(
            original, layer=self.layer or original.layer, bias_correction=self.bias_correction
        )

    @property
    def record(self) -> BlockRecord:
        """Its entry in the record of the recovered folder."""
        return BlockRecord(
            block=self.index,
            steps=self.steps,
            heads_moved=self.query_order is not None,
            neurons_moved=self.neuron_order is not None,
            corrected=self.bias_correction is not None,
            distilled=self.distilled,
        )


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The hidden states at a block, of the text that repairs and of the text that judges."""

    calibration: Sequence[Stream]
    held_back: Sequence[Stream]
    settings: Settings

    @classmethod
    def enter(
        cls, network: Network, calibration: Windows, held_back: Windows, settings: Settings
    ) -> Self:
        """Both texts before the first block."""
        return cls(
            calibration=[network.enter(part) for part in calibration.batches(settings.batch)],
            held_back=[network.enter(part) for part in held_back.batches(settings.batch)],
            settings=settings,
        )

    def run(self, network: Network, index: int, drop: bool) -> None:
        """Run both through a block."""
        for stream in (*self.calibration, *self.held_back):
            stream.hidden = network.run(index, stream.hidden, stream.calls, drop)


@dataclass(frozen=True, kw_only=True)
class _State:
    """A block as the steps before left it, but its correction is of the present hidden states;
    `sample` has its heads in their present order."""

    block: Block
    teacher: Block
    repaired: Repaired
    sample: Sample
    texts: Texts

    @property
    def lesson(self) -> Lesson:
        """What distillation has the block learn."""
        return Lesson(
            teacher=self.teacher,
            index=self.repaired.index,
            calibration=self.texts.calibration,
            held_back=self.texts.held_back,
        )


def candidate(
    step: str, block: Block, teacher: Block, repaired: Repaired, texts: Texts
) -> tuple[Repaired | None, str]:
    """The block after one more step, and a note; None where there is nothing to do.

    `block` is `repaired` on its ranks, `teacher` the block as it was. Blocks before this one have
    changed since its correction was made: whatever the step, the correction is made anew.
    """
    settings = texts.settings
    sample = take_sample(block, texts.calibration, repaired.index, settings.sample, settings.seed)
    if block.bias_correction is not None:
        block = replace(block, bias_correction=mean_correction(block, sample.mean))
    state = _State(block=block, teacher=teacher, repaired=repaired, sample=sample, texts=texts)
    changed, note = _STEPS[step](state)
    if changed is None:
        return None, note
    layer = changed.block.layer
    return replace(
        changed.repaired,
        bias_correction=changed.block.bias_correction,
        layer=None if layer is teacher.layer else layer,
    ), note


_Step = tuple[_State | None, str]


def _bias(state: _State) -> _Step:
    block = replace(state.block, bias_correction=mean_correction(state.block, state.sample.mean))
    return replace(state, block=block), ""


def _heads(state: _State) -> _Step:
    units = HeadUnits.of(state.block.config, state.block.tp)
    if not units.free:
        return None, "no head may change its rank"
    corrected = state.block.bias_correction is not None
    rank = group_heads(state.block, state.sample, units, centred=corrected)
    if torch.equal(rank, units.now):
        return None, "the heads are best where they are"
    order = units.order(rank)
    layer = copy.deepcopy(state.block.layer)
    permute_heads(layer, order)
    block, sample = replace(state.block, layer=layer), state.sample.permuted(order)
    if corrected:
        block = replace(block, bias_correction=mean_correction(block, sample.mean))
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
    state, grouped = _regrouped(state)
    student = distil(state.block, state.lesson, state.texts.settings.training)
    if student.epoch == 0:
        return None, "training did not lower the block's error on held-back text"
    note = f"best after epoch {student.epoch}"
    if grouped:
        note += f", from grouped {' and '.join(grouped)}"
    record = replace(state.repaired, distilled=True)
    return replace(state, block=student.block, repaired=record), note


def _regrouped(state: _State) -> tuple[_State, list[str]]:
    """Where training starts: with the groupings that were not kept but bring the block closer to
    its teacher. What does not help the network by itself may still be the better start (the paper
    distils from grouped heads)."""
    lesson, used = state.lesson, list[str]()
    tried = [step.step for step in state.repaired.steps if not step.kept]
    least = lesson.error(state.block)
    for step in ("heads", "neurons"):
        grouped, _ = _STEPS[step](state) if step in tried else (None, "")
        if grouped is not None and (error := lesson.error(grouped.block)) < least:
            state, least, used = grouped, error, [*used, step]
    return state, used


_STEPS: Mapping[str, Callable[[_State], _Step]] = {
    "bias": _bias,
    "heads": _heads,
    "neurons": _neurons,
    "distil": _distil,
}
