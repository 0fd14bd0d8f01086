"""A tiny config.json of every family, with what its blocks have that others do not."""

from _support.tiny_models import SIZES
from isotune.simulator.architecture import Model

LATENT = {
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 12,
    "num_key_value_heads": 8,
    "moe_intermediate_size": 32,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
}
INDEXED = LATENT | {"index_n_heads": 4, "index_head_dim": 8, "index_topk": 16}
LINEAR = {
    "head_dim": 16,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_num_key_heads": 4,
    "linear_num_value_heads": 8,
}
EXPERTS = {
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 48,
}
ROUTED = {"num_local_experts": 8, "num_experts_per_tok": 2}
MAMBA = {
    "mamba_num_heads": 8,
    "mamba_head_dim": 16,
    "ssm_state_size": 12,
    "n_groups": 4,
    "head_dim": 8,
    "n_routed_experts": 8,
    "moe_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 40,
    "moe_latent_size": 24,
}
GLM = {
    "head_dim": 8,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "use_qk_norm": True,
    "n_group": 1,
    "topk_group": 1,
}

FAMILIES: dict[str, dict[str, object]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {},
    "mixtral": ROUTED,
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": EXPERTS | {"decoder_sparse_step": 2},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 32, "num_key_value_heads": 8},
    "gemma": {"head_dim": 16},
    "gemma2": {"head_dim": 16},
    "gemma3_text": {"head_dim": 16},
    "phi3": {},
    "olmo2": {},
    "cohere": {"use_qk_norm": True},
    "cohere2": {},
    "deepseek_v2": LATENT | {"q_lora_rank": None},
    "deepseek_v3": LATENT,
    "deepseek_v32": INDEXED,
    "dots1": GLM | {"n_shared_experts": 1},
    "exaone4": {},
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 4, "ffn_hidden_size": 96},
    "gemma4_text": {
        "hidden_size_per_layer_input": 0,
        "head_dim": 16,
        "global_head_dim": 32,
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 2,
        "enable_moe_block": True,
        "num_experts": 8,
        "top_k_experts": 2,
        "moe_intermediate_size": 32,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "glm": {"head_dim": 8},
    "glm4": {"head_dim": 8},
    "glm4_moe": GLM,
    "glm4_moe_lite": LATENT,
    "glm_moe_dsa": INDEXED | {"indexer_types": ["full", "full", "shared", "full"]},
    "gpt_neox": {},
    "gpt_oss": ROUTED | {"head_dim": 16},
    "granite": {},
    "granitemoe": ROUTED,
    "granitemoeshared": ROUTED | {"shared_intermediate_size": 48},
    "hunyuan_v1_dense": {"head_dim": 8},
    "llama4_text": ROUTED
    | {"head_dim": 8, "intermediate_size_mlp": 128, "interleave_moe_layer_step": 2},
    "mimo_v2_flash": {
        "head_dim": 12,
        "v_head_dim": 8,
        "swa_num_attention_heads": 8,
        "swa_num_key_value_heads": 8,
        "swa_head_dim": 12,
        "swa_v_head_dim": 8,
        "hybrid_layer_pattern": [0, 1, 1, 1],
        "moe_layer_freq": [0, 1, 1, 1],
        "moe_intermediate_size": 32,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "add_swa_attention_sink_bias": True,
    },
    "minicpm3": {"num_key_value_heads": 8, "v_head_dim": 8},
    "minimax": ROUTED | {"head_dim": 8},
    "minimax_m2": ROUTED | {"head_dim": 16},
    "ministral": {"head_dim": 8},
    "ministral3": {"head_dim": 8},
    "nemotron": {},
    "nemotron_h": MAMBA | {"hybrid_override_pattern": "M*E-"},
    "olmo": {},
    "olmo3": {},
    "phi": {"num_key_value_heads": 8},
    "qwen2_moe": EXPERTS,
    "qwen3_5_moe_text": LINEAR | EXPERTS,
    "qwen3_5_text": LINEAR,
    "qwen3_next": LINEAR | EXPERTS,
    "qwen3_vl_moe_text": EXPERTS | {"tie_word_embeddings": False},
    "qwen3_vl_text": {"head_dim": 16, "tie_word_embeddings": False},
    "seed_oss": {"head_dim": 16},
    "smollm3": {},
    "stablelm": {"use_qkv_bias": True, "qk_layernorm": True, "use_parallel_residual": True},
    "starcoder2": {},
    "exaone": {},
}
"""Of `model_type`, the fields beside `SIZES`."""

WITHOUT_TRANSFORMERS: dict[str, dict[str, object]] = {
    "baichuan": {},
    "chatglm": {
        "num_layers": 4,
        "ffn_hidden_size": 96,
        "padded_vocab_size": 131,
        "kv_channels": 8,
        "multi_query_attention": True,
        "multi_query_group_num": 4,
    },
    "internlm2": {"bias": False},
    "kimi_k2": LATENT,
    "mimo": {"head_dim": 8},
    "mllama_text_model": {"cross_attention_layers": [1]},
    "nemotron-nas": {
        "block_configs": [
            {"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.5}},
            {"attention": {"n_heads_in_group": 4}, "ffn": {"ffn_mult": 3.0}},
        ]
        * 2
    },
    "phi3_v": {},
    "step3p5": {"head_dim": 8, "num_experts": 8, "num_experts_per_tok": 2},
}
"""Families that transformers does not build on its own."""


def tiny(family: str) -> dict[str, object]:
    """The config.json of a tiny model of four blocks."""
    own = (FAMILIES | WITHOUT_TRANSFORMERS)[family]
    return {"model_type": family} | SIZES | {"num_hidden_layers": 4} | own


def cached_elements(model: Model, tp: int) -> int:
    """KV-cache elements of one token in all blocks, per GPU."""
    return sum(model.kv_elements_by_reach(tp).values())
