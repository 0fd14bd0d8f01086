"""What holds of every kind of collective that has a cost; a new kind is tested by being listed."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from isotune.simulator.architecture import Collective, CollectiveKind
from isotune.simulator.kernels import KINDS, InterNode, Network, collective_cost
from isotune.simulator.machine import read_profile
from isotune.validation.check import check_table
from isotune.validation.choices import COLLECTIVES
from isotune.validation.tables import read_table

MACHINES = ("a800", "h100", "b200", "rtx4090", "mi300x")
SIZES = np.geomspace(1, 2**32, 60).round()


def cost(kind, machine, ranks=8, sizes=SIZES, **options):
    parameters = read_profile(machine).collectives
    return collective_cost(kind, sizes, ranks, parameters=parameters, **options)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_a_larger_message_never_takes_less_time(self, kind, machine):
        seconds = cost(kind, machine).seconds
        assert np.all(seconds > 0)
        assert np.all(np.diff(seconds) >= 0)

    def test_one_rank_sends_nothing_and_pays_nothing(self, kind, machine):
        alone = cost(kind, machine, ranks=1)
        assert not np.any(alone.seconds)
        assert not np.any(alone.sms)
        assert not np.any(alone.mem_bytes)

    def test_an_array_costs_what_its_elements_cost(self, kind, machine):
        one_by_one = [float(cost(kind, machine, sizes=size).seconds) for size in SIZES]
        assert cost(kind, machine).seconds.tolist() == one_by_one

    def test_a_large_one_costs_at_most_an_all_reduce_of_its_message(self, kind, machine):
        large = SIZES[SIZES > 2**22]
        one, other = (cost(name, machine, sizes=large).seconds for name in (kind, "all_reduce"))
        assert np.all(one <= other)

    def test_two_nodes_cost_more_than_one(self, kind, machine):
        network = Network(8, InterNode(nodes=2, link_bandwidth=50e9, latency=5e-6))
        across = cost(kind, machine, ranks=16, network=network).seconds
        assert np.all(across > cost(kind, machine).seconds)


def test_every_kind_that_is_measured_has_a_cost():
    assert set(COLLECTIVES) <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_measured_rows_of_a_kind_are_checked_against_the_model(tmp_path, kind):
    table = tmp_path / "rows.csv"
    table.write_text(f"op,bytes,ranks,latency_us\n{kind},67108864,8,400\n{kind},134217728,8,800\n")
    (part,) = check_table(read_table(table), read_profile("a800")).ops
    assert (part.name, part.score.rows) == (kind, 2)


@pytest.mark.parametrize("kind", sorted(set(get_args(CollectiveKind)) - set(KINDS)))
def test_a_kind_without_a_cost_is_refused_by_name(kind):
    with pytest.raises(TypeError, match=kind):
        cost(kind, "a800")


def test_a_derived_kind_says_so_beside_its_figures_source(make_scenario):
    scenario = make_scenario("llama-2-70b", "a800", tp=8)
    sync = Collective(name="sync", sublayer="mlp", elements=1)
    for kind in KINDS:
        section = scenario.section_of(replace(sync, kind=kind))
        assert section.startswith("collectives")
        source = scenario.source_of(section)
        assert source.endswith(scenario.hardware.source_of("collectives"))
        assert ("derived" in source) == (kind != "all_reduce")


def test_a_measured_kind_names_its_own_lines(make_scenario):
    scenario = make_scenario("llama-2-70b", "h100", tp=8)
    sync = Collective(name="sync", sublayer="mlp", elements=1, kind="all_to_all")
    section = scenario.section_of(sync)
    assert section == "collectives.algorithms.nccl.kinds.all_to_all"
    assert "rows held back" in scenario.source_of(section)
    assert "derived" not in scenario.source_of(section)


def test_only_algorithms_that_a_kind_was_measured_with_carry_it():
    parameters = read_profile("h100").collectives
    chained = parameters.model_copy(update={"default": "one_shot_two_shot"})
    small = {"message_bytes": 2.0**14, "ranks": 8}
    for kind in ("all_gather", "all_to_all"):
        by_default = collective_cost(kind, **small, parameters=chained)
        by_name = collective_cost(kind, **small, parameters=chained, algorithm="nccl")
        assert by_default == by_name
        assert chained.measured(kind) == "nccl"


def test_a_derived_machine_scales_the_lines_of_every_kind():
    own, relative = read_profile("h800"), read_profile("h100")
    ratio = own.node.link_bandwidth / relative.node.link_bandwidth
    assert ratio < 1
    for kind, lines in own.collectives.algorithms["nccl"].kinds.items():
        measured = relative.collectives.algorithms["nccl"].kinds[kind]
        for line, of_relative in zip(lines, measured, strict=True):
            assert line.bandwidth == pytest.approx(ratio * of_relative.bandwidth, rel=0.01)


def test_a_collective_is_an_all_reduce_unless_it_says_otherwise():
    assert Collective(name="sync", sublayer="mlp", elements=1).kind == "all_reduce"
