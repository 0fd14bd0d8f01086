"""Results as plain data: what `--json` prints, and what reports are made from."""

from typing import TYPE_CHECKING, Any

from isotune._version import __version__
from simulator.predict import Prediction

if TYPE_CHECKING:
    from tuner.robust import RobustChoice
    from tuner.search import SearchResult
    from tuner.study import Evaluated, Trials
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
        "trials": trials_dict(result.trials, result.options.seed),
        "front": [_evaluated(result, item) for item in result.trials.front],
        "exact": None
        if exact is None
        else {
            "latency_s": exact.latency_s,
            "compared": exact.compared,
            "bound_s": exact.bound_s,
            "plan": exact.plan.model_dump(mode="json"),
            "gap": result.gap_to_exact,
        },
    }


def trials_dict(trials: "Trials", seed: int) -> dict[str, Any]:
    """What a study did."""
    return {
        "run": trials.run,
        "pruned": trials.pruned,
        "failed": trials.failed,
        "why": trials.why,
        "per_second": trials.per_second,
        "importances": trials.importances,
        "stopped_at_bound": trials.stopped_at_bound,
        "best_s": trials.best.seconds if trials.best else None,
        "seed": seed,
        "interrupted": trials.interrupted,
    }


def robust_dict(choice: "RobustChoice") -> dict[str, Any]:
    """A robust choice and how it could change; seconds, and shares of the draws."""
    return {
        "mode": choice.mode,
        "plan": choice.plan.model_dump(mode="json"),
        "expected_s": choice.expected_s,
        "worst_s": choice.worst_s,
        "saving_interval": list(choice.saving_interval),
        "best_in": choice.best_in,
        "near_best_in": choice.near_best_in,
        "winners": [
            {"plan": plan.model_dump(mode="json"), "share": share} for plan, share in choice.winners
        ],
    }


def _evaluated(result: "SearchResult", item: "Evaluated") -> dict[str, Any]:
    values = zip(result.options.objectives, item.values, strict=True)
    return dict(values) | {"plan": item.plan.model_dump(mode="json")}


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
