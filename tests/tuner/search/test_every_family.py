"""The main job answers for every family of models, whatever its blocks are made of."""

import json
from pathlib import Path

import pytest
from _support.families import FAMILIES, WITHOUT_TRANSFORMERS, tiny

from isotune.simulator.architecture import Model, read_model
from isotune.simulator.errors import InputError
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import STRATEGIES, Plan, Workload
from isotune.tuner.search import Options, search


def model_of(family: str, folder: Path) -> Model:
    file = folder / "config.json"
    file.write_text(json.dumps(tiny(family)))
    return read_model(file)


@pytest.mark.parametrize("family", sorted(FAMILIES | WITHOUT_TRANSFORMERS))
def test_a_search_finds_a_plan(family: str, tmp_path: Path) -> None:
    scenario = Scenario(
        model=model_of(family, tmp_path),
        hardware=read_profile("h100"),
        workload=Workload(prompt=512, tp=2),
    )
    found = search(scenario, Options(trials=4, max_chunks=2))
    assert 0.0 < found.best.latency_s <= found.baseline.latency_s
    shown = {technique.name for technique in found.techniques}
    droppable = scenario.model.droppable(2)
    assert any(name.startswith("SPD") for name in shown) is bool(droppable)


@pytest.mark.parametrize("name", [how.name for how in STRATEGIES.values() if how.takes_one_of_two])
@pytest.mark.parametrize("family", ["cohere", "gpt_neox", "nemotron_h"])
def test_what_takes_one_of_two_collectives_away_refuses_blocks_of_one(
    family: str, name: str, tmp_path: Path
) -> None:
    scenario = Scenario(
        model=model_of(family, tmp_path),
        hardware=read_profile("h100"),
        workload=Workload(prompt=512, tp=2),
    )
    with pytest.raises(InputError, match="takes one of two all-reduces of each block away"):
        predict(scenario, Plan(strategy=name))
