"""Results as plain data: what `--json` prints, and what reports are made from."""

from typing import TYPE_CHECKING, Any

from isotune._version import __version__
from simulator.predict import Prediction

if TYPE_CHECKING:
    from tuner.search import SearchResult
    from tuner.techniques import Technique


def prediction_dict(prediction: Prediction) -> dict[str, Any]:
    """A prediction; times in seconds, memory in bytes per GPU, `saving` a fraction."""
    scenario, memory = prediction.scenario, prediction.memory
    return {
        "isotune": __version__,
        "model": scenario.model.name,
        "hardware": scenario.hardware.name,
        "workload": scenario.workload.model_dump(mode="json"),
        "plan": prediction.plan.model_dump(mode="json"),
        **_times(prediction),
        "cautions": list(scenario.hardware.cautions(scenario.workload.tp)),
        "op_seconds": {str(op): seconds for op, seconds in prediction.op_seconds.items()},
        "memory": {
            "weights": memory.weights,
            "kv_cache": memory.kv_cache,
            "activations": memory.activations,
            "reserved": memory.reserved,
            "capacity": memory.capacity,
        },
    }


def search_dict(result: "SearchResult") -> dict[str, Any]:
    """A search result: the best plan's prediction, and what it was measured against."""
    exact = result.exact
    return {
        **prediction_dict(result.best),
        "baseline": _times(result.baseline)
        | {"op_seconds": {str(op): s for op, s in result.baseline.op_seconds.items()}},
        "techniques": [_technique(technique) for technique in result.techniques],
        "iso_pays_from": result.iso_pays_from,
        "accuracy_cost": result.accuracy_cost,
        "trials": {
            "run": result.trials.run,
            "pruned": result.trials.pruned,
            "best_s": result.trials.best_s,
            "seed": result.options.seed,
            "interrupted": result.trials.interrupted,
        },
        "exact": None
        if exact is None
        else {
            "latency_s": exact.latency_s,
            "compared": exact.compared,
            "plan": exact.plan.model_dump(mode="json"),
            "gap": result.gap_to_exact,
        },
    }


def _technique(technique: "Technique") -> dict[str, Any]:
    return {
        "name": technique.name,
        "lossy": technique.lossy,
        "assumed": technique.assumed,
        "plan": technique.prediction.plan.model_dump(mode="json"),
        **_times(technique.prediction),
    }


def _times(prediction: Prediction) -> dict[str, float | list[float]]:
    return {
        "latency_s": prediction.latency_s,
        "latency_interval_s": list(prediction.latency_interval_s),
        "serial_latency_s": prediction.serial_latency_s,
        "saving": prediction.saving,
        "saving_interval": list(prediction.saving_interval),
        "compute_s": prediction.compute_s,
        "comm_s": prediction.comm_s,
        "exposed_comm_s": prediction.exposed_comm_s,
        "bound_s": prediction.bound_s,
    }
