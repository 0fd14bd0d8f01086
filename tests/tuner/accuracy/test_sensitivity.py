"""What a drop set costs in accuracy, and which drop sets a budget allows."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotune.simulator.architecture import load_model
from isotune.simulator.errors import InputError
from isotune.simulator.predict import Scenario
from isotune.tuner.accuracy import DropCosts, assumed_drops, read_sensitivity

COSTS = st.lists(st.floats(-0.01, 0.05), min_size=1, max_size=7)


@given(COSTS, st.floats(0.0, 0.1))
def test_no_larger_drop_set_is_within_the_budget(costs: list[float], budget: float) -> None:
    drops = DropCosts(blocks=tuple(costs))
    largest = drops.affordable(budget)[-1]
    assert not largest or drops.of_drops(largest) <= budget
    larger = combinations(range(len(costs)), len(largest) + 1)
    assert all(drops.of_drops(drop_set) > budget - 1e-12 for drop_set in larger)


def test_blocks_are_ordered_from_the_least_to_the_most_sensitive() -> None:
    drops = DropCosts(blocks=(0.03, -0.01, 0.015, -0.01))
    assert drops.order == (1, 3, 2, 0)
    assert [len(drops.affordable(budget)[-1]) for budget in (0.0, 0.005, 0.04)] == [3, 3, 4]


def test_without_a_sensitivity_the_last_blocks_are_dropped() -> None:
    model = replace(load_model("llama-2-7b"), num_hidden_layers=10)
    assert assumed_drops(model, 8) == (3, 4, 5, 6, 7, 8, 9)


def write(folder: Path, **fields: Any) -> Path:
    path = folder / "sensitivity.json"
    table = {"model": "llama-2-7b", "blocks": [1e-5, 0.02, 0.001]} | fields
    path.write_text(json.dumps(table), encoding="utf-8")
    return path


def test_a_json_file_is_read(tmp_path: Path, make_scenario: Callable[..., Scenario]) -> None:
    path = write(tmp_path, transfer={"int8": 0.001})
    table = read_sensitivity(path, make_scenario(blocks=3).model)
    assert table.blocks == (1e-5, 0.02, 0.001)
    assert table.transfer == {"int8": 0.001}


def test_costs_at_one_tp_say_nothing_of_another(
    tmp_path: Path, make_scenario: Callable[..., Scenario]
) -> None:
    sizes = {"tokens": 9, "context": 3, "stride": 3, "windows": 3, "seed": 0, "dtype": "float32"}
    three = {"single": [2.0, 2.0, 2.0], "cumulative": [2.0, 2.0, 2.0]}
    told = {"tp": 4, "scan": "single", "perplexity": 2.0, "text": "", **sizes, **three}
    path, model = write(tmp_path, measured=told), make_scenario(blocks=3).model
    assert read_sensitivity(path, model, (4,)) == read_sensitivity(path, model)
    with pytest.raises(InputError, match=r"measured at tp 4, not at tp 8 \(allowed: tp 4, or"):
        read_sensitivity(path, model, (4, 8))
    assert read_sensitivity(write(tmp_path), model, (8,)).measured is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"blocks": [0.1, 0.2]}, "blocks: 2 sensitivities, but llama-2-7b has 3 blocks"),
        ({"blocks": []}, "blocks: Tuple should have at least 1 item"),
        ({"blocks": [0.1, "high", 0.2]}, "blocks.1: Input should be a valid number"),
        ({"blocks": [0.1, float("nan"), 0.2]}, "NaN is not a finite number"),
        ({"transfer": {"int2": 0.1}}, "transfer: unknown type 'int2' (allowed: fp8, int8)"),
        ({"model": ""}, "model: String should have at least 1 character"),
        ({"blokcs": []}, "blokcs: Extra inputs are not permitted"),
    ],
)
def test_a_bad_file_is_named_with_what_is_allowed(
    tmp_path: Path, make_scenario: Callable[..., Scenario], fields: dict[str, Any], message: str
) -> None:
    path = write(tmp_path, **fields)
    with pytest.raises(InputError) as caught:
        read_sensitivity(path, make_scenario(blocks=3).model)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
