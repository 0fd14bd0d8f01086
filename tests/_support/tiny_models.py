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
LATENT = {
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 12,
    "num_key_value_heads": 8,
    "moe_intermediate_size": 48,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
}
WINDOWED = {
    "head_dim": 16,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"],
}
EXECUTED: dict[str, dict[str, object]] = VARIANTS | {
    "olmo2": {},
    "glm": {"head_dim": 8},
    "glm4": {"head_dim": 8, "attention_bias": True},
    "gemma2": WINDOWED | {"attn_logit_softcapping": 1.0, "final_logit_softcapping": 2.0},
    "gemma3_text": WINDOWED,
    "cohere": {"use_qk_norm": True, "attention_bias": True, "logit_scale": 0.5},
    "cohere2": WINDOWED | {"head_dim": 8},
    "gpt_oss": WINDOWED | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "deepseek_v2": LATENT | {"q_lora_rank": None, "topk_method": "greedy"},
    "deepseek_v3": LATENT,
    "qwen3_next": {
        "head_dim": 16,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 12,
        "linear_num_key_heads": 4,
        "linear_num_value_heads": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 48,
        "shared_expert_intermediate_size": 48,
    },
}
"""Those that the executor runs; recovery of dropped blocks is for `VARIANTS` alone."""


def write_config(folder: Path, family: str, **changes: object) -> Path:
    """A folder with the config.json of a tiny model."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"model_type": family} | SIZES | EXECUTED.get(family, {}) | changes
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def model_reference(folder: Path) -> dict[str, object]:
    """How a plan file names the model in a folder."""
    return ModelReference.of(load_model(str(folder)), str(folder)).model_dump()
