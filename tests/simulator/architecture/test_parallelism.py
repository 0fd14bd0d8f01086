"""Groups of ranks, and what each rank of a layout holds."""

import re
from itertools import pairwise

import pytest

from isotune.simulator.architecture import AXES, Matmul, Parallelism, check_tp, load_model
from isotune.simulator.errors import InputError

LAYOUTS = [
    Parallelism(tp=8),
    Parallelism(tp=8, ep=8),
    Parallelism(tp=1, dp=8, ep=8),
    Parallelism(tp=2, dp=4, ep=8),
    Parallelism(tp=2, dp=4),
    Parallelism(tp=2, cp=2, dp=2, ep=8),
]


@pytest.mark.parametrize("ranks", LAYOUTS, ids=lambda ranks: ranks.text)
@pytest.mark.parametrize("axis", AXES)
def test_the_groups_of_an_axis_have_every_rank_once(ranks, axis):
    groups = ranks.groups(axis)
    assert sorted(rank for group in groups for rank in group) == list(range(ranks.gpus))
    assert {len(group) for group in groups} == {ranks.size(axis)}
    for group in groups:
        assert {b - a for a, b in pairwise(group)} <= {ranks.stride(axis)}


def test_tensor_parallel_ranks_stand_side_by_side():
    assert Parallelism(tp=2, dp=2, ep=4).groups("tp") == ((0, 1), (2, 3))
    assert Parallelism(tp=2, dp=2, ep=4).groups("dp") == ((0, 2), (1, 3))
    assert Parallelism(tp=2, dp=2, ep=4).groups("ep") == ((0, 1, 2, 3),)
    assert Parallelism(tp=2, cp=2, dp=2).groups("cp") == ((0, 2), (1, 3), (4, 6), (5, 7))
    assert Parallelism(tp=2, cp=2, dp=2).groups("dp") == ((0, 4), (1, 5), (2, 6), (3, 7))


@pytest.mark.parametrize(
    ("model", "ranks", "says"),
    [
        ("mixtral-8x22b", Parallelism(tp=2, dp=2, ep=2), "divided over all ranks"),
        ("llama-3.1-70b", Parallelism(tp=8, ep=8), "no experts to divide"),
        ("mixtral-8x22b", Parallelism(tp=16, ep=16), "16 ranks do not divide the 8 experts"),
        ("deepseek-v3", Parallelism(tp=2, cp=2), "without heads of keys and values to gather"),
        ("mixtral-8x22b", Parallelism(tp=5), "does not divide num_attention_heads"),
    ],
)
def test_what_cannot_be_combined_says_why(model, ranks, says):
    with pytest.raises(InputError, match=re.escape(says)):
        check_tp(load_model(model), ranks)


@pytest.mark.parametrize("name", ["mixtral-8x22b", "qwen3-30b-a3b", "deepseek-v3"])
@pytest.mark.parametrize("ranks", LAYOUTS[1:4], ids=lambda ranks: ranks.text)
def test_all_ranks_together_hold_every_expert_once(name, ranks):
    model = load_model(name)

    def routed(shares):
        return sum(
            op.products
            for kind in model.pattern
            for op in model.blocks(shares)[kind].ops
            if isinstance(op, Matmul) and op.experts
        )

    assert routed(ranks) * ranks.gpus == routed(1)


@pytest.mark.parametrize("name", ["mixtral-8x22b", "qwen3-30b-a3b", "deepseek-v3"])
def test_a_checkpoints_number_types_stay_with_their_products(name):
    model = load_model(name)
    whole = {op.name: op.quantised for op in model.block(1).ops if isinstance(op, Matmul)}
    spread = model.block(Parallelism(tp=2, dp=4, ep=8))
    found = {op.name: op.quantised for op in spread.ops if isinstance(op, Matmul)}
    assert {name: found[name] for name in whole} == whole


def test_an_all_reduce_is_dropped_only_where_another_completes_the_sum():
    model = load_model("mixtral-8x22b")
    assert len(model.droppable(Parallelism(tp=8, ep=8))) == model.num_hidden_layers
    assert model.droppable(Parallelism(tp=2, dp=4, ep=8)) == ()
