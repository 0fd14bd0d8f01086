"""Which serving engines run a plan as it is, by what their exports take over."""

from dataclasses import dataclass

from isotune.export.engines import sglang, vllm
from isotune.export.source import Source
from isotune.export.tokenweave import tokenweave
from isotune.simulator.errors import InputError
from isotune.simulator.files import PlanFile
from isotune.simulator.predict import Prediction

_ENGINES = {"TokenWeave": tokenweave, "vLLM": vllm, "SGLang": sglang}


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A serving engine, and whether it runs all of a plan; `why` says what it does not."""

    engine: str
    runs: bool
    why: str


def runners(prediction: Prediction) -> tuple[Runner, ...]:
    """Every engine that isotune exports to; none for batches that engines form themselves."""
    scenario = prediction.scenario
    if scenario.workload.sequences:
        return ()
    file = PlanFile.of(prediction, scenario.hardware.name, scenario.model.name)
    source = Source(file, shape=scenario.model)
    return tuple(_runner(engine, source) for engine in _ENGINES)


def _runner(engine: str, source: Source) -> Runner:
    try:
        done = _ENGINES[engine](source)
    except InputError as error:
        return Runner(engine=engine, runs=False, why=str(error).removeprefix("export: "))
    return Runner(engine=engine, runs=done.runs, why="" if done.runs else done.lost[0])
