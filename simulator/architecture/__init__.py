"""What a model is: sizes read from a Hugging Face config.json, and the bundled ones."""

from isotune.simulator.architecture.model import (
    Model,
    bundled_models,
    check_tp,
    load_model,
    model_config_file,
    read_model,
)

__all__ = [
    "Model",
    "bundled_models",
    "check_tp",
    "load_model",
    "model_config_file",
    "read_model",
]
