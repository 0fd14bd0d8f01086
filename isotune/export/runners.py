"""Which serving engines run a plan as it is, by what their exports take over."""

from dataclasses import dataclass

from isotune.export.engines import sglang, trtllm, vllm
from isotune.export.source import SERIAL, Source
from isotune.export.tokenweave import tokenweave
from isotune.simulator.engines import Engine, engine_named
from isotune.simulator.errors import InputError
from isotune.simulator.files import PlanFile
from isotune.simulator.predict import Prediction
from isotune.simulator.schedule import STRATEGIES, Strategy

ENGINE_TARGETS = {"tokenweave": tokenweave, "vllm": vllm, "sglang": sglang, "trtllm": trtllm}
"""The engines that isotune exports to, by the names that they have in `simulator.engines`."""


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A serving engine, and whether it runs all of a plan; `why` says what it does not."""

    engine: str
    target: str
    runs: bool
    why: str


def runners(prediction: Prediction) -> tuple[Runner, ...]:
    """Every engine that isotune exports to; none for batches that engines form themselves."""
    scenario = prediction.scenario
    if scenario.workload.sequences:
        return ()
    file = PlanFile.of(prediction, scenario.hardware.name, scenario.model.name)
    source = Source(file, shape=scenario.model, machine=scenario.hardware)
    return tuple(_runner(name, source) for name in ENGINE_TARGETS)


def support() -> dict[str, dict[str, str]]:
    """Which engine runs which strategy, in words, by strategy and by engine."""
    engines = [engine_named(name) for name in ENGINE_TARGETS]
    return {how.label: {e.title: _support(e, how) for e in engines} for how in STRATEGIES.values()}


def _support(engine: Engine, how: Strategy) -> str:
    if how.name == SERIAL:
        return "no" if SERIAL in engine.refuses else "yes"
    run = next((run for run in engine.runs if run.strategy == how.name), None)
    if run is None or how.caveat:
        return "no"
    if run.dispatches:
        return "experts on other ranks"
    return ", ".join(run.architectures) or "yes"


def _runner(name: str, source: Source) -> Runner:
    title = engine_named(name).title
    try:
        done = ENGINE_TARGETS[name](source)
    except InputError as error:
        why = str(error).removeprefix("export: ")
        return Runner(engine=title, target=name, runs=False, why=why)
    why = "" if done.runs else done.lost[0]
    return Runner(engine=title, target=name, runs=done.runs, why=why)
