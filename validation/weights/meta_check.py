"""A model's blocks held to those that transformers builds from the same config, on the meta device.

Counts what a checkpoint holds: parameters, and the biases of routers that transformers keeps as
buffers, block by block.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isotune.simulator.architecture import Model
from isotune.simulator.errors import InputError

_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_OURS = ("auto_map", "source", "note", "quantization_config", "architectures")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Weight elements of every block, and of all that stands outside them."""

    blocks: tuple[int, ...]
    outside: int

    @property
    def total(self) -> int:
        """Of the whole model."""
        return sum(self.blocks) + self.outside


def counted(model: Model) -> Counts:
    """What the simulator counts."""
    each = [sum(op.parameters for op in block.ops) for block in model.blocks(1)]
    blocks = tuple(each[kind] for kind in model.pattern)
    return Counts(blocks=blocks, outside=model.embedding_weight_elements(1))


def built(file: Path) -> Counts:
    """What transformers builds of a config.json.

    Raises:
        InputError: transformers has no such model, or refuses the config.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    path = file / "config.json" if file.is_dir() else file
    fields = {key: value for key, value in json.loads(path.read_text()).items() if key not in _OURS}
    try:
        whole = AutoConfig.for_model(fields.pop("model_type"), **fields)
        config = whole.get_text_config()
        with torch.device("meta"):
            try:
                net = AutoModelForCausalLM.from_config(config)
            except ValueError:  # the language model of a multimodal one, without a head
                net = AutoModel.from_config(config)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: transformers does not build it: {reason:.200}") from error
    return _counts(net, tied=bool(getattr(whole, "tie_word_embeddings", False)))


def _counts(net: Any, tied: bool) -> Counts:
    blocks: Counter[int] = Counter()
    outside = 0
    own = dict(net.named_parameters())
    kept = net.state_dict()
    saved = {name: kept[name] for name, _ in net.named_buffers() if name in kept}
    for name, tensor in (own | saved).items():
        block = _BLOCK.search(name)
        if name not in own and "bias" not in name:
            continue
        if block:
            blocks[int(block[1])] += tensor.numel()
        else:
            outside += tensor.numel()
    if net.get_output_embeddings() is None and not tied:
        outside += net.config.vocab_size * net.config.hidden_size
    return Counts(blocks=tuple(blocks[index] for index in sorted(blocks)), outside=outside)


def differences(model: Model, file: Path) -> tuple[str, ...]:
    """Where the simulator and transformers count differently, one sentence each."""
    ours, theirs = counted(model), built(file)
    found = [
        f"block {index}: {mine:,} elements, transformers {other:,}"
        for index, (mine, other) in enumerate(zip(ours.blocks, theirs.blocks, strict=False))
        if mine != other
    ]
    if len(ours.blocks) != len(theirs.blocks):
        found.insert(0, f"{len(ours.blocks)} blocks, transformers {len(theirs.blocks)}")
    if ours.outside != theirs.outside:
        found.append(
            f"outside the blocks: {ours.outside:,} elements, transformers {theirs.outside:,}"
        )
    return tuple(found)
