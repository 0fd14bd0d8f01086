"""A block is data: it adds up to the model, and an op of an unknown type is never guessed."""

from dataclasses import dataclass

import pytest

from isotune.simulator.architecture import (
    Attend,
    Collective,
    GroupedQuery,
    Matmul,
    Op,
    PartialAdd,
    bundled_models,
    load_model,
)
from isotune.simulator.machine import CLASSES, read_profile
from isotune.simulator.predict import CostModel, Rows, Scenario
from isotune.simulator.schedule import Workload

MODELS = [load_model(name) for name in bundled_models()]


@dataclass(frozen=True, kw_only=True)
class Convolve(Op):
    """A new kind of work that no reader knows yet."""

    section = "gemm"


def cost_model(tp: int = 8) -> CostModel:
    model = load_model("llama-2-70b")
    workload = Workload(tp=tp)
    return CostModel(Scenario(model=model, hardware=read_profile("a800"), workload=workload))


def test_an_op_of_an_unknown_type_has_no_cost_and_is_named() -> None:
    with pytest.raises(TypeError, match="Convolve"):
        cost_model().step((Convolve(name="conv", sublayer="mlp"),), Rows(8, 1, 8, 0))


def test_an_op_type_must_name_the_section_of_a_profile_that_has_its_figures() -> None:
    with pytest.raises(TypeError, match="Unpriced"):
        type("Unpriced", (Op,), {})


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_op_of_a_model_shares_the_error_of_a_known_class(model) -> None:
    blocks = model.blocks(1)
    ops = [*model.head(1), *(op for block in blocks for op in block.ops), *model.tail(1)]
    collectives = [segment.collective for block in blocks for segment in block.segments]
    assert {op.error_class for op in [*ops, *collectives]} <= set(CLASSES)


PLAIN = [
    model
    for model in MODELS
    if isinstance(model.kinds[0].attention, GroupedQuery) and len(model.kinds) == 1
]


@pytest.mark.parametrize("model", PLAIN, ids=lambda model: model.name)
def test_a_token_takes_two_operations_per_parameter_of_the_products_it_visits(model) -> None:
    products = [op for op in model.block(1).ops if isinstance(op, Matmul)]
    seen = sum(op.n * op.k * (op.experts.per_token if op.experts else 1) for op in products)
    (kind,) = model.kinds
    attention, mlp = kind.attention, kind.mlp
    heads = 2 * attention.heads + 2 * attention.kv_heads
    projections = (3 if mlp.gated else 2) * getattr(mlp, "per_token", 1)
    expected = heads * attention.head_dim + projections * mlp.columns
    assert seen == model.hidden_size * expected


def test_the_ranks_products_and_caches_add_up_to_the_whole_blocks() -> None:
    model = load_model("llama-2-70b")
    whole, shard = model.block(1).ops, model.block(8).ops
    for one, eighth in zip(whole, shard, strict=True):
        if isinstance(one, Matmul) and isinstance(eighth, Matmul):
            assert one.n * one.k == 8 * eighth.n * eighth.k
        if isinstance(one, Attend) and isinstance(eighth, Attend):
            assert one.cache_elements == 8 * eighth.cache_elements


def test_dropping_a_collective_merges_its_segments_and_keeps_the_partial_sum() -> None:
    block = load_model("llama-2-70b").block(8)
    attention, mlp = block.segments
    (merged,) = block.without_collective().segments
    assert merged.collective == mlp.collective
    assert merged.sublayers[0] == attention.sublayers[0]
    *before, add, down = merged.sublayers[1]
    assert (*before, down) == mlp.sublayers[0]
    assert isinstance(add, PartialAdd)
    assert isinstance(attention.collective, Collective)
