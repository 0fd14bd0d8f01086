"""Block-to-block distillation (SPD, arXiv 2502.20727): one block learns to do without its sync.

The teacher is the same block with its sync, on the same inputs; the student's parameters are
the ranks' own shares, what every rank holds whole (norms, biases) stays one for all.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from isotune.validation.spd.model import Block, Stream


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a block is trained: AdamW with a falling rate, at most `epochs` over the calibration
    text; it ends after `patience` epochs that do not lower the held-back error. Where a rate
    does not help at all, a quarter of it is tried, `retries` times."""

    rate: float = 1e-3
    epochs: int = 10
    patience: int = 2
    retries: int = 2
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """The student at its best epoch, and its error on held-back text after each epoch.

    Errors are shares of the power of what the teacher adds to its input; the first is the
    untrained student's. `epoch` 0 means that training did not help.
    """

    block: Block
    errors: tuple[float, ...]
    epoch: int


def distil(
    block: Block,
    teacher: Block,
    index: int,
    calibration: Sequence[Stream],
    held_back: Sequence[Stream],
    training: Training,
) -> Distilled:
    """Train a copy of a block with its sync dropped to give what the teacher gives.

    A `bias_correction` correction is trained along.
    """
    for retry in range(training.retries + 1):
        slower = replace(training, rate=training.rate * 0.25**retry)
        found = _train(block, teacher, index, calibration, held_back, slower)
        if found.epoch:
            break
    return found


def _train(
    block: Block,
    teacher: Block,
    index: int,
    calibration: Sequence[Stream],
    held_back: Sequence[Stream],
    training: Training,
) -> Distilled:
    student = _student(block)
    parameters = [p for p in student.layer.parameters() if p.requires_grad]
    if student.bias_correction is not None:
        parameters.append(student.bias_correction)
    optimiser = torch.optim.AdamW(parameters, lr=training.rate, weight_decay=0.0)
    steps = training.epochs * len(calibration)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda at: 1.0 - at / (steps + 1))
    generator = torch.Generator().manual_seed(training.seed + index)
    errors, best, chosen = [block_error(student, teacher, index, held_back)], _frozen(student), 0
    for epoch in range(1, training.epochs + 1):
        for at in torch.randperm(len(calibration), generator=generator).tolist():
            optimiser.zero_grad()
            _loss(student, teacher, index, calibration[at]).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
        error = block_error(student, teacher, index, held_back)
        if error < min(errors):  # never true of NaN
            best, chosen = _frozen(student), epoch
        errors.append(error)
        if epoch - chosen >= training.patience:
            break
    return Distilled(block=best, errors=tuple(errors), epoch=chosen)


def _student(block: Block) -> Block:
    layer = copy.deepcopy(block.layer).requires_grad_(True)
    bias_correction = (
        None
        if block.bias_correction is None
        else block.bias_correction.clone().requires_grad_(True)
    )
    return replace(block, layer=layer, bias_correction=bias_correction)


def _frozen(student: Block) -> Block:
    layer = copy.deepcopy(student.layer).requires_grad_(False)
    bias_correction = (
        None if student.bias_correction is None else student.bias_correction.detach().clone()
    )
    return replace(student, layer=layer, bias_correction=bias_correction)


def _loss(student: Block, teacher: Block, index: int, stream: Stream) -> Tensor:
    call = stream.calls[index]
    with torch.no_grad():
        target = teacher.layer(stream.hidden, **call)
        scale = (target - stream.hidden).square().mean()
    return (student.dropped(stream.hidden, call) - target).square().mean() / scale


def block_error(student: Block, teacher: Block, index: int, streams: Sequence[Stream]) -> float:
    """Error of a block with its sync dropped, as a share of the power of what the teacher adds."""
    with torch.no_grad():
        losses = [
            float(_loss(student, teacher, index, stream)) * len(stream.windows)
            for stream in streams
        ]
    return sum(losses) / sum(len(stream.windows) for stream in streams)
