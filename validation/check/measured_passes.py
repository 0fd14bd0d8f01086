"""What the model says a whole measured pass should take on a machine."""

import re
from collections.abc import Mapping
from functools import lru_cache

from isotune.simulator.architecture import Model, bundled_models, load_model
from isotune.simulator.errors import InputError
from isotune.simulator.machine import HardwareProfile
from isotune.simulator.predict import Scenario, SimulatedRun
from isotune.simulator.schedule import STRATEGIES, Plan, Workload
from isotune.validation.check.measured_engines import (
    LADDER_STATES,
    Engine,
    EngineCostModel,
    engine_of,
)
from isotune.validation.tables import Run

LINKS = {
    "": None,
    "nvlink_multimem": "multimem",
    "nvlink_nccl": "nccl",
    "nvls_no_p2p": "nccl_no_p2p",
    "host_staged": "nccl_host_staged",
}
"""The all-reduce algorithm behind each `link` of a table; None is the profile's default."""

HELD_BACK_TP = 4
"""Rank count whose runs `experiments/fit_runtime.py` holds back; they measure a runtime's error."""

_TUNED_SMS = (4, 8)
"""SM budgets among which runs of two halves were tuned (TokenWeave)."""

_SUFFIXES = re.compile(r"(-(instruct|chat|hf|v0\.\d+|base))+$")


def run_seconds(
    run: Run, profile: HardwareProfile, states: Mapping[int, Engine] = LADDER_STATES
) -> float:
    """Predicted seconds of one step of a run; see `simulated_pass`."""
    return simulated_pass(run, profile, states).latency


def simulated_pass(
    run: Run, profile: HardwareProfile, states: Mapping[int, Engine] = LADDER_STATES
) -> SimulatedRun:
    """One step of a run, priced and timed; `states` as in `engine_of`.

    Raises:
        InputError: why it cannot be predicted: unknown model, strategy or link, or a `tp` that
            the model or the machine does not allow.
    """
    scenario = _scenario(run, profile)
    plan = _plan(run.strategy, scenario.workload)
    budgets = _TUNED_SMS if plan.chunks else (None,)
    engine = engine_of(run, states)
    cache = run.prompt_len + (run.generated or 1)
    tried: list[SimulatedRun] = []
    for budget in budgets:
        cost_model = EngineCostModel(scenario, comm_sms=budget, engine=engine, cache=cache)
        tried.append(SimulatedRun(plan, cost_model))
    return min(tried, key=lambda done: done.latency)


def _plan(name: str, workload: Workload) -> Plan:
    """The plan that a table means by a strategy's name: two halves where it splits prompts.

    Raises:
        InputError: no strategy of this name, or one whose split a table does not tell.
    """
    if name not in STRATEGIES:
        raise InputError(f"strategy {name!r:.40} is not known")
    how = STRATEGIES[name]
    if not how.by_length:
        raise InputError(f"strategy {name!r:.40}: a table does not say how it splits {how.splits}")
    half = workload.tokens // 2
    halves = (workload.tokens - half, half) if half else (workload.tokens,)
    return Plan(strategy=name, chunks=halves if how.chunked else ())


def _scenario(run: Run, profile: HardwareProfile) -> Scenario:
    """The run's scenario; decode steps are priced at their mean context."""
    if run.link not in LINKS:
        raise InputError(f"link {run.link!r:.40} is not known")
    grown = run.steps // 2 if run.phase == "decode" else 0
    workload = Workload(
        phase=run.phase,
        batch=run.batch,
        prompt=run.prompt_len + grown,
        tp=run.tp,
        runtime=run.launch,
    )
    hardware = _with_default(profile, LINKS[run.link])
    return Scenario(model=model_named(run.model), hardware=hardware, workload=workload)


def _with_default(profile: HardwareProfile, algorithm: str | None) -> HardwareProfile:
    if algorithm is None:
        return profile
    profile.collectives.chain(algorithm)
    collectives = profile.collectives.model_copy(update={"default": algorithm})
    return profile.model_copy(update={"collectives": collectives})


@lru_cache(maxsize=64)
def model_named(name: str) -> Model:
    """The bundled model that a table's name means.

    Instruction tuning, releases and vendors change no shapes: `Llama-3.3-70B-Instruct` is
    llama-3.1-70b.

    Raises:
        InputError: no bundled model has these shapes.
    """
    plain = _SUFFIXES.sub("", name.rsplit("/", 1)[-1].lower())
    family = re.fullmatch(r"(?:meta-)?llama-3(?:\.\d)?-(\d+b)", plain)
    candidates = [plain, f"llama-3.1-{family[1]}"] if family else [plain]
    for candidate in candidates:
        if candidate in bundled_models():
            return load_model(candidate)
    raise InputError(f"model {name!r:.60} is not bundled")
