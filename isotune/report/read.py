"""Which result a file holds, by its own word; anything else is refused in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import isotune
from isotune.present.figures.sweep import read_sweep
from isotune.report.saved import (
    Deployments,
    Prediction,
    Saved,
    SavedPolicy,
    SavedSensitivity,
    Search,
)
from isotune.report.saved_measured import Calibration, Check, Checks, MeasuredSearch, Validation
from isotune.results import policy_dict, prediction_dict
from isotune.simulator.errors import InputError
from isotune.simulator.files import PlanFile, Policy, scenario_of
from isotune.simulator.io import checked, did_you_mean, read_json, read_yaml, validate
from isotune.tuner.accuracy import Sensitivity

_MOST_BYTES = 100_000_000
_KINDS: dict[str, type[Saved]] = {
    "search": Search,
    "deployments": Deployments,
    "measured": MeasuredSearch,
    "prediction": Prediction,
    "check": Check,
    "checks": Checks,
    "calibration": Calibration,
    "validation": Validation,
}
_TABLES = (".csv", ".parquet")
_TEXTS = (".json", ".yaml", ".yml")


def read_result(path: Path) -> Saved:
    """The result in a file.

    Raises:
        InputError: no such file, none that isotune wrote, malformed, or a plan or policy whose
            hardware or model cannot be read.
    """
    if path.suffix in _TABLES:
        return read_sweep(path)
    if path.suffix in (".yaml", ".yml"):
        return _from_yaml(path, read_yaml(path))
    if path.suffix == ".json":
        return _from_json(path, read_json(path, _MOST_BYTES))
    raise InputError(
        f"{path}: {path.suffix or 'no suffix'} is no kind of result "
        f"(allowed: {', '.join((*_TEXTS, *_TABLES))})"
    )


def _from_json(path: Path, data: dict[str, Any]) -> Saved:
    kind = data.get("kind")
    others: dict[str, Callable[[Path, dict[str, Any]], Saved]] = {
        "policy": _policy,
        "sweep": _sweep,
    }
    if kind is None and "blocks" in data:
        return SavedSensitivity(table=validate(Sensitivity, _table(data), path))
    if kind is None:
        raise InputError(
            f"{path}: not a result that isotune saved: no field `kind` "
            "(save it with --json, such as: isotune search --hw a800 --json > result.json)"
        )
    if isinstance(kind, str) and kind in others:
        return others[kind](path, data)
    if isinstance(kind, str) and kind in _KINDS:
        return checked(_KINDS[kind], data, path)
    allowed = sorted((*_KINDS, *others))
    raise InputError(
        f"{path}: kind: {str(kind)[:60]!r} is no kind of result "
        f"({did_you_mean(str(kind), allowed)}allowed: {', '.join(allowed)})"
    )


def _table(data: dict[str, Any]) -> dict[str, Any]:
    """A sensitivity table without what `sensitivity --json` prints beside it."""
    if "file" not in data:
        return data
    return {name: data[name] for name in Sensitivity.model_fields if name in data}


def _policy(path: Path, data: dict[str, Any]) -> Saved:
    fields = {name: data[name] for name in Policy.model_fields if name in data}
    policy = checked(Policy, fields, path)
    rest = {"command": data.get("command", ""), "by_length": data.get("by_length")}
    return checked(SavedPolicy, rest | {"policy": policy}, path)


def _sweep(path: Path, data: dict[str, Any]) -> Saved:
    """The table that a sweep wrote, looked up from here, then beside the file."""
    named = Path(str(data.get("file", "")))
    found = [place for place in (named, path.parent / named) if place.is_file()]
    if not found:
        raise InputError(f"{path}: file: {str(named)[:200]!r}, the sweep's table, is not there")
    return read_sweep(found[0], str(data.get("command", "")))


def _from_yaml(path: Path, data: dict[str, Any]) -> Saved:
    if "buckets" in data:
        policy = validate(Policy, data, path)
        scenario = scenario_of(policy, path.parent)
        longest = policy.buckets[-1].last
        command = f"isotune predict --policy {path.name} --prompt {longest}"
        return _policy(path, policy_dict(policy, scenario) | {"command": command})
    if "plan" in data:
        file = validate(PlanFile, data, path)
        prediction = isotune.predict(scenario_of(file, path.parent), file.plan)
        command = f"isotune predict --plan {path.name}"
        return checked(Prediction, prediction_dict(prediction) | {"command": command}, path)
    raise InputError(f"{path}: neither a plan nor a policy: no field `plan` or `buckets`")
