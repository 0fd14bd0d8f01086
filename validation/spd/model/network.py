"""A causal language model run block by block, so that hidden states can be kept and reused."""

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from isotune.simulator.architecture import Model, check_tp, read_model
from isotune.simulator.errors import InputError
from isotune.validation.executor import decoder_of, empty_model, fill, parameters, settle
from isotune.validation.spd.checkpoint import read_bias_corrections
from isotune.validation.spd.model.block import Block, Call
from isotune.validation.spd.model.text import Windows
from isotune.validation.weights import Safetensors, check_spd_family, load_config


@dataclass(kw_only=True)
class Stream:
    """A batch of windows on its way through the blocks: hidden [windows, context, width]."""

    windows: Windows
    hidden: Tensor
    calls: tuple[Call, ...]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A model in one process; its dropped blocks are sharded over `tp` virtual ranks.

    `layers` may be others than the model's own: a branch shares all that it does not replace.
    """

    shape: Model
    model: Any
    tp: int
    layers: list[Any]
    bias_corrections: dict[int, Tensor] = field(default_factory=dict)
    _calls: dict[tuple[int, ...], tuple[Call, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def config(self) -> Any:
        """transformers' configuration."""
        return self.model.config

    def branch(self, tp: int | None = None) -> Self:
        """The same network, free to replace blocks; for another number of ranks if given.

        Raises:
            InputError: the model cannot be sharded over so many.
        """
        if tp is not None:
            check_tp(self.shape, tp)
        shared = {"shape": self.shape, "model": self.model, "tp": tp or self.tp}
        kept = dict(self.bias_corrections) if tp in (None, self.tp) else {}
        return type(self)(**shared, layers=list(self.layers), bias_corrections=kept)

    def block(self, index: int) -> Block:
        """A block on virtual ranks."""
        return Block(
            layer=self.layers[index],
            config=self.config,
            tp=self.tp,
            bias_correction=self.bias_corrections.get(index),
        )

    def replace(self, index: int, block: Block) -> None:
        """Replace a block."""
        self.layers[index] = block.layer
        if block.bias_correction is None:
            self.bias_corrections.pop(index, None)
        else:
            self.bias_corrections[index] = block.bias_correction

    def enter(self, windows: Windows) -> Stream:
        """Embed a batch of windows."""
        calls: list[Call] = []
        entered: list[Tensor] = []

        def keep(hidden: Tensor, **call: Any) -> Tensor:
            entered.append(hidden)
            calls.append(call)
            return hidden

        ids = windows.ids.to(self.model.device)
        with torch.no_grad(), _stubbed(self.model, keep):
            decoder_of(self.model)(input_ids=ids, use_cache=False)
        # Masks and rotations depend on the shape alone: one copy serves every batch.
        shared = self._calls.setdefault(tuple(ids.shape), tuple(calls))
        return Stream(windows=windows, hidden=entered[0], calls=shared)

    def run(self, index: int, hidden: Tensor, calls: tuple[Call, ...], drop: bool) -> Tensor:
        """One block's output, with its attention all-reduce or with that dropped."""
        with torch.no_grad():
            if drop and self.tp > 1:
                return self.block(index).dropped(hidden, calls[index])
            output: Tensor = self.layers[index](hidden, **calls[index])
            return output

    def losses(self, windows: Windows, hidden: Tensor) -> tuple[float, ...]:
        """Each window's sum of the negative log-likelihoods of its scored tokens, from the last
        block's output.

        Raises:
            InputError: one is not finite.
        """
        found = []
        for ids, states in zip(windows.ids.to(hidden.device), hidden, strict=True):
            logits = self.logits(ids[None], states[None], windows.scored + 1)[0, :-1]
            nats = functional.cross_entropy(
                logits.float(), ids[-windows.scored :], reduction="none"
            )
            found.append(float(nats.double().sum()))
        if not all(map(math.isfinite, found)):
            raise InputError(
                f"{self.shape.name}: the loss is not finite (allowed: float32 weights)"
            )
        return tuple(found)

    def logits(self, ids: Tensor, hidden: Tensor, last: int) -> Tensor:
        """Logits [windows, last, words] of the last tokens, from the last block's output."""
        with torch.no_grad(), _stubbed(self.model, lambda *_, **__: hidden):
            whole: Tensor = self.model(ids, use_cache=False, logits_to_keep=last).logits
        return whole


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How well a network predicts a text: the nats of each window, and the tokens of all."""

    windows: tuple[float, ...]
    tokens: int

    @property
    def nats(self) -> float:
        """Sum over all windows."""
        return sum(self.windows)

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-likelihood."""
        return perplexity(self.nats, self.tokens)


def perplexity(nats: float, tokens: int) -> float:
    """exp of the nats per token; infinite where that is beyond a float."""
    return float(torch.tensor(nats / tokens, dtype=torch.float64).exp())


def evaluate(
    network: Network, windows: Windows, *, dropped: Collection[int] = (), batch: int = 4
) -> Quality:
    """Perplexity on windows with these blocks' attention all-reduces dropped.

    Raises:
        InputError: the loss is not finite.
    """
    nats: list[float] = []
    for part in windows.batches(batch):
        stream = network.enter(part)
        hidden = stream.hidden
        for index in range(len(network)):
            hidden = network.run(index, hidden, stream.calls, index in dropped)
        nats += network.losses(part, hidden)
    return Quality(windows=tuple(nats), tokens=windows.tokens)


def load_network(
    folder: Path,
    tp: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Network:
    """The model in a Hugging Face folder, unsharded.

    Raises:
        InputError: an unsupported model, heads or columns that tp does not divide, missing or
            pickled weights, or weights that are not finite.
    """
    shape = read_model(folder)
    check_spd_family(shape)
    check_tp(shape, tp)
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder (allowed: one with config.json and safetensors)")
    model = empty_model(load_config(folder, shape.num_hidden_layers))
    weights = Safetensors(folder, dtype, device or torch.device("cpu"))
    for name, size in parameters(model):
        values = weights.read(name, size, None)
        if not values.isfinite().all():
            raise InputError(f"{folder}: {name} has values that are not finite")
        fill(model, name, values)
    settle(model)
    return Network(
        shape=shape,
        model=model,
        tp=tp,
        layers=list(decoder_of(model).layers),
        bias_corrections=read_bias_corrections(folder, tp, dtype=dtype, device=model.device),
    )


@contextmanager
def _stubbed(model: Any, forward: Callable[..., Tensor]) -> Iterator[None]:
    """The model's own blocks replaced by a function of their input."""
    layers: nn.ModuleList = decoder_of(model).layers
    for layer in layers:
        layer.forward = forward
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
