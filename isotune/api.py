"""The Python API: scenarios, predictions, searches, sweeps, and the files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isotune.results import Predicted, Prediction
from isotune.simulator import files, machine
from isotune.simulator import predict as simulated
from isotune.simulator.architecture import Model, load_model
from isotune.simulator.io import checked, read_yaml
from isotune.simulator.machine import HardwareProfile, read_profile
from isotune.simulator.number_types import PLAIN_DTYPES
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Plan, Sequences, Workload

if TYPE_CHECKING:
    from isotune.results import SearchResult, Sweep
    from isotune.tuner.search import Options, Progress
    from isotune.tuner.sweep import Grid
    from isotune.validation.language_model import LanguageModel


def load(
    folder: "str | Path",
    policy: "files.Policy | Plan | str | Path | None" = None,
    *,
    dtype: str = "bf16",
    device: str | None = None,
) -> "LanguageModel":
    """One rank's share of a checkpoint, run by ISO, SPD or serially: prefill, decode, generate.

    Under torchrun every process calls it and is a rank; otherwise one process is the only one.

    Args:
        folder: a Hugging Face folder with safetensors, of a family that the executor runs.
        policy: plans by prompt length (`policy.yaml`), or one plan (`plan.yaml`) whose shares split
            every prompt; a path of either. Serial unless given.
        dtype: bf16, fp16 or float32.
        device: cpu or cuda; a GPU where there is one unless given.

    Raises:
        InputError: what the executor cannot run, a plan that splits no prompts, or no extra.
    """
    from isotune.validation.extra import require_validate_extra

    require_validate_extra()
    from isotune.validation import language_model

    asked = _policy_in(Path(policy)) if isinstance(policy, (str, Path)) else policy
    rules = language_model.rules_of(asked)
    return language_model.load(Path(folder), rules, dtype=dtype, device=device)


def _policy_in(path: Path) -> "files.Policy | Plan":
    """The policy of a policy.yaml, or the plan of a plan.yaml."""
    fields = read_yaml(path)
    if isinstance(fields, dict) and "buckets" in fields:
        return files.read_policy(path)
    return files.read_plan(path).plan


def predict(
    scenario: Scenario, plan: Plan = simulated.SERIAL, *, contention: bool = True
) -> Prediction:
    """Predict a plan's latency and where it goes.

    Args:
        scenario: model, hardware and workload; see `isotune.scenario`.
        plan: what to run; the serial baseline unless given.
        contention: False asks what an ideal machine would do, on which collectives take nothing
            from the compute beside them.

    Raises:
        InputError: the plan does not suit the scenario.
        DoesNotFitError: its memory exceeds the GPU's.
    """
    return Prediction.of(simulated.predict(scenario, plan, contention=contention))


def search(
    scenario: Scenario, options: "Options | None" = None, progress: "Progress | None" = None
) -> "SearchResult":
    """Find the plan of lowest latency within the limits.

    Args:
        scenario: model, hardware and workload; see `isotune.scenario`.
        options: how to search; the defaults are those of the command line.
        progress: called with trials done and trials in all.

    Raises:
        InputError: objectives that cannot be known, or no plan within the limits.
        DoesNotFitError: no plan fits in memory.
    """
    # Optuna and numba take a while to import, and a prediction needs neither.
    from isotune.export import runners
    from isotune.results import Engine, SearchResult
    from isotune.tuner.search import search as find

    found = find(scenario, options, progress)
    return SearchResult.of(found, engines=tuple(map(Engine.like, runners(found.best))))


def sweep(grid: "Grid") -> "Sweep":
    """Predict every combination of a grid, in this process and in memory.

    For millions of rows, on all cores and resumable, use `isotune sweep`.

    Args:
        grid: the axes; every combination is a row.

    Raises:
        InputError: unknown hardware or model, or nothing possible in the grid.
    """
    from isotune.results import Sweep

    return Sweep.of(grid)


def scenario(
    model: str | Model,
    hardware: str | HardwareProfile,
    *,
    tp: int | None = None,
    ep: int | None = None,
    cp: int | None = None,
    dp: int | None = None,
    batch: int | None = None,
    prompt: int | None = None,
    phase: str | None = None,
    dtype: str | None = None,
    weight_dtype: str | None = None,
    quant: str | None = None,
    kv_dtype: str | None = None,
    runtime: str | None = None,
    engine: str | None = None,
    sequences: Sequence[Sequences | str] | None = None,
) -> Scenario:
    """A scenario from names or paths; what is not given has the default of the command line.

    Args:
        model: bundled name, Hugging Face folder or config.json, or a model.
        hardware: bundled name or path of a profile, or a profile.
        tp: tensor-parallel size; what `cp` and `dp` leave of the node unless given.
        ep: ranks that whole experts are divided over: 1 (every expert is sharded) or all.
        cp: groups of `tp` ranks that share the tokens of every prompt (context parallelism).
        dp: groups of `tp` x `cp` ranks that share the requests (attention data parallelism).
        batch: requests of all groups together.
        prompt: tokens of each request.
        phase: prefill or decode.
        dtype: activations: bf16, fp16, or fp8 (in matrix products; bf16 between them).
        weight_dtype: weights: bf16, fp16, fp8, int8, int4, ...; as dtype unless given. bf16 and
            fp16 ask for weights as trained where the checkpoint is quantised.
        quant: how the products of the blocks are quantised: bf16, fp8, fp8_block, nvfp4, int8,
            int4, mxfp4, w8a8, ...; as the checkpoint is unless given.
        kv_dtype: the KV cache: bf16, fp16 or fp8; the checkpoint's unless given.
        runtime: cuda_graph, piecewise_graph or eager; as the engine does unless given.
        engine: the serving engine whose pass it is: nccl (no engine's choices), vllm, sglang,
            trtllm, tokenweave or executor.
        sequences: a mixed batch instead of phase, batch and prompt: groups of sequences, such as
            `["1x2048+0", "32x1+4096"]`, a prompt of 2048 tokens and 32 decodes at 4096.

    Raises:
        InputError: what, where, and what is allowed.
    """
    profile = read_profile(hardware) if isinstance(hardware, str) else hardware
    shape = load_model(model) if isinstance(model, str) else model
    if weight_dtype in PLAIN_DTYPES and quant is None and shape.quantisation is not None:
        quant = "bf16"
    asked = {
        "tp": max(1, profile.node.gpus // ((cp or 1) * (dp or 1))) if tp is None else tp,
        "ep": ep,
        "cp": cp,
        "dp": dp,
        "batch": batch,
        "prompt": prompt,
        "phase": phase,
        "dtype": dtype,
        "weight_dtype": weight_dtype or dtype,
        "quant": quant,
        "kv_dtype": kv_dtype,
        "runtime": runtime,
        "engine": engine,
        "sequences": None if sequences is None else tuple(sequences),
    }
    given = {name: value for name, value in asked.items() if value is not None}
    return Scenario(model=shape, hardware=profile, workload=checked(Workload, given, "workload"))


def read_plan(path: str | Path) -> files.PlanFile:
    """The plan in a file, with the scenario it was made for.

    Raises:
        InputError: unreadable or malformed file, or a field of the wrong type or range.
    """
    return files.read_plan(Path(path))


def read_policy(path: str | Path) -> files.Policy:
    """The policy in a file: plans by prompt length.

    Raises:
        InputError: unreadable or malformed file, or a field of the wrong type or range.
    """
    return files.read_policy(Path(path))


def scenario_of(
    file: files.PlanFile | files.Policy,
    folder: str | Path = ".",
    *,
    hardware: str | None = None,
    model: str | None = None,
    workload: dict[str, Any] | None = None,
) -> Scenario:
    """The scenario that a plan or policy was made for, or one that differs from it as asked.

    Args:
        file: what `read_plan` or `read_policy` returned.
        folder: the file's folder, from which its relative paths are looked up too.
        hardware: another machine.
        model: another place of the same model.
        workload: fields of `Workload` that differ.

    Raises:
        InputError: the hardware or the model cannot be read, the model is another one, or a field
            has the wrong type or range.
    """
    return files.scenario_of(file, Path(folder), hardware=hardware, model=model, workload=workload)


def write_plan(
    prediction: Predicted,
    path: str | Path,
    *,
    hardware: str | None = None,
    model: str | None = None,
) -> None:
    """Write a prediction's plan and scenario as `plan.yaml`, whole or not at all.

    Args:
        prediction: of the plan to write, such as `search(...).best`.
        path: where to.
        hardware: name or path by which the profile is found again; its name unless given.
        model: name or path by which the model is found again; its name unless given.

    Raises:
        InputError: it cannot be written there.
    """
    scenario = prediction.scenario
    names = hardware or scenario.hardware.name, model or scenario.model.name
    files.PlanFile.of(prediction.simulated, *names).write(Path(path))


def write_policy(found: files.Policy, path: str | Path) -> None:
    """Write a policy, whole or not at all.

    Raises:
        InputError: it cannot be written there.
    """
    found.write(Path(path))


def write_profile(profile: HardwareProfile, path: str | Path, *, comment: str = "") -> None:
    """Write a hardware profile that `read_profile` reads back exactly.

    Raises:
        InputError: it cannot be written there.
    """
    machine.write_profile(profile, Path(path), comment or profile.description)
