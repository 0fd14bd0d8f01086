"""The quality gate: is a lossy plan still the model? Never judged by speed alone.

The plan's mathematics (`reference.lossy`: dropped all-reduces, quantised transfers) runs
in one process beside the original model on the same text; that the ranks compute the same is
what the check of numbers in `isotune.validation.real_run.validate_job` shows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp, isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isotune.simulator.architecture import read_model
from isotune.simulator.errors import InputError
from isotune.validation.real_run.setup import Setup
from isotune.validation.real_run.validate_job import DTYPES
from isotune.validation.reference import lossy, streamed_model
from isotune.validation.spd.checkpoint import read_bias_corrections
from isotune.validation.spd.model import Windows
from isotune.validation.weights import Safetensors, check_family, load_config

Forward = Callable[[Tensor], Tensor]
"""Token ids [windows, context] to logits [windows, context, words]."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a plan may cost; None allows anything.

    `max_perplexity_rise` is relative (0.01 = 1 %), `min_agreement` a share of tokens,
    `max_logprob_change` in nats.
    """

    max_perplexity_rise: float | None = 0.01
    min_agreement: float | None = None
    max_logprob_change: float | None = None


@dataclass(frozen=True, kw_only=True)
class Quality:
    """A plan beside the original model, over the `tokens` scored of a text.

    `agreement` is the share of positions at which both find the same next token likeliest,
    `max_logprob_change` the largest change of a text token's log-probability [nats].
    """

    tokens: int
    original_perplexity: float
    perplexity: float
    agreement: float
    max_logprob_change: float
    limits: Limits

    @property
    def perplexity_rise(self) -> float:
        """Relative growth of perplexity."""
        return self.perplexity / self.original_perplexity - 1.0

    def exceeded(self) -> tuple[str, ...]:
        """One line for each limit that the plan does not keep."""
        rise, least = self.limits.max_perplexity_rise, self.limits.min_agreement
        most, lines = self.limits.max_logprob_change, []
        if rise is not None and self.perplexity_rise > rise:
            lines.append(
                f"perplexity {self.perplexity_rise * 100:+.2f} % (allowed {rise * 100:+g} %)"
            )
        if least is not None and self.agreement < least:
            lines.append(
                f"the next token agrees at {self.agreement * 100:.2f} % of positions (allowed: "
                f"at least {least * 100:g} %)"
            )
        if most is not None and self.max_logprob_change > most:
            lines.append(
                f"a log-probability changes by {self.max_logprob_change:.3g} nats (allowed "
                f"{most:g})"
            )
        return tuple(lines)

    @property
    def ok(self) -> bool:
        """Whether every limit is kept."""
        return not self.exceeded()


def compare_quality(
    original: Forward,
    changed: Forward,
    windows: Windows,
    limits: Limits,
    *,
    batch: int = 4,
    on_progress: Callable[[int, int], None] | None = None,
) -> Quality:
    """Both on the same windows of text, `batch` at a time.

    Raises:
        InputError: a loss is not finite.
    """
    nats, alike, worst = [0.0, 0.0], 0, 0.0
    parts = windows.batches(batch)
    for number, part in enumerate(parts, 1):
        with torch.inference_mode():
            both = [_scored(forward(part.ids), part) for forward in (original, changed)]
        (before, guess), (after, other) = both
        for index, logprobs in enumerate((before, after)):
            nats[index] -= float(logprobs.double().sum())
        alike += int((guess == other).sum())
        worst = max(worst, float((before - after).abs().max()))
        if on_progress:
            on_progress(number, len(parts))
    if not all(map(isfinite, nats)):
        raise InputError("--quality: a loss is not finite (allowed: finite weights, float32)")
    tokens = windows.tokens
    return Quality(
        tokens=tokens,
        original_perplexity=exp(nats[0] / tokens),
        perplexity=exp(nats[1] / tokens),
        agreement=alike / tokens,
        max_logprob_change=worst,
        limits=limits,
    )


def _scored(logits: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the scored tokens [windows, scored], and the likeliest ones."""
    last = logits[:, -windows.scored - 1 : -1].float()
    targets = windows.ids[:, -windows.scored :].to(last.device)
    logprobs = last.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    return logprobs, last.argmax(-1)


def check_quality(setup: Setup, original: Path | None) -> Path:
    """The folder whose weights are judged.

    Raises:
        InputError: random weights, a model that is cut, or an original that is another model.
    """
    model = setup.scenario.model
    if setup.weights is None:
        raise InputError(
            "--quality needs trained weights (allowed: --model FOLDER with config.json and "
            "safetensors)"
        )
    if model.num_hidden_layers != read_model(setup.weights).num_hidden_layers:
        raise InputError("--quality needs the whole model (allowed: no --layers)")
    if original is not None:
        other = read_model(original)
        check_family(other)
        if other.vocab_size != model.vocab_size:
            raise InputError(
                f"--original: {original}: has {other.vocab_size} words, the plan's model "
                f"{model.vocab_size}"
            )
    return setup.weights


def forwards(setup: Setup, original: Path | None = None) -> tuple[Forward, Forward]:
    """The original model and the plan on its own, each with one layer's weights at a time."""
    folder = check_quality(setup, original)
    changed = _model(setup, folder)
    whole = changed if original is None else _model(setup, original)

    def planned(ids: Tensor) -> Tensor:
        with as_planned(changed, setup):
            return _logits(changed, ids)

    return lambda ids: _logits(whole, ids), planned


@contextmanager
def as_planned(model: Any, setup: Setup) -> Iterator[None]:
    """Within it, a model of transformers computes what the plan's ranks compute."""
    plan, bias_corrections = setup.plan, {}
    if setup.weights is not None and plan.dropped:
        device = torch.device(setup.device)
        bias_corrections = read_bias_corrections(
            setup.weights, setup.ranks, dtype=dtype_of(setup), device=device
        )
    with lossy(
        model,
        tp=setup.ranks,
        dropped=plan.dropped,
        transfer=plan.comm_dtype,
        bias_corrections=bias_corrections,
    ):
        yield


def dtype_of(setup: Setup) -> torch.dtype:
    """The type in which numbers are compared."""
    kind: torch.dtype = DTYPES["float32" if setup.check_dtype == "none" else setup.check_dtype]
    return kind


def _model(setup: Setup, folder: Path) -> Any:
    weights = Safetensors(folder, dtype_of(setup), torch.device(setup.device))
    return streamed_model(load_config(folder, read_model(folder).num_hidden_layers), weights)


def _logits(model: Any, ids: Tensor) -> Tensor:
    logits: Tensor = model(ids.to(model.device), use_cache=False).logits
    return logits
