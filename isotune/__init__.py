"""isotune: what overlapping (ISO) or dropping (SPD) all-reduces brings on your hardware.

    >>> import isotune
    >>> scenario = isotune.scenario("llama-2-70b", "a800", prompt=4096)
    >>> isotune.predict(scenario, isotune.Plan(strategy="iso", chunks=(2048, 2048))).saving

Times are in seconds, sizes in bytes unless a name says otherwise.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from isotune._version import __version__
from simulator.errors import DoesNotFitError, InputError, IsotuneError
from simulator.hardware import HardwareProfile, read_profile
from simulator.model import Model, load_model
from simulator.plan import Plan
from simulator.planfile import PlanFile, read_plan, scenario_of
from simulator.predict import Prediction, predict
from simulator.scenario import Scenario
from simulator.workload import Workload

if TYPE_CHECKING:
    from simulator.predictor import Predictor
    from tuner.search import Options, SearchResult, search

__all__ = [
    "DoesNotFitError",
    "HardwareProfile",
    "InputError",
    "IsotuneError",
    "Model",
    "Options",
    "Plan",
    "PlanFile",
    "Prediction",
    "Predictor",
    "Scenario",
    "SearchResult",
    "Workload",
    "__version__",
    "load_model",
    "predict",
    "read_plan",
    "read_profile",
    "scenario",
    "scenario_of",
    "search",
]

_LATE = {
    "Options": "tuner.search",
    "Predictor": "simulator.predictor",
    "SearchResult": "tuner.search",
    "search": "tuner.search",
}


def scenario(model: str, hardware: str, **workload: Any) -> Scenario:
    """A scenario from names or paths; `tp` is the whole node unless given.

    Args:
        model: bundled name, Hugging Face folder or config.json.
        hardware: bundled name or path of a profile.
        workload: fields of `Workload`: phase, batch, prompt, tp, dtype, weight_dtype, runtime.

    Raises:
        InputError: what, where, and what is allowed.
    """
    from simulator.files import checked

    profile = read_profile(hardware)
    fields = {"tp": profile.node.gpus} | {k: v for k, v in workload.items() if v is not None}
    return Scenario(
        model=load_model(model), hardware=profile, workload=checked(Workload, fields, "workload")
    )


def __getattr__(name: str) -> Any:
    # Optuna and numba take a while to import, and a prediction needs neither.
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module 'isotune' has no attribute {name!r}")
