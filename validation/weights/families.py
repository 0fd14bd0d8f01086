"""Which architectures run for real, and their Hugging Face configuration."""

from pathlib import Path
from typing import Any

from isotune.simulator.architecture import Model
from isotune.simulator.errors import InputError

SPD_FAMILIES = (
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "opt",
    "gemma",
    "phi3",
)
"""Values of `model_type` whose dropped blocks are measured and recovered."""
FAMILIES = (
    *SPD_FAMILIES,
    "olmo2",
    "gemma2",
    "gemma3_text",
    "glm",
    "glm4",
    "cohere",
    "cohere2",
    "gpt_oss",
    "deepseek_v2",
    "deepseek_v3",
    "qwen3_next",
)
"""Values of `model_type` that the executor drives."""


def check_family(model: Model) -> None:
    """Refuse a model that predict can price and the executor cannot run.

    Raises:
        InputError: the architecture, or a variant of it, and what is allowed.
    """
    if model.architecture not in FAMILIES:
        raise InputError(
            f"{model.name}: model_type: real runs do not support {model.architecture!r} "
            f"(allowed: {', '.join(FAMILIES)})"
        )
    if model.left_out_parts or model.head_rows:
        part = model.left_out_parts[0] if model.left_out_parts else "the head that scores its input"
        raise InputError(f"{model.name}: real runs do not support {part} (allowed: none)")
    if model.architecture == "opt" and not model.final_norm:
        raise InputError(
            f"{model.name}: do_layer_norm_before: real runs need a norm before attention (allowed: "
            "true)"
        )


def check_spd_family(model: Model) -> None:
    """Refuse a model whose dropped blocks can be run, and not measured or recovered.

    Raises:
        InputError: see `check_family`.
    """
    if model.architecture not in SPD_FAMILIES:
        raise InputError(
            f"{model.name}: model_type: sensitivities and recovery do not support "
            f"{model.architecture!r} (allowed: {', '.join(SPD_FAMILIES)})"
        )
    check_family(model)


def load_config(path: Path, layers: int) -> Any:
    """The configuration in a config.json or a folder with one, truncated to its first blocks.

    Raises:
        InputError: transformers refuses it.
    """
    import json

    from transformers import AutoConfig

    file = path / "config.json" if path.is_dir() else path
    ours = ("auto_map", "source", "note")
    fields = {key: value for key, value in json.loads(file.read_text()).items() if key not in ours}
    fields["num_hidden_layers"] = layers
    if isinstance(fields.get("layer_types"), list):
        fields["layer_types"] = fields["layer_types"][:layers]
    try:
        return AutoConfig.for_model(fields.pop("model_type"), **fields)
    except (KeyError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{file}: transformers refuses it: {reason}") from error
