"""Machines nobody measured: what they inherit, how it scales, and that they say so."""

import re

import pytest
import yaml

from isotune import hw_profiles
from isotune.simulator.errors import InputError
from isotune.simulator.machine import profile as profile_module
from isotune.simulator.machine import read_profile, template
from isotune.simulator.machine.write import profile_text

LIBRARY = (
    *("a100", "a100-lbw", "a100-pcie", "a800", "a800-pcie", "h100", "h100-pcie", "h800", "h20"),
    *("h200", "b200", "l40s", "l20", "l4", "a40", "a10", "rtx3090", "rtx4090", "rtx4090-p2p"),
    *("rtx5090", "rtxpro6000", "mi300x"),
)
MEASURED = ["a100", "a800", "h100", "h200", "b200", "l40s", "rtx4090", "rtxpro6000"]

OWN = {
    "name": "mine",
    "description": "half an A100",
    "gpu": {
        "sms": 54,
        "bf16": "156 TFLOP/s",
        "memory": "40 GB",
        "memory_bandwidth": "1000 GB/s",
        "l2": "20 MB",
    },
    "node": {"gpus": 4, "link": "nvlink", "link_bandwidth": "150 GB/s", "peer_to_peer": True},
    "derived_from": "a100",
    "sources": {"gpu": "made up", "node": "made up"},
}


def profile(tmp_path, **changes):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in (OWN | changes).items() if v is not None}))
    return read_profile(str(path))


@pytest.mark.parametrize("name", LIBRARY)
def test_every_machine_of_the_library_loads_and_is_named_like_its_file(name):
    assert read_profile(name).name == name
    assert name in hw_profiles.names()


@pytest.mark.parametrize("name", LIBRARY)
def test_a_machine_is_measured_or_says_on_screen_that_it_is_not(name):
    machine = read_profile(name)
    if name in MEASURED:
        assert machine.derived_from is None
        assert machine.cautions() == ()
        assert {"gemm", "attention", "all_reduce"} <= set(machine.calibration.errors)
    else:
        assert machine.derived_from in MEASURED
        assert machine.derived_error_factor > 1
        assert any("not measured" in text for text in machine.cautions())


def test_efficiencies_are_inherited_and_say_from_whom(tmp_path):
    mine, a100 = profile(tmp_path), read_profile("a100")
    assert mine.attention == a100.attention
    assert mine.gemm.tensor_efficiency == a100.gemm.tensor_efficiency
    assert mine.source_of("attention").startswith("inherited from a100, not measured here - ")
    assert mine.calibration == a100.calibration
    assert mine.derived_error_factor == 2


def test_what_is_absolute_scales_with_sms_and_link(tmp_path):
    mine, a100 = profile(tmp_path), read_profile("a100")
    assert mine.gemm.l2_bandwidth == pytest.approx(a100.gemm.l2_bandwidth / 2, rel=0.01)
    for own, other in zip(
        mine.collectives.algorithms["nccl"].protocols,
        a100.collectives.algorithms["nccl"].protocols,
        strict=True,
    ):
        assert own.bandwidth == pytest.approx(other.bandwidth / 2, rel=0.01)
        assert own.latency == other.latency
    assert "the links' ratio" in mine.source_of("collectives")


def test_collectives_may_come_from_a_machine_with_a_link_of_that_kind(tmp_path):
    node = {"gpus": 8, "link": "pcie", "link_bandwidth": "31.5 GB/s", "peer_to_peer": True}
    mine = profile(tmp_path, node=node, collectives_from="l40s")
    assert mine.collectives == read_profile("l40s").collectives
    assert "collectives of l40s" in mine.cautions()[0]


def test_a_section_of_its_own_is_kept(tmp_path):
    own = read_profile("a800").model_dump(mode="json")["elementwise"]
    sources = OWN["sources"] | {"elementwise": "measured by me"}
    mine = profile(tmp_path, elementwise=own, sources=sources)
    assert mine.elementwise == read_profile("a800").elementwise
    assert mine.source_of("elementwise.launch") == "measured by me"


def test_a_relative_may_lie_beside_the_file(tmp_path):
    (tmp_path / "base.yaml").write_text(profile_text(read_profile("a800"), "A copy."))
    assert (
        profile(tmp_path, derived_from="base.yaml").gemm.launch == read_profile("a800").gemm.launch
    )


def test_a_derived_profile_written_and_read_again_is_the_same(tmp_path):
    mine = profile(tmp_path)
    (tmp_path / "again.yaml").write_text(profile_text(mine, "Again."))
    assert read_profile(str(tmp_path / "again.yaml")) == mine
    written = yaml.safe_load((tmp_path / "again.yaml").read_text())
    assert {"gemm", "attention", "collectives", "runtime"}.isdisjoint(written)


ONE_SHOT = {
    "protocols": [
        {
            "name": "one_shot",
            "pattern": "one_shot",
            "latency": "5 us",
            "latency_per_rank": "0 s",
            "bandwidth": "100 GB/s",
            "bandwidth_many": "100 GB/s",
        }
    ],
    "sms": 36,
    "sm_bandwidth": "25 GB/s",
    "traffic": 3.0,
    "error": 0.05,
}


def with_an_algorithm(tmp_path):
    key = "collectives.algorithms.mine"
    return profile(
        tmp_path,
        collectives={"algorithms": {"mine": ONE_SHOT}},
        sources=OWN["sources"] | {key: "measured by me"},
    )


def test_algorithms_measured_here_stand_beside_the_inherited_ones(tmp_path):
    mine, plain = with_an_algorithm(tmp_path), profile(tmp_path)
    algorithms = dict(mine.collectives.algorithms)
    own = algorithms.pop("mine")
    assert algorithms == plain.collectives.algorithms
    assert own.protocols[0].bandwidth == 100e9
    assert mine.own_algorithms() == ("mine",)
    assert mine.source_of("collectives.algorithms.mine.sms") == "measured by me"
    assert mine.cautions() == plain.cautions()
    assert mine.class_errors() == plain.class_errors()


def test_an_algorithm_measured_here_is_written_and_the_inherited_ones_are_not(tmp_path):
    mine = with_an_algorithm(tmp_path)
    (tmp_path / "again.yaml").write_text(profile_text(mine, "Again."))
    written = yaml.safe_load((tmp_path / "again.yaml").read_text())
    assert set(written["collectives"]["algorithms"]) == {"mine"}
    assert read_profile(str(tmp_path / "again.yaml")) == mine


@pytest.mark.parametrize("name", LIBRARY)
def test_every_machine_names_its_compute_architecture(name):
    assert read_profile(name).gpu.architecture


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"derived_from": "a1000"}, "derived_from: hardware 'a1000'.*did you mean a100"),
        ({"derived_from": "h800"}, "derived_from: h800 is itself derived from h100"),
        ({"derived_from": 7}, "derived_from: expected the name of a profile"),
        ({"derived_from": None}, "Field required"),
        ({"derived_from": None, "collectives_from": "l40s"}, "needs derived_from beside it"),
        ({"derived_error_factor": 0.5}, "derived_error_factor: .*greater than or equal to 1"),
        ({"node": OWN["node"] | {"link_bandwidth": "fast"}}, r"node\.link_bandwidth: 'fast' is no"),
        ({"gpu": OWN["gpu"] | {"sms": "many"}}, r"gpu\.sms"),
    ],
)
def test_a_wrong_inheritance_is_one_line(tmp_path, changes, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        profile(tmp_path, **changes)
    assert "\n" not in str(caught.value)


def test_the_template_loads_as_it_is(tmp_path):
    path = tmp_path / "new.yaml"
    path.write_text(template("new", read_profile("h100")))
    new, h100 = read_profile(str(path)), read_profile("h100")
    assert (new.gpu, new.node, new.gemm) == (h100.gpu, h100.node, h100.gemm)
    assert new.cautions()
    fields = r"(?m)^# (inter_node:|  (?:nodes|link_bandwidth|latency):)"
    joined = re.sub(fields, r"\1", path.read_text())
    path.write_text(joined.replace("sources:\n", "sources:\n  inter_node: assumed\n"))
    assert read_profile(str(path)).max_ranks == 16


@pytest.mark.parametrize("name", ["h20", "h800", "a100-pcie"])
def test_a_template_from_a_derived_machine_has_its_specification_and_its_relatives(tmp_path, name):
    base, path = read_profile(name), tmp_path / "new.yaml"
    path.write_text(template("new", base))
    new = read_profile(str(path))
    assert (new.gpu, new.node) == (base.gpu, base.node)
    assert (new.derived_from, new.collectives_from) == (base.derived_from, base.collectives_from)
    assert (new.gemm, new.collectives) == (base.gemm, base.collectives)


def test_a_template_needs_a_name_that_is_one():
    with pytest.raises(InputError, match="name"):
        template("two words", read_profile("h100"))


def test_a_file_of_the_working_folder_is_no_relative_of_a_bundled_machine(tmp_path, monkeypatch):
    (tmp_path / "h100").write_text("name: other\n")
    monkeypatch.chdir(tmp_path)
    profile_module._bundled.cache_clear()
    assert read_profile("h800").gemm == read_profile("h100.yaml").gemm
