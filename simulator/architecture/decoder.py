"""What stands before and after the blocks of a decoder-only transformer."""

from typing import TYPE_CHECKING

from isotune.simulator.architecture.block import Embed, FinalNorm, LmHead, Op
from isotune.simulator.architecture.parts import NORM_VECTORS

if TYPE_CHECKING:
    from isotune.simulator.architecture.model import Model


def head(model: "Model", tp: int) -> tuple[Op, ...]:
    """What stands before the first block."""
    return (
        Embed(
            name="embed",
            sublayer="embed",
            elements=2 * model.hidden_size,
            parameters=_vocabulary(model, tp)
            + model.learned_positions * model.hidden_size
            + _embedding_projection(model),
        ),
    )


def tail(model: "Model", tp: int) -> tuple[Op, ...]:
    """What stands after the last block; its rows are the last tokens of the requests."""
    words = -(-model.vocab_size // tp)
    own_table = 0 if model.tie_word_embeddings else _vocabulary(model, tp)
    if model.head_rows:
        own_table = model.head_rows * model.hidden_size
    own_table += words * model.head_bias
    return (
        FinalNorm(
            name="final_norm",
            sublayer="head",
            elements=3 * model.hidden_size,
            parameters=NORM_VECTORS[model.norm] * model.hidden_size * model.final_norm,
        ),
        LmHead(
            name="lm_head",
            sublayer="head",
            n=model.head_rows or words,
            k=model.hidden_size,
            modules=("lm_head",),
            parameters=own_table + _embedding_projection(model),
        ),
    )


def _vocabulary(model: "Model", tp: int) -> int:
    return -(-model.vocab_size // tp) * model.embedding_size


def _embedding_projection(model: "Model") -> int:
    """Weights between the width of the embedding and that of the blocks, where they differ."""
    projected = model.embedding_size != model.hidden_size
    return model.embedding_size * model.hidden_size * projected
