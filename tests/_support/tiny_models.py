"""Tiny models of every family, as their config.json has them. Imports no torch."""

import json
from pathlib import Path

from isotune.simulator.architecture import load_model
from isotune.simulator.files import ModelReference

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 131,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
VARIANTS = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": 8, "num_key_value_heads": 2},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 8},
    "qwen3": {"head_dim": 16},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 32, "num_key_value_heads": 8},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48},
    "gemma": {"head_dim": 16, "num_key_value_heads": 1},
    "phi3": {},
}


def write_config(folder: Path, family: str, **changes: object) -> Path:
    """A folder with the config.json of a tiny model."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"model_type": family} | SIZES | VARIANTS.get(family, {}) | changes
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def model_reference(folder: Path) -> dict[str, object]:
    """How a plan file names the model in a folder."""
    return ModelReference.of(load_model(str(folder)), str(folder)).model_dump()
