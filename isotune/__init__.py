"""isotune: what overlapping (ISO) or dropping (SPD) all-reduces brings on your hardware.

    >>> import isotune
    >>> scenario = isotune.scenario("llama-2-70b", "a800", prompt=4096)
    >>> isotune.predict(scenario, isotune.Plan(strategy="iso", chunks=(2048, 2048))).saving

Times are in seconds, sizes in bytes unless a name says otherwise. What needs Optuna or numba is
imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from isotune._version import __version__
from isotune.api import (
    predict,
    read_plan,
    read_policy,
    scenario,
    scenario_of,
    search,
    sweep,
    write_plan,
    write_policy,
    write_profile,
)
from isotune.results import Prediction
from isotune.simulator.architecture import Model, load_model
from isotune.simulator.errors import DoesNotFitError, InputError, IsotuneError
from isotune.simulator.files import PlanFile, Policy
from isotune.simulator.machine import HardwareProfile, read_profile
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Plan, Workload

if TYPE_CHECKING:
    from isotune.results import SearchResult, Sweep
    from isotune.simulator.batch import Predictor, Timer
    from isotune.tuner.search import Options
    from isotune.tuner.sweep import Grid

__all__ = [
    "DoesNotFitError",
    "Grid",
    "HardwareProfile",
    "InputError",
    "IsotuneError",
    "Model",
    "Options",
    "Plan",
    "PlanFile",
    "Policy",
    "Prediction",
    "Predictor",
    "Scenario",
    "SearchResult",
    "Sweep",
    "Timer",
    "Workload",
    "__version__",
    "load_model",
    "predict",
    "read_plan",
    "read_policy",
    "read_profile",
    "scenario",
    "scenario_of",
    "search",
    "sweep",
    "write_plan",
    "write_policy",
    "write_profile",
]

_LATE = {
    "Grid": "isotune.tuner.sweep",
    "Options": "isotune.tuner.search",
    "Predictor": "isotune.simulator.batch",
    "SearchResult": "isotune.results",
    "Sweep": "isotune.results",
    "Timer": "isotune.simulator.batch",
}


def __getattr__(name: str) -> Any:
    # Optuna and numba take a while to import, and a prediction needs neither.
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module 'isotune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
