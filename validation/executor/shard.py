"""One rank's share of a Hugging Face causal language model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from isotune.validation.executor.fused_ops import norm_of
from isotune.validation.executor.layers import DecoderLayer, Rotations, pieces
from isotune.validation.weights import Sharding, Weights, vocabulary_range


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The layers, embedding and head of `rank`, ready to be driven piece by piece.

    Embedding and head are sharded by words. `bias_corrections` has what this rank adds to a
    block's MLP input [hidden] while its attention all-reduce is dropped (a bias correction).
    """

    config: Any
    rank: int
    tp: int
    layers: tuple[DecoderLayer, ...]
    decoder: Any
    embedding: Tensor
    head: Tensor
    bias_corrections: Mapping[int, Tensor] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype:
        """Number type of weights and activations."""
        return self.embedding.dtype

    @property
    def device(self) -> torch.device:
        """Where it lives."""
        return self.embedding.device

    def embed(self, ids: Tensor) -> Tensor:
        """This rank's part of the embedding of ids [requests, tokens]; sums to the whole."""
        first, last = vocabulary_range(self.config.vocab_size, self.tp, self.rank)
        held = (ids >= first) & (ids < last)
        if last == first:
            return self.embedding.new_zeros(*ids.shape, self.embedding.shape[1])
        words = functional.embedding((ids - first).clamp(0, last - first - 1), self.embedding)
        return words * held[..., None]

    def enter(self, words: Tensor, start: int) -> Tensor:
        """What the first block takes: scaled embeddings (Gemma), or with positions (OPT).

        `words` is the whole embedding [requests, tokens, width] of tokens from `start` on.
        """
        scale = getattr(self.decoder.embed_tokens, "embed_scale", None)
        if scale is not None:
            return words * scale.to(words)
        if self.config.model_type != "opt":
            return words
        if self.decoder.project_in is not None:
            words = self.decoder.project_in(words)
        positions = torch.arange(start, start + words.shape[1], device=words.device)
        return words + self.decoder.embed_positions(None, position_ids=positions)

    def rotations(self, hidden: Tensor, start: int, tokens: int, end: int) -> Rotations:
        """Cosines and sines of positions `start` to `start + tokens`, by the kind of layer.

        `end` is where the whole pass ends: some rotations depend on the longest position.
        """
        rotary = getattr(self.decoder, "rotary_emb", None)
        if rotary is None:
            return {}
        kinds = set(getattr(self.config, "layer_types", None) or [None])
        positions = torch.arange(end, device=self.device)[None]
        own = hasattr(rotary, "layer_types")  # Gemma 3 has rotations of its own for each kind
        found = {}
        for kind in kinds:
            whole = rotary(hidden, positions, kind) if own else rotary(hidden, positions)
            found[kind] = _rows_of(whole, slice(start, start + tokens))
        return found

    def scored(self, logits: Tensor) -> Tensor:
        """Logits as the model scales them (Command-R) or bounds them (Gemma 2)."""
        scale = getattr(self.config, "logit_scale", None)
        cap = getattr(self.config, "final_logit_softcapping", None)
        scaled = logits if scale is None else logits * scale
        return scaled if cap is None else cap * torch.tanh(scaled / cap)

    def final_norm(self, hidden: Tensor) -> Tensor:
        """Norm, and OPT's output projection, before the head."""
        if self.config.model_type != "opt":
            return norm_of(self.decoder.norm)(hidden)
        normed = self.decoder.final_layer_norm(hidden)
        project = self.decoder.project_out
        return normed if project is None else project(normed)


def load_shard(
    config: Any,
    weights: Weights,
    *,
    rank: int,
    tp: int,
    bias_corrections: Mapping[int, Tensor] | None = None,
) -> Shard:
    """Read one rank's slices, one parameter at a time, into a model built without weights.

    `bias_corrections` has the bias corrections [tp, hidden] of recovered blocks.

    Raises:
        InputError: the weights lack a parameter or have it in another shape.
    """
    model = empty_model(config)
    sharding = Sharding(config, tp)
    for name, shape in parameters(model):
        fill(model, name, weights.read(name, shape, sharding.slice_of(name, shape, rank)))
    settle(model)
    decoder = decoder_of(model)
    layers = tuple(pieces(layer, config, index, tp) for index, layer in enumerate(decoder.layers))
    for layer in layers:
        layer.only_run()
    return Shard(
        config=config,
        rank=rank,
        tp=tp,
        layers=layers,
        decoder=decoder,
        embedding=decoder.embed_tokens.weight,
        head=model.lm_head.weight,
        bias_corrections={block: every[rank] for block, every in (bias_corrections or {}).items()},
    )


def empty_model(config: Any) -> Any:
    """The Hugging Face model with its buffers, its parameters only shapes (on `meta`)."""
    from transformers import AutoModelForCausalLM

    with _parameters_on_meta():
        try:
            model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        except ValueError:  # Gemma 2 bounds its scores, gpt-oss has sinks
            model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return model.eval().requires_grad_(False)


def parameters(model: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of what a checkpoint holds: parameters, and the biases of routers that
    transformers keeps as buffers. A tied head is not among them."""
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        if not (name == "lm_head.weight" and model.config.tie_word_embeddings):
            yield name, tuple(parameter.shape)
    saved = model.state_dict(keep_vars=True)
    for name, buffer in list(model.named_buffers()):
        if name in saved:
            yield name, tuple(buffer.shape)


def fill(model: Any, name: str, values: Tensor) -> None:
    """Put values in the place of a parameter."""
    place, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(place), leaf, nn.Parameter(values, requires_grad=False))


def settle(model: Any) -> None:
    """Tie the head, and bring the buffers to where the parameters are."""
    embedding = decoder_of(model).embed_tokens.weight
    if model.config.tie_word_embeddings:
        model.lm_head.weight = embedding
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(embedding.device))


def decoder_of(model: Any) -> Any:
    """The module that has the layers."""
    return getattr(model.model, "decoder", model.model)


def _rows_of(rotation: Any, rows: slice) -> Any:
    """The rows of cosines and sines, or of complex numbers, [1, positions, width]."""
    if isinstance(rotation, Tensor):
        return rotation[:, rows]
    return tuple(part[:, rows] for part in rotation)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    register = nn.Module.register_parameter

    def on_meta(module: Any, name: str, parameter: Any) -> None:
        if parameter is not None:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=False)
        register(module, name, parameter)

    nn.Module.register_parameter = on_meta
    try:
        yield
    finally:
        nn.Module.register_parameter = register
