"""Broken files given to the functions that read them: thousands a second, no command in between.

A loader returns, or raises `InputError` with one printable line of at most 500 characters, in ten
seconds. `tests/isotune/test_fuzzed_loaders.py` draws a little of it with hypothesis, from each
file's schema; by hand, for longer:

    python experiments/fuzz_loaders.py --inputs 1000000 --seed 1
"""

import argparse
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fuzz
from hypothesis import strategies as st
from pydantic import BaseModel

from isotune.results import read_result
from isotune.simulator.architecture import read_model
from isotune.simulator.errors import InputError
from isotune.simulator.files import PlanFile, Policy, read_plan, read_policy
from isotune.simulator.machine import HardwareProfile, read_profile
from isotune.tuner.accuracy import Sensitivity, read_sensitivity
from isotune.tuner.prompt_lengths import read_lengths
from isotune.tuner.sweep import Grid, read_grid
from isotune.validation.calibrate import read_contention
from isotune.validation.importers import from_aiconfigurator, read_log, read_topology
from isotune.validation.tables import read_runs, read_served, read_table
from isotune.validation.traces import read_trace

Load = Callable[[Path], object]


def _sensitivity(path: Path) -> object:
    return read_sensitivity(path, read_model(path.parent.parent / "tiny"), (2,))


def _system(path: Path) -> object:
    return from_aiconfigurator(path, "mine", read_profile("h100"))


LOADERS: Mapping[str, Load] = {
    "profile": lambda path: read_profile(str(path)),
    "derived profile": lambda path: read_profile(str(path)),
    "model": read_model,
    "plan": read_plan,
    "policy file": read_policy,
    "sensitivity": _sensitivity,
    "measurements": read_table,
    "whole passes": read_runs,
    "served models": read_served,
    "contention": read_contention,
    "prompt lengths": read_lengths,
    "grid": read_grid,
    "nccl-tests log": read_log,
    "topology": read_topology,
    "aiconfigurator system": _system,
    "engine trace": read_trace,
    "swept table": read_result,
} | dict.fromkeys(fuzz.RESULTS, read_result)
"""What reads each kind of file."""
SCHEMAS: Mapping[str, type[BaseModel]] = {
    "profile": HardwareProfile,
    "plan": PlanFile,
    "policy file": Policy,
    "sensitivity": Sensitivity,
    "grid": Grid,
}
"""The schema of the kinds that have one of their own."""


def complaint(load: Load, path: Path) -> str:
    """What is wrong with a loader's answer to a file, again if it was late; empty if nothing is."""
    wrong = _complaint(load, path)
    return _complaint(load, path) if wrong.startswith(_LATE) else wrong


_LATE = "took "


def _complaint(load: Load, path: Path) -> str:
    begun = time.perf_counter()
    message = "one line"
    try:
        load(path)
    except InputError as error:
        message = str(error)
    except Exception as error:  # which is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        first = next(iter(str(error).splitlines()), "")
        return f"{type(error).__name__}: {first:.120} ({where.filename}:{where.lineno})"
    took = time.perf_counter() - begun
    checks = {
        f"{_LATE}{took:.0f} s": took > fuzz.SLOW_S,
        f"a message of {len(message)} characters": len(message) > fuzz.LONGEST,
        "a message that is not one printable line": not message.isprintable(),
    }
    return "; ".join(text for text, wrong in checks.items() if wrong)


def of_schema(schema: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Data of a schema's shape, whose values are at their bounds, odd, or of another type."""
    whole = schema.model_json_schema()
    return _drawn(whole, whole.get("$defs", {}), depth=4)


def _drawn(schema: Any, kinds: Mapping[str, Any], depth: int) -> st.SearchStrategy[Any]:
    odd = st.sampled_from(fuzz.ODD)
    if not isinstance(schema, dict) or depth == 0:
        return odd
    if "$ref" in schema:
        return _drawn(kinds[schema["$ref"].rpartition("/")[2]], kinds, depth - 1)
    several = schema.get("anyOf", schema.get("oneOf", ()))
    if several:
        return st.one_of(odd, *(_drawn(one, kinds, depth) for one in several))
    if "enum" in schema or "const" in schema:
        return st.one_of(st.sampled_from(schema.get("enum", [schema.get("const")])), odd)
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            needed = {name: fields[name] for name in schema.get("required", ()) if name in fields}
            others = {name: one for name, one in fields.items() if name not in needed}
            return st.fixed_dictionaries(
                {name: _drawn(one, kinds, depth - 1) for name, one in needed.items()},
                optional={name: _drawn(one, kinds, depth - 1) for name, one in others.items()},
            )
        case "array":
            items = _drawn(schema.get("items"), kinds, depth - 1)
            return st.one_of(odd, st.lists(items, max_size=3))
        case "integer" | "number":
            bounds = [schema[key] for key in _BOUNDS if key in schema]
            around = [bound + step for bound in bounds for step in (-1, 0, 1)]
            return st.sampled_from([*around, *fuzz.ODD, 1, 2, 128])
    return st.one_of(odd, st.text(max_size=20))


_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def edited(data: Any, schema: type[BaseModel] | None) -> st.SearchStrategy[Any]:
    """Sound data of which one to three values are others: odd ones, or those of the schema."""
    paths = list(fuzz.leaves(data))
    values = st.sampled_from(fuzz.ODD)
    if schema is not None:
        whole = schema.model_json_schema()
        fields = [_drawn(one, whole.get("$defs", {}), 3) for one in whole["properties"].values()]
        values = st.one_of(values, *fields)
    changes = st.lists(st.tuples(st.sampled_from(paths), values), min_size=1, max_size=3)
    return changes.map(lambda found: _applied(data, found))


def _applied(data: Any, changes: list[tuple[tuple[Any, ...], Any]]) -> Any:
    for path, value in changes:
        data = fuzz.changed(data, path, value)
    return data


def written(kind: fuzz.Kind, data: Any, otherwise: bytes) -> bytes:
    """A file with this data; other bytes where the format cannot say it."""
    try:
        return kind.format.write(data).encode("utf-8", "surrogatepass")
    except fuzz.UNSAID:
        return otherwise


def campaign(inputs: int, seed: int, folder: Path) -> tuple[Counter[str], Counter[str]]:
    """So many broken files, read one by one; how many of each kind, and complaints."""
    texts = fuzz.examples(Path.cwd())
    chance = random.Random(seed)  # noqa: S311
    counts, complaints = Counter[str](), Counter[str]()
    kinds, begun = sorted(LOADERS), time.monotonic()
    for done in range(1, inputs + 1):
        name = chance.choice(kinds)
        data = fuzz.one_input(fuzz.KINDS[name], texts[name], chance)
        file = folder / fuzz.KINDS[name].name
        file.write_bytes(data)
        counts[name] += 1
        if wrong := complaint(LOADERS[name], file):
            if wrong not in complaints:
                kept = Path.cwd() / f"found-{len(complaints)}-{file.name}"
                kept.write_bytes(data)
                print(f"{kept.name}: {name}: {wrong}", flush=True)
            complaints[wrong] += 1
        if done % 20_000 == 0:
            print(f"{done} inputs in {time.monotonic() - begun:.0f} s", flush=True)
    return counts, complaints


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="fuzz"))
    os.chdir(work)
    (work / "fuzzed").mkdir()
    counts, complaints = campaign(given.inputs, given.seed, work / "fuzzed")
    wrong = f"{complaints.total()} answered wrongly in {len(complaints)} ways"
    print(f"{counts.total()} inputs, {wrong}")
    print(f"of each kind: {dict(counts)}; files in {work}")
    sys.exit(bool(complaints))


if __name__ == "__main__":
    _main()
