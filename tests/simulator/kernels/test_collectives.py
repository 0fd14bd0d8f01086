"""What an all-reduce costs, as a user may rely on it."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotune.simulator.errors import InputError
from isotune.simulator.io.units import FROM_FILE
from isotune.simulator.kernels import CollectiveParameters, collective_cost, quantised_all_reduce
from isotune.simulator.kernels.collectives import Algorithm, Protocol

all_reduce = partial(collective_cost, "all_reduce")

MIB = 2.0**20
SIZES = st.floats(min_value=1, max_value=2**31)
RANKS = st.integers(min_value=2, max_value=16)


def protocol(name: str = "Simple", **changes: Any) -> Protocol:
    line: dict[str, Any] = {
        "latency": 40e-6, "latency_per_rank": 5e-6, "bandwidth": 200e9, "bandwidth_many": 230e9,
    }  # fmt: skip
    return Protocol(name=name, **line | changes)


LL = protocol("LL", latency=10e-6, latency_per_rank=2e-6, bandwidth=10e9, bandwidth_many=12e9)
ONE_SHOT = protocol("one_shot", pattern="one_shot", latency=5e-6, latency_per_rank=1e-7)
TWO_SHOT = protocol("two_shot", latency=8e-6, latency_per_rank=1e-6)
NVLS = protocol("NVLS", pattern="switch", latency=15e-6, bandwidth=300e9, bandwidth_many=300e9)


def algorithm(*protocols: Protocol, **changes: Any) -> Algorithm:
    held: dict[str, Any] = {"sms": 24, "sm_bandwidth": 20e9, "traffic": 5.0}
    return Algorithm(protocols=protocols, **held | changes)


def machine(**algorithms: Algorithm) -> CollectiveParameters:
    return CollectiveParameters(default=next(iter(algorithms)), algorithms=algorithms)


NODE = machine(
    nccl=algorithm(LL, protocol(), interference=1.2),
    one_shot_two_shot=algorithm(
        *(p.model_copy(update={"largest": 8 * MIB}) for p in (ONE_SHOT, TWO_SHOT)),
        sms=36, traffic=3.0, beyond="nccl",
    ),
    multimem=algorithm(NVLS, sms=8, sm_bandwidth=150e9, traffic=2.0, beyond="nccl"),
)  # fmt: skip
NAMES = st.sampled_from(sorted(NODE.algorithms))


def seconds(size: float, ranks: int = 8, **arguments: Any) -> float:
    return float(all_reduce(size, ranks, parameters=NODE, **arguments).seconds)


@given(SIZES, SIZES, RANKS, NAMES)
def test_a_larger_message_never_takes_less_time(
    one: float, other: float, ranks: int, name: str
) -> None:
    small, large = sorted((one, other))
    assert seconds(small, ranks, algorithm=name) <= seconds(large, ranks, algorithm=name)


@given(SIZES, RANKS, st.sampled_from(["nccl", "one_shot_two_shot"]))
def test_one_more_rank_is_never_faster(size: float, ranks: int, name: str) -> None:
    assert seconds(size, ranks, algorithm=name) <= seconds(size, ranks + 1, algorithm=name)


def test_a_switch_sends_less_per_rank_the_more_ranks_share_it() -> None:
    times = [seconds(256 * MIB, n, algorithm="multimem") for n in (2, 4, 8)]
    assert times == sorted(times, reverse=True)


@given(SIZES, RANKS, st.floats(min_value=1, max_value=4))
def test_more_bandwidth_is_never_slower(size: float, ranks: int, factor: float) -> None:
    wider = protocol(bandwidth=200e9 * factor, bandwidth_many=230e9 * factor)
    now, then = machine(x=algorithm(protocol())), machine(x=algorithm(wider))
    before = all_reduce(size, ranks, parameters=now).seconds
    assert all_reduce(size, ranks, parameters=then).seconds <= before


@given(SIZES, RANKS, NAMES, st.integers(min_value=1, max_value=40))
def test_fewer_sms_are_never_faster_and_never_exceeded(
    size: float, ranks: int, name: str, sms: int
) -> None:
    fewer = all_reduce(size, ranks, parameters=NODE, algorithm=name, sms=sms)
    more = all_reduce(size, ranks, parameters=NODE, algorithm=name, sms=sms + 1)
    assert fewer.seconds >= more.seconds
    assert fewer.sms <= sms


def test_the_busbw_of_a_small_sm_budget_is_what_its_sms_move() -> None:
    size = 2.0**40
    busbw = 2 * 7 / 8 * size / seconds(size, sms=2)
    assert busbw == pytest.approx(2 * 20e9, rel=1e-3)


def test_the_busbw_of_a_large_ring_message_lies_between_its_two_bandwidths() -> None:
    size = 2.0**40
    assert size / seconds(size, 2) == pytest.approx(200e9, rel=1e-3)
    assert 200e9 < 2 * 7 / 8 * size / seconds(size, 8) < 230e9


@given(SIZES, st.sampled_from(["nccl", "one_shot_two_shot"]))
def test_a_rank_count_between_two_measured_ones_costs_something_between(
    size: float, name: str
) -> None:
    two, three, four = (seconds(size, n, algorithm=name) for n in (2, 3, 4))
    assert two <= three <= four


def test_two_rank_counts_fix_the_time_of_every_other() -> None:
    size = 2.0**40
    two, four, eight = (seconds(size, n) for n in (2, 4, 8))
    # linear in f = 2(n-1)/n, which is 1, 1.5 and 1.75
    assert four == pytest.approx(two + (eight - two) * (1.5 - 1) / (1.75 - 1), rel=1e-4)


def test_halving_a_small_message_does_not_halve_its_time() -> None:
    assert seconds(MIB / 64) > 0.9 * seconds(MIB / 32)
    assert seconds(512 * MIB) == pytest.approx(seconds(1024 * MIB) / 2, rel=0.05)


def test_one_shot_wins_on_small_messages_and_two_shot_on_large_ones() -> None:
    one_shot, two_shot = machine(x=algorithm(ONE_SHOT)), machine(x=algorithm(TWO_SHOT))
    size = np.array([4096.0, 4 * MIB])
    faster = (
        all_reduce(size, 8, parameters=one_shot).seconds
        < all_reduce(size, 8, parameters=two_shot).seconds
    )
    assert faster.tolist() == [True, False]


def test_messages_beyond_an_algorithm_travel_as_its_successor_would() -> None:
    custom = collective_cost(
        "all_reduce", [4 * MIB, 64 * MIB], 8, parameters=NODE, algorithm="one_shot_two_shot"
    )
    assert custom.sms.tolist() == [36, 24]
    assert custom.interference.tolist() == [1.0, 1.2]
    assert custom.seconds[1] == seconds(64 * MIB, algorithm="nccl")
    assert custom.mem_bytes.tolist() == [3 * 4 * MIB, 5 * 64 * MIB]


@pytest.mark.parametrize(("size", "ranks"), [(0, 8), (MIB, 1)])
def test_nothing_to_send_costs_nothing(size: float, ranks: int) -> None:
    cost = all_reduce(size, ranks, parameters=NODE)
    assert [float(field) for field in cost] == [0, 0, 0, 1]


def test_an_array_costs_what_its_elements_cost() -> None:
    sizes = np.array([[0.0, 1e3, 1e5], [1e6, 1e7, 1e9]])
    cost = all_reduce(sizes, 4, parameters=NODE, algorithm="one_shot_two_shot")
    for index, size in np.ndenumerate(sizes):
        one = all_reduce(size, 4, parameters=NODE, algorithm="one_shot_two_shot")
        assert all(whole[index] == part for whole, part in zip(cost, one, strict=True))


def free(bytes_: Any) -> Any:
    return 0.0 * bytes_


def at_2_tb_per_second(bytes_: Any) -> Any:
    return bytes_ / 2e12


@given(st.floats(min_value=1, max_value=1e9), RANKS, st.sampled_from(["nccl", "multimem"]))
def test_an_int8_transfer_is_at_most_twice_as_fast(elements: float, ranks: int, name: str) -> None:
    plain = seconds(2 * elements, ranks, algorithm=name)
    quantised = quantised_all_reduce(
        elements, ranks, parameters=NODE, memory_pass=free, algorithm=name
    )
    assert quantised.seconds >= plain / 2


def test_quantising_pays_for_its_passes_and_their_traffic() -> None:
    elements = 32e6
    cost = {
        name: quantised_all_reduce(elements, 8, parameters=NODE, memory_pass=memory_pass)
        for name, memory_pass in {"free": free, "real": at_2_tb_per_second}.items()
    }
    passes = float(cost["real"].seconds - cost["free"].seconds)
    # bf16 in and out, int8 out and in, and the own shards read and written once
    moved = elements * (2 * 3 + 1 + 1 / 8)
    assert passes == pytest.approx(moved / 2e12, rel=0.02)
    assert cost["free"].mem_bytes == cost["real"].mem_bytes > moved


def test_a_switch_does_not_add_up_quantised_data() -> None:
    for protocols in [(NVLS,), (NVLS, protocol(largest=1024.0))]:
        with pytest.raises(InputError, match="no int8"):
            collective_cost(
                "all_reduce", MIB, 8, parameters=machine(x=algorithm(*protocols)), dtype="int8"
            )
    int8 = collective_cost(
        "all_reduce", MIB, 8, parameters=NODE, algorithm="multimem", dtype="int8"
    )
    assert int8.seconds == seconds(MIB, algorithm="nccl")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ranks": 0}, "ranks is 0"),
        ({"sms": 0}, "sms is 0"),
        ({"message_bytes": -1.0}, "-1 bytes"),
        ({"algorithm": "gloo"}, "nccl, one_shot_two_shot, multimem"),
    ],
)
def test_impossible_requests_are_refused(arguments: dict[str, Any], message: str) -> None:
    request: dict[str, Any] = {"message_bytes": MIB, "ranks": 8, "parameters": NODE}
    with pytest.raises(InputError, match=message):
        all_reduce(**request | arguments)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: machine(x=algorithm(protocol(largest=MIB))), "no large message"),
        (lambda: machine(x=algorithm(protocol(), beyond="y")), "unknown algorithm 'y'"),
        (lambda: protocol(bandwidth_many=500e9), "at most twice"),
    ],
)
def test_a_machine_that_cannot_send_everything_is_refused(build: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


def test_parameters_survive_their_own_file_format() -> None:
    text = NODE.model_dump(mode="json")
    assert text["algorithms"]["nccl"]["protocols"][1]["bandwidth"] == "200 GB/s"
    assert CollectiveParameters.model_validate(text, context=FROM_FILE) == NODE
