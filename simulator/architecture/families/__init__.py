"""One configuration class per `model_type`: what its fields make of the blocks."""

from isotune.simulator.architecture.families import gemma, llama, mistral, opt, qwen
from isotune.simulator.architecture.hf_config import Config

FAMILIES: dict[str, type[Config]] = {
    "llama": llama.Llama,
    "mistral": mistral.Mistral,
    "mixtral": mistral.Mixtral,
    "qwen2": qwen.Qwen2,
    "qwen3": qwen.Qwen3,
    "qwen3_moe": qwen.Qwen3Moe,
    "opt": opt.Opt,
    "gemma": gemma.Gemma,
    "gemma2": gemma.Gemma2,
    "gemma3_text": gemma.Gemma3,
    "phi3": mistral.Phi3,
    "olmo2": llama.Olmo2,
}
"""The supported values of `model_type`."""
