"""Tiny models that have learned a little structure, and the text they learned it from."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from _support.tiny_models import write_config
from isotune.validation.spd.model import Windows
from isotune.validation.weights import load_config

CONTEXT = 24
CHANGES: dict[str, dict[str, object]] = {
    "llama": {"attention_bias": False, "mlp_bias": False},
    "opt": {"word_embed_proj_dim": 64, "dropout": 0.0, "init_std": 0.1},
    "qwen2": {"use_sliding_window": False, "num_key_value_heads": 2},
}


def sequences(count: int, seed: int) -> torch.Tensor:
    """Texts in which a token follows from the one two before it, with one in eight at random."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 35, (count, CONTEXT), generator=generator)
    noise = torch.rand(count, CONTEXT, generator=generator) < 0.125
    for at in range(2, CONTEXT):
        follows = 3 + (ids[:, at - 2] + 4) % 32
        ids[:, at] = torch.where(noise[:, at], ids[:, at], follows)
    return ids


def windows(count: int, seed: int) -> Windows:
    return Windows(ids=sequences(count, seed), scored=CONTEXT - 3)


def save_learned_model(folder: Path, family: str, blocks: int = 3, steps: int = 120) -> Path:
    """A folder with a model trained for some seconds."""
    write_config(folder, family, num_hidden_layers=blocks, **CHANGES[family])
    torch.manual_seed(2)
    net = AutoModelForCausalLM.from_config(load_config(folder, blocks)).train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=4e-3)
    for step in range(steps):
        ids = sequences(32, 1000 + step)
        optimiser.zero_grad()
        net(ids, labels=ids).loss.backward()
        optimiser.step()
    config = (folder / "config.json").read_bytes()
    net.eval().save_pretrained(folder)
    (folder / "config.json").write_bytes(config)
    return folder
