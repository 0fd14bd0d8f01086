"""Results as plain data: what `--json` prints, and what reports are made from."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from isotune.drawing import block_of
from isotune.simulator.files import Policy
from isotune.simulator.predict import Prediction, Scenario, predict
from isotune.simulator.schedule import Plan

if TYPE_CHECKING:
    from isotune.tuner.robust import RobustChoice
    from isotune.tuner.savings_by_length import AtLength
    from isotune.tuner.search import Evaluated, History, SearchResult, Trials
    from isotune.tuner.techniques import Technique


def prediction_dict(prediction: Prediction, baseline: Prediction | None = None) -> dict[str, Any]:
    """A prediction; times in seconds, memory in bytes per GPU, `saving` a fraction.

    `baseline` is the serial plan's, predicted here unless given.
    """
    scenario, memory = prediction.scenario, prediction.memory
    baseline = baseline or predict(scenario, must_fit=False)
    return {
        "model": scenario.model.name,
        "hardware": scenario.hardware.name,
        "workload": scenario.workload.model_dump(mode="json"),
        "plan": prediction.plan.model_dump(mode="json"),
        **_times(prediction),
        "cautions": list(scenario.cautions()),
        **_ops(prediction),
        "memory": {
            "weights": memory.weights,
            "kv_cache": memory.kv_cache,
            "activations": memory.activations,
            "reserved": memory.reserved,
            "capacity": memory.capacity,
        },
        "baseline": _times(baseline) | _ops(baseline) | {"fits": baseline.memory.fits},
        "timelines": {"serial": block_of(prediction.serial), "plan": block_of(prediction.run)},
    }


def search_dict(result: "SearchResult") -> dict[str, Any]:
    """A search result: the best plan's prediction, and what it was measured against."""
    exact, recovery = result.exact, result.options.recovery
    return {
        **prediction_dict(result.best, result.baseline),
        "techniques": [_technique(technique) for technique in result.techniques],
        "iso_pays_from": result.iso_pays_from,
        "iso_surely_pays_from": result.iso_surely_pays_from,
        "by_length": _curves(result) if result.iso_asked else [],
        "sensitivity": recovery.searched.model_dump(mode="json") if recovery else None,
        "accuracy_budget": result.options.accuracy_budget if recovery else None,
        "objectives": list(result.options.objectives),
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
        "history": _history(trials.history),
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
        **_ops(technique.prediction),
    }


def policy_dict(policy: Policy, scenario: Scenario) -> dict[str, Any]:
    """A policy as its file has it, and what it saves by prompt length."""
    curve = {"name": "this policy", "points": policy_points(policy, scenario)}
    return policy.model_dump(mode="json") | {"by_length": [curve]}


def policy_points(policy: Policy, scenario: Scenario) -> list[dict[str, Any]]:
    """What a policy saves at lengths of all its buckets."""
    from isotune.tuner.savings_by_length import by_length

    def plan_at(there: Scenario) -> Plan:
        prompt = there.workload.prompt
        return policy.bucket(prompt).rule.plan(prompt)

    first, last = policy.buckets[0].first, policy.buckets[-1].last
    return _points(by_length(scenario, plan_at, first, last))


def _curves(result: "SearchResult") -> list[dict[str, Any]]:
    """ISO by prompt length: lossless, and as the plan has it where that loses something."""
    from isotune.tuner.savings_by_length import best_iso, by_length

    plan, scenario = result.best.plan, result.best.scenario
    choices = {"ISO": best_iso()}
    if plan.lossy:
        parts = [f"{plan.comm_dtype} transfer"] * (plan.comm_dtype != "bf16")
        parts += [f"{len(plan.dropped)} syncs dropped"] * bool(plan.dropped)
        choices["ISO, " + ", ".join(parts)] = best_iso(plan.comm_dtype, plan.dropped)
    return [
        {"name": name, "points": _points(by_length(scenario, choice))}
        for name, choice in choices.items()
    ]


def _points(points: "Iterable[AtLength]") -> list[dict[str, Any]]:
    return [
        {
            "prompt": point.prompt,
            "chunks": list(point.plan.chunks),
            "latency_s": point.latency_s,
            "serial_latency_s": point.serial_latency_s,
            "saving": point.saving,
            "saving_interval": list(point.saving_interval),
        }
        for point in points
    ]


def _history(history: "History") -> dict[str, Any]:
    trials = [vars(trial) | {"values": list(trial.values)} for trial in history.trials]
    return {"distributions": history.distributions, "trials": trials}


def _ops(prediction: Prediction) -> dict[str, Mapping[str, object]]:
    return {
        "op_seconds": dict(prediction.op_seconds),
        "op_sections": dict(prediction.op_sections),
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
