"""Which result a file holds, by its own word; anything else is refused in one line."""

import os
import shlex
from pathlib import Path
from typing import Any

from isotune.results._result import Result
from isotune.results.kinds import KINDS
from isotune.results.policy import FoundPolicy
from isotune.results.prediction import Prediction
from isotune.results.sensitivity import SensitivityScan
from isotune.results.sweep import Sweep, SweepRow
from isotune.simulator.errors import InputError
from isotune.simulator.files import PlanFile, Policy, scenario_of
from isotune.simulator.io import checked, did_you_mean, read_json, read_yaml, validate
from isotune.simulator.predict import predict
from isotune.tuner.accuracy import Sensitivity

_MOST_BYTES = 100_000_000
_TABLES = (".csv", ".parquet")
_TEXTS = (".json", ".yaml", ".yml")
_OPTIONS = {
    "hardware": "--hw",
    "model": "--model",
    "tp": "--tp",
    "batch": "--batch",
    "prompt": "--prompt",
    "phase": "--phase",
    "weight_dtype": "--weight-dtype",
    "comm_dtype": "--comm-dtype",
    "strategy": "--strategies",
}


def read_result(path: Path) -> Result:
    """The result in a file.

    Raises:
        InputError: no such file, none that isotune wrote, malformed, or a plan or policy whose
            hardware or model cannot be read.
    """
    if path.suffix in _TABLES:
        return _from_table(path)
    if path.suffix in (".yaml", ".yml"):
        return _from_yaml(path, read_yaml(path))
    if path.suffix == ".json":
        return _from_json(path, read_json(path, _MOST_BYTES))
    raise InputError(
        f"{path}: {path.suffix or 'no suffix'} is no kind of result "
        f"(allowed: {', '.join((*_TEXTS, *_TABLES))})"
    )


def _from_json(path: Path, data: dict[str, Any]) -> Result:
    kind = data.get("kind")
    if kind is None and "blocks" in data:
        known = set(Sensitivity.model_fields) if "file" in data else set(data)
        table = {name: value for name, value in data.items() if name in known}
        return SensitivityScan.of(validate(Sensitivity, table, path))
    if kind is None:
        raise InputError(
            f"{path}: not a result that isotune saved: no field `kind` "
            "(save it with --json, such as: isotune search --hw a800 --json > result.json)"
        )
    if isinstance(kind, str) and kind in KINDS:
        found = checked(KINDS[kind], data, path)
        return _with_table(path, found) if isinstance(found, Sweep) else found
    raise InputError(
        f"{path}: kind: {str(kind)[:60]!r} is no kind of result "
        f"({did_you_mean(str(kind), sorted(KINDS))}allowed: {', '.join(sorted(KINDS))})"
    )


def _with_table(path: Path, sweep: Sweep) -> Sweep:
    """A sweep with its rows: its own, or those of its table, from here or beside the file."""
    if sweep.columns is not None:
        return sweep
    named = Path(sweep.file or "")
    # os.path, unlike Path, answers for an overlong name instead of raising.
    places = (named, path.parent / named)
    found = [place for place in places if os.path.isfile(place)]  # noqa: PTH113
    if not found:
        raise InputError(f"{path}: file: {str(named)[:200]!r}, the sweep's table, is not there")
    return _from_table(found[0], sweep)


def _from_table(path: Path, sweep: Sweep | None = None) -> Sweep:
    from isotune.tuner.sweep import read_rows

    rows = read_rows(path)
    if not rows:
        raise InputError(f"{path}: the table has no rows")
    about = {} if sweep is None else {"skipped": sweep.skipped, "file": sweep.file}
    command = "" if sweep is None else sweep.command
    return Sweep.in_rows(rows, command=command or _command(rows, path), **about)


def _command(rows: list[SweepRow], path: Path) -> str:
    """The sweep that writes this table, from what is in it."""
    words = ["isotune", "sweep"]
    for name, option in _OPTIONS.items():
        found = dict.fromkeys(str(row[name]) for row in rows)
        words += [option, ",".join(found)]
    return shlex.join([*words, "-o", path.name])


def _from_yaml(path: Path, data: dict[str, Any]) -> Result:
    if "buckets" in data:
        policy = validate(Policy, data, path)
        longest = policy.buckets[-1].last
        command = f"isotune predict --policy {path.name} --prompt {longest}"
        return FoundPolicy.of(policy, scenario_of(policy, path.parent), command=command)
    if "plan" in data:
        file = validate(PlanFile, data, path)
        found = Prediction.of(predict(scenario_of(file, path.parent), file.plan))
        return found.model_copy(update={"command": f"isotune predict --plan {path.name}"})
    raise InputError(f"{path}: neither a plan nor a policy: no field `plan` or `buckets`")
