"""The ops of a decoder-only transformer, read off its sizes: embedding, block, LM head."""

from functools import lru_cache
from typing import TYPE_CHECKING

from isotune.simulator.architecture.block import (
    Activation,
    Attend,
    Block,
    Collective,
    ColumnParallel,
    Embed,
    Experts,
    FinalNorm,
    LmHead,
    Norm,
    Op,
    Qkv,
    Rope,
    RowParallel,
    Segment,
)

if TYPE_CHECKING:
    from isotune.simulator.architecture.model import Model


@lru_cache(maxsize=1024)
def block(model: "Model", tp: int) -> Block:
    """One decoder block of one of `tp` ranks."""
    return Block(
        (
            Segment(sublayers=(_attention(model, tp),), collective=_all_reduce(model, "attention")),
            Segment(sublayers=(_mlp(model, tp),), collective=_all_reduce(model, "mlp")),
        )
    )


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
    own_table = 0 if model.tie_word_embeddings else _vocabulary(model, tp)
    return (
        FinalNorm(
            name="final_norm",
            sublayer="head",
            elements=3 * model.hidden_size,
            parameters=_norm_parameters(model) * model.final_norm,
        ),
        LmHead(
            name="lm_head",
            sublayer="head",
            n=-(-model.vocab_size // tp),
            k=model.hidden_size,
            parameters=own_table + _embedding_projection(model),
        ),
    )


def _attention(model: "Model", tp: int) -> tuple[Op, ...]:
    heads, kv_heads = model.heads_per_gpu(tp), model.kv_heads_per_gpu(tp)
    hidden, width = model.hidden_size, model.head_dim
    qkv, mixed = (heads + 2 * kv_heads) * width, heads * width
    return (
        _norm(model, "attention"),
        Qkv(
            name="qkv",
            sublayer="attention",
            n=qkv,
            k=hidden,
            parameters=qkv * (hidden + model.attention_bias),
        ),
        # In place; the copy of new keys and values to the cache is attention's.
        Rope(
            name="rope",
            sublayer="attention",
            elements=(2 * heads + 2 * kv_heads) * width,
            parameters=width * _normed_heads(model, heads, kv_heads),
        ),
        Attend(
            name="attention",
            sublayer="attention",
            heads=heads,
            kv_heads=kv_heads,
            head_dim=width,
            window=model.sliding_window,
        ),
        RowParallel(
            name="attention_out",
            sublayer="attention",
            n=hidden,
            k=mixed,
            parameters=hidden * (mixed + model.out_bias),
        ),
    )


def _mlp(model: "Model", tp: int) -> tuple[Op, ...]:
    hidden, columns = model.hidden_size, model.intermediate_size // tp
    projections = 2 if model.gated_mlp else 1
    count, per_token = model.num_experts, model.num_experts_per_token
    routed = Experts(count=count, per_token=per_token, routes=True) if count > 1 else None
    grouped = Experts(count=count, per_token=per_token) if count > 1 else None
    router = hidden * count if count > 1 else 0
    up = projections * columns
    return (
        _norm(model, "mlp"),
        ColumnParallel(
            name="mlp_up",
            sublayer="mlp",
            n=up,
            k=hidden,
            experts=routed,
            parameters=count * up * (hidden + model.mlp_bias) + router,
        ),
        Activation(
            name="activation", sublayer="mlp", elements=per_token * (projections + 1) * columns
        ),
        RowParallel(
            name="mlp_down",
            sublayer="mlp",
            n=hidden,
            k=columns,
            experts=grouped,
            parameters=count * hidden * (columns + model.mlp_bias),
        ),
    )


def _norm(model: "Model", sublayer: str) -> Norm:
    """The norm before a sublayer, in one kernel with the residual add and the norms after it.

    It reads and writes two streams: the partial sums' total and the residual.
    """
    return Norm(
        name=f"{sublayer}_norm",
        sublayer=sublayer,
        elements=4 * model.hidden_size,
        parameters=model.norms_per_block // 2 * _norm_parameters(model),
    )


def _all_reduce(model: "Model", sublayer: str) -> Collective:
    return Collective(name=f"{sublayer}_sync", sublayer=sublayer, elements=model.hidden_size)


def _normed_heads(model: "Model", heads: int, kv_heads: int) -> int:
    """Heads whose norms of queries and keys have weights of their own."""
    return heads + kv_heads if model.qk_norm == "projection" else 2 * model.qk_norm


def _norm_parameters(model: "Model") -> int:
    return model.hidden_size * (2 if model.norm == "layer_norm" else 1)


def _vocabulary(model: "Model", tp: int) -> int:
    return -(-model.vocab_size // tp) * model.embedding_size


def _embedding_projection(model: "Model") -> int:
    """Weights between the width of the embedding and that of the blocks, where they differ."""
    projected = model.embedding_size != model.hidden_size
    return model.embedding_size * model.hidden_size * projected
