"""One configuration class per `model_type`: what its fields make of the blocks.

A family's module is imported when a model of it is read.
"""

from pkgutil import resolve_name
from typing import cast

from isotune.simulator.architecture.hf_config import Config

FAMILIES: dict[str, str] = {
    "llama": "llama:Llama",
    "mistral": "mistral:Mistral",
    "mixtral": "mistral:Mixtral",
    "qwen2": "qwen:Qwen2",
    "qwen3": "qwen:Qwen3",
    "qwen3_moe": "qwen:Qwen3Moe",
    "opt": "opt:Opt",
    "gemma": "gemma:Gemma",
    "gemma2": "gemma:Gemma2",
    "gemma3_text": "gemma:Gemma3",
    "phi3": "mistral:Phi3",
    "olmo2": "llama:Olmo2",
    "baichuan": "llama:Baichuan",
    "chatglm": "glm:ChatGlm",
    "cohere": "parallel:Cohere",
    "cohere2": "parallel:Cohere2",
    "deepseek_v2": "deepseek:DeepseekV2",
    "deepseek_v3": "deepseek:DeepseekV3",
    "deepseek_v32": "deepseek:DeepseekV32",
    "dots1": "glm:Dots1",
    "exaone": "llama:Exaone",
    "exaone4": "llama:Exaone4",
    "falcon": "parallel:Falcon",
    "gemma4_text": "gemma:Gemma4",
    "glm": "glm:Glm",
    "glm4": "glm:Glm4",
    "glm4_moe": "glm:Glm4Moe",
    "glm4_moe_lite": "deepseek:Glm4MoeLite",
    "glm_moe_dsa": "deepseek:GlmMoeDsa",
    "gpt_neox": "parallel:GptNeoX",
    "gpt_oss": "sparse:GptOss",
    "granite": "llama:Llama",
    "granitemoe": "llama:GraniteMoe",
    "granitemoeshared": "llama:GraniteMoe",
    "hunyuan_v1_dense": "llama:HunYuan",
    "internlm2": "llama:InternLm2",
    "kimi_k2": "deepseek:DeepseekV3",
    "llama4_text": "sparse:Llama4",
    "mimo": "qwen:Mimo",
    "mimo_v2_flash": "sparse:MimoV2",
    "minicpm3": "deepseek:MiniCpm3",
    "minimax": "sparse:MiniMax",
    "minimax_m2": "sparse:MiniMaxM2",
    "ministral": "mistral:Mistral",
    "ministral3": "mistral:Ministral3",
    "mllama_text_model": "llama:Mllama",
    "nemotron": "parallel:Nemotron",
    "nemotron-nas": "nemotron:NemotronNas",
    "nemotron_h": "nemotron:NemotronH",
    "olmo": "llama:Olmo",
    "olmo3": "llama:Olmo3",
    "phi": "parallel:Phi",
    "phi3_v": "mistral:Phi3Vision",
    "qwen2_moe": "qwen:Qwen2Moe",
    "qwen3_5_moe_text": "qwen:HybridMoe",
    "qwen3_5_text": "qwen:Hybrid",
    "qwen3_next": "qwen:HybridMoe",
    "qwen3_vl_moe_text": "qwen:Qwen3Moe",
    "qwen3_vl_text": "qwen:Qwen3",
    "seed_oss": "llama:SeedOss",
    "smollm3": "llama:SmolLm3",
    "stablelm": "parallel:StableLm",
    "starcoder2": "parallel:Starcoder2",
    "step3p5": "sparse:Step3",
}
"""The supported values of `model_type`, and where the class of each stands: `MODULE:CLASS`."""

WRAPPERS: dict[str, str] = {
    "llava": "llama",
    "qwen2_5_vl": "qwen2",
    "qwen2_vl": "qwen2",
    "step3p7": "step3p5",
    "mistral3": "mistral",
}
"""The language model of multimodal configs that do not name it, or have its fields at the top."""

UNKNOWN: dict[str, str] = {
    "deepseek_v4": "compressed sparse attention and hyper-connections",
    "deepseek_ref": "compressed sparse attention and hyper-connections",
    "minimax_m3": "attention to selected blocks of keys",
    "phi3small": "block-sparse attention",
    "bert": "an encoder",
    "clip_vision_model": "a vision model",
}
"""Why some architectures are refused: the part of them whose cost is not known."""


def family(model_type: str) -> type[Config]:
    """The configuration class of a supported `model_type`."""
    return cast(type[Config], resolve_name(f"{__name__}.{FAMILIES[model_type]}"))
