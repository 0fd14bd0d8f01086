"""A model whose blocks come in three kinds: one with a window, one with another MLP."""

from dataclasses import replace
from typing import Any

from isotune.simulator.architecture import Model


def patterned(model: Model, kinds: tuple[int, ...]) -> Model:
    """The model with blocks of these kinds."""
    (plain,) = model.kinds
    attention: Any = plain.attention
    mlp: Any = plain.mlp
    windowed = replace(plain, attention=replace(attention, window=1024))
    wide = replace(plain, mlp=replace(mlp, columns=2 * mlp.columns))
    return replace(
        model,
        kinds=(plain, windowed, wide),
        layout=kinds,
        num_hidden_layers=len(kinds),
    )
