import pytest

from isotune.simulator.errors import InputError
from isotune.simulator.io import checked
from isotune.simulator.kernels import Gpu
from isotune.simulator.number_types import (
    QUANTS,
    SCHEMES,
    TYPES,
    NumberType,
    Scheme,
    bytes_of,
    number_type,
    scheme,
)
from isotune.simulator.schedule import Workload

every_type = pytest.mark.parametrize("entry", TYPES, ids=lambda entry: entry.name)


@every_type
def test_a_type_is_found_by_its_name_and_by_every_alias(entry: NumberType):
    assert [number_type(name) for name in (entry.name, *entry.aliases)] == [entry] * (
        1 + len(entry.aliases)
    )


@every_type
def test_a_type_is_multiplied_at_a_rate_that_a_gpu_states(entry: NumberType):
    assert entry.tensor_rate is None or entry.tensor_rate in Gpu.model_fields


@every_type
def test_activations_travel_in_a_type_that_travels_as_itself(entry: NumberType):
    if entry.travels_as is not None:
        assert number_type(entry.travels_as).travels_as == entry.travels_as


def test_names_mean_one_type_each():
    every = [name for entry in TYPES for name in (entry.name, *entry.aliases)]
    assert len(every) == len(set(every))


def test_an_unknown_type_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"unknown type 'fp6' .*bf16"):
        bytes_of("fp6")


def test_a_workload_takes_aliases_and_keeps_the_name():
    assert Workload(dtype="bfloat16", weight_dtype="float16").dtype == "bf16"


def test_quantised_activations_need_weights_of_their_type_and_travel_wider():
    both = Workload(dtype="fp8", weight_dtype="fp8")
    assert (both.travel_dtype, both.width) == ("bf16", 2.0)
    with pytest.raises(InputError, match="products of fp8 activations need fp8 weights, not bf16"):
        checked(Workload, {"dtype": "fp8"}, "workload")


@pytest.mark.parametrize(
    ("name", "bits"),
    [("fp8", 8), ("int4", 4 + 16 / 128), ("nvfp4", 4 + 8 / 16), ("mxfp4", 4 + 8 / 32)],
)
def test_an_element_takes_its_bits_and_its_part_of_a_scale(name: str, bits: float):
    assert 8 * bytes_of(name) == bits


@pytest.mark.parametrize("entry", SCHEMES, ids=lambda entry: entry.name)
def test_a_way_to_quantise_makes_a_workload(entry: Scheme):
    work = Workload(dtype=entry.dtype, weight_dtype=entry.weight_dtype)
    assert (work.travel_dtype, work.width) == ("bf16", 2.0)
    assert [scheme(name) for name in (entry.name, *entry.aliases)] == [entry] * (
        1 + len(entry.aliases)
    )


def test_ways_to_quantise_differ_in_their_operands():
    assert len({(entry.dtype, entry.weight_dtype) for entry in SCHEMES}) == len(QUANTS)


def test_an_unknown_way_to_quantise_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"unknown quantisation 'w3a16' \(known: bf16, fp8"):
        scheme("w3a16")


@pytest.mark.parametrize(("field", "name"), [("dtype", "int4"), ("weight_dtype", "fp32")])
def test_a_type_without_that_use_is_refused_with_the_allowed_ones(field: str, name: str):
    with pytest.raises(InputError, match=rf"{field}: Input should be 'bf16'.*\(got '{name}'\)"):
        checked(Workload, {field: name}, "workload")
