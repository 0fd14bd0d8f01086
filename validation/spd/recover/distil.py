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


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a block learns: to give, without its sync, what its `teacher` gives on the same inputs.

    The streams stand before the block with this `index`.
    """

    teacher: Block
    index: int
    calibration: Sequence[Stream]
    held_back: Sequence[Stream]

    def loss(self, student: Block, stream: Stream) -> Tensor:
        """The student's squared error, as a share of the power of what the teacher adds."""
        call = stream.calls[self.index]
        with torch.no_grad():
            target = self.teacher.layer(stream.hidden, **call)
            scale = (target - stream.hidden).square().mean()
        return (student.dropped(stream.hidden, call) - target).square().mean() / scale

    def error(self, student: Block) -> float:
        """The loss on held-back text."""
        sizes = [len(stream.windows) for stream in self.held_back]
        with torch.no_grad():
            losses = [float(self.loss(student, stream)) for stream in self.held_back]
        return sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)


def distil(block: Block, lesson: Lesson, training: Training) -> Distilled:
    """Train a copy of a block with its sync dropped to give what the teacher gives.

    A bias correction is trained along.
    """
    for retry in range(training.retries + 1):
        slower = replace(training, rate=training.rate * 0.25**retry)
        student = _train(block, lesson, slower)
        if student.epoch:
            break
    return student


def _train(block: Block, lesson: Lesson, training: Training) -> Distilled:
    student, calibration = _copy(block, learns=True), lesson.calibration
    parameters = [p for p in student.layer.parameters() if p.requires_grad]
    if student.bias_correction is not None:
        parameters.append(student.bias_correction)
    optimiser = torch.optim.AdamW(parameters, lr=training.rate, weight_decay=0.0)
    steps = training.epochs * len(calibration)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda at: 1.0 - at / (steps + 1))
    generator = torch.Generator().manual_seed(training.seed + lesson.index)
    errors, best, chosen = [lesson.error(student)], _copy(student, learns=False), 0
    for epoch in range(1, training.epochs + 1):
        for at in torch.randperm(len(calibration), generator=generator).tolist():
            optimiser.zero_grad()
            lesson.loss(student, calibration[at]).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
        error = lesson.error(student)
        if error < min(errors):  # never true of NaN
            best, chosen = _copy(student, learns=False), epoch
        errors.append(error)
        if epoch - chosen >= training.patience:
            break
    return Distilled(block=best, errors=tuple(errors), epoch=chosen)


def _copy(block: Block, *, learns: bool) -> Block:
    bias_correction = block.bias_correction
    if bias_correction is not None:
        bias_correction = bias_correction.detach().clone().requires_grad_(learns)
    layer = copy.deepcopy(block.layer).requires_grad_(learns)
    return replace(block, layer=layer, bias_correction=bias_correction)
