"""Across nodes: reduce inside, between and inside again."""

from functools import partial

import numpy as np
import pytest

import isotune
from isotune import hw_profiles
from isotune.simulator.errors import InputError
from isotune.simulator.kernels import InterNode, Network, collective_cost
from isotune.simulator.machine import read_profile

all_reduce = partial(collective_cost, "all_reduce")

H100 = read_profile("h100")
LINK = InterNode(nodes=4, link_bandwidth=50e9, latency=10e-6, efficiency=0.8)
NETWORK = Network(8, LINK)
SIZES = np.array([1e4, 1e6, 1e8])


def cost(size, ranks, network=NETWORK, **options):
    return collective_cost(
        "all_reduce", size, ranks, parameters=H100.collectives, network=network, **options
    )


def test_inside_one_node_the_network_changes_nothing():
    assert np.array_equal(cost(SIZES, 8).seconds, cost(SIZES, 8, None).seconds)


def test_between_two_nodes_every_gpu_sends_its_shard_over_its_own_link():
    added = cost(SIZES, 16).seconds - cost(SIZES, 8).seconds
    ring = 2 * 10e-6 + SIZES / 8 / (50e9 * 0.8)  # 2 (n-1) / n = 1 for two nodes
    assert added == pytest.approx(ring)


def test_more_nodes_never_take_less_and_a_faster_network_never_more():
    two, four = cost(SIZES, 16), cost(SIZES, 32)
    assert (four.seconds > two.seconds).all()
    faster = Network(8, LINK.model_copy(update={"link_bandwidth": 100e9}))
    assert (cost(SIZES, 32, faster).seconds < four.seconds).all()
    assert (two.mem_bytes > cost(SIZES, 8).mem_bytes).all()


def test_nothing_is_paid_for_an_empty_message():
    assert cost(0, 16).seconds == 0


@pytest.fixture
def two_nodes(tmp_path):
    text = "inter_node:\n  nodes: 2\n  link_bandwidth: 50 GB/s\n  latency: 10 us\nsources:\n"
    bundled = hw_profiles.FOLDER / "h100.yaml"
    source = bundled.read_text().replace("\nsources:\n", f"\n{text}  inter_node: assumed\n")
    path = tmp_path / "two.yaml"
    path.write_text(source)
    return str(path)


def test_tp_16_on_two_nodes_is_predicted_and_marked(two_nodes):
    wide = isotune.predict(isotune.scenario("llama-3.1-405b", two_nodes, tp=16), isotune.Plan())
    node = isotune.predict(isotune.scenario("llama-2-70b", two_nodes, tp=8), isotune.Plan())
    assert wide.comm_s > 0
    hardware = wide.scenario.hardware
    assert any(
        "2 nodes: the network between them is not calibrated" in t for t in hardware.cautions(16)
    )
    assert node.scenario.hardware.cautions(8) == ()


@pytest.mark.parametrize(
    ("tp", "complaint"), [(12, "does not fill nodes of 8 GPUs"), (32, "has 16 GPUs, not 32")]
)
def test_part_of_a_node_and_more_than_all_nodes_are_refused(two_nodes, tp, complaint):
    with pytest.raises(InputError, match=complaint):
        isotune.scenario("llama-3.1-405b", two_nodes, tp=tp)
