"""A model run block by block, permuted and corrected, is the model that transformers runs."""

import copy
import itertools

import pytest
import torch
from _support.runs import save_random_model, unsharded
from _support.tiny_models import VARIANTS, write_config
from torch.nn import functional

from isotune.simulator.errors import InputError
from isotune.validation.executor import decoder_of
from isotune.validation.reference import lossy
from isotune.validation.spd.model import Block, Windows, evaluate, load_network
from isotune.validation.spd.recover.grouping import _swapped, _transport, group_heads, group_neurons
from isotune.validation.spd.recover.permute import HeadUnits, permute_heads, permute_neurons
from isotune.validation.spd.recover.sample import mean_correction, take_sample


def draw(count, seed=0, context=21):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 131, (count, context), generator=generator)
    return Windows(ids=ids, scored=context - 1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {family: save_random_model(write_config(folder / family, family)) for family in VARIANTS}


def nats(model, windows):
    with torch.no_grad():
        logits = model(windows.ids).logits[:, :-1]
    wanted = windows.ids[:, 1:].flatten()
    return float(functional.cross_entropy(logits.flatten(0, 1), wanted, reduction="sum"))


def lost(block, stream):
    """Power of what dropping the sync changes in the block's output."""
    with torch.no_grad():
        whole = block.layer(stream.hidden, **stream.calls[0])
        return float((block.dropped(stream.hidden, stream.calls[0]) - whole).square().sum())


@pytest.mark.parametrize("tp", [2, 4])
@pytest.mark.parametrize("family", VARIANTS)
def test_block_by_block_the_loss_is_that_of_the_reference(models, family, tp):
    network, model, windows = load_network(models[family], tp), unsharded(models[family]), draw(3)
    width = network.config.hidden_size
    assert evaluate(network, windows).nats == pytest.approx(nats(model, windows), rel=1e-5)
    with lossy(model, tp=tp, dropped=(0, 1)):
        plain = nats(model, windows)
    assert evaluate(network, windows, dropped=(0, 1), batch=2).nats == pytest.approx(
        plain, rel=1e-5
    )
    network.bias_corrections[1] = 0.3 * torch.randn(
        tp, width, generator=torch.Generator().manual_seed(3)
    )
    with lossy(model, tp=tp, dropped=(0, 1), bias_corrections=network.bias_corrections):
        corrected = nats(model, windows)
    assert abs(corrected - plain) > 1e-4 * plain
    assert evaluate(network, windows, dropped=(0, 1)).nats == pytest.approx(corrected, rel=1e-5)


@pytest.mark.parametrize("tp", [2, 4, 8])
@pytest.mark.parametrize("family", VARIANTS)
def test_moving_heads_and_neurons_leaves_the_undropped_model_as_it_is(models, family, tp):
    # Fused experts compute in float32 at most.
    experts = family in ("mixtral", "qwen3_moe")
    dtype, allowed = (torch.float32, 1e-5) if experts else (torch.float64, 1e-10)
    model = copy.deepcopy(unsharded(models[family])).to(dtype)
    windows, generator = draw(2), torch.Generator().manual_seed(tp)
    with torch.no_grad():
        want = model(windows.ids).logits
    units = HeadUnits.of(model.config, tp)
    rank = units.now.clone()
    for one, two in itertools.combinations(range(len(rank)), 2):
        if units.allowed[one, rank[two]] and units.allowed[two, rank[one]]:
            rank[[one, two]] = rank[[two, one]]
    order = units.order(rank)
    neurons = torch.randperm(96, generator=generator)
    for layer in decoder_of(model).layers:
        before = layer.self_attn.state_dict()
        permute_heads(layer, order)
        if units.free:
            after = layer.self_attn.state_dict()
            assert any(not torch.equal(before[name], after[name]) for name in before)
        if not experts:
            permute_neurons(layer, neurons)
    with torch.no_grad():
        got = model(windows.ids).logits
    assert (got - want).abs().max() < allowed * want.abs().max()


def test_grouped_query_heads_move_as_whole_groups_and_shared_ones_stay_with_their_kv_head():
    class Config:
        num_attention_heads, num_key_value_heads = 8, 4

    whole = HeadUnits.of(Config, 2)
    order = whole.order(torch.tensor([1, 0, 1, 0]))
    assert order.key.tolist() == [1, 3, 0, 2]
    assert order.query.tolist() == [2, 3, 6, 7, 0, 1, 4, 5]
    shared = HeadUnits.of(Config, 8)
    groups_of_ranks = torch.arange(8) // 2
    for head, ranks in enumerate(shared.allowed):
        assert set(groups_of_ranks[ranks].tolist()) == {head // 2}
    assert shared.order(shared.now.flip(0).roll(0)).key.tolist() == [0, 1, 2, 3]
    assert not HeadUnits.of(type("Config", (), {"num_attention_heads": 8}), 1).free


@pytest.mark.parametrize("family", ["llama", "opt", "qwen3", "phi3"])
def test_grouping_lowers_the_error_on_the_tokens_it_was_chosen_on(models, family):
    network, windows = load_network(models[family], 4), draw(8, seed=5)
    stream = network.enter(windows)
    block = network.block(0)
    sample = take_sample(block, [stream], 0, 8 * 21, seed=0)
    units = HeadUnits.of(network.config, 4)
    rank = group_heads(block, sample, units, centred=False)
    counts = torch.bincount(rank, minlength=4)
    assert counts.tolist() == [units.share] * 4
    order = group_neurons(block, sample)
    assert sorted(order.tolist()) == list(range(96))
    moved = Block(layer=copy.deepcopy(block.layer), config=network.config, tp=4)
    permute_neurons(moved.layer, order)
    assert lost(moved, stream) < 0.99 * lost(block, stream)


@pytest.mark.parametrize(("neurons", "ranks"), [(6, 2), (6, 3), (64, 4), (120, 8)])
def test_neurons_are_assigned_at_the_least_cost_there_is(neurons, ranks):
    from scipy.optimize import linear_sum_assignment

    for seed in range(3):
        costs = torch.rand(neurons, ranks, generator=torch.Generator().manual_seed(seed)) - 0.5
        places = costs.repeat_interleave(neurons // ranks, 1).numpy()
        found = _transport(costs)
        assert found.sum(0).tolist() == [neurons // ranks] * ranks
        least = places[linear_sum_assignment(places)].sum()
        assert float((found * costs).sum()) == pytest.approx(float(least), abs=1e-5)


def test_heads_that_one_rank_needs_together_are_found():
    """Rank 0 suffers from the loss of units 0 and 3 only, rank 1 from that of 1 and 2."""
    needs = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    rows = torch.diag(needs.flatten())
    gram = (rows @ rows.T).reshape(4, 2, 4, 2).double().numpy()
    units = HeadUnits.of(type("Config", (), {"num_attention_heads": 4}), 2)
    found = _swapped(gram, units.now.numpy(), units.allowed.numpy())
    assert found.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_bias_correction_is_the_mean_of_the_attention_that_a_rank_does_not_see(models, family):
    network, windows = load_network(models[family], 4), draw(6)
    stream = network.enter(windows)
    block = network.block(0)
    with torch.no_grad():
        parts = torch.stack(block.attention(stream.hidden, stream.calls[0]))
    want = (parts.sum(0) - parts).mean((1, 2))
    sample = take_sample(block, [stream], 0, 16, seed=0)
    assert torch.allclose(mean_correction(block, sample.mean), want, atol=1e-5)
    assert sample.x.shape == (16, network.config.hidden_size)


def test_weights_that_are_not_finite_and_unsuitable_ranks_are_one_line(tmp_path):
    folder = save_random_model(write_config(tmp_path / "llama", "llama"))
    with pytest.raises(InputError, match="tp: 3 does not suit llama: it does not divide"):
        load_network(folder, 3)
    network = load_network(folder, 2)
    network.model.lm_head.weight.data *= 1e38
    with pytest.raises(InputError, match="llama: the loss is not finite"):
        evaluate(network, draw(1))
    model = unsharded(folder)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[3, 5] = float("nan")
    model.save_pretrained(folder)
    with pytest.raises(InputError, match=r"mlp\.down_proj\.weight has values that are not"):
        load_network(folder, 2)
