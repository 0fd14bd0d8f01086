"""One result of each kind, made by the commands themselves."""

import contextlib
import io
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from isotune.cli import main
from isotune.simulator.architecture import load_model
from isotune.simulator.files import ModelReference, PlanFile
from isotune.simulator.schedule import Plan, Workload
from tests._support.traces import GpuTrace, overlapped_pass, serial_pass

BLOCKS = 32
GEMMS = "op,hw,dtype,m,n,k,latency_us\n" + "".join(
    f"gemm,a800,bf16,{m},4096,{k},{max(9.0, m * 4096 * k * 2 / 2.4e8 * (1 + m % 7 / 40)):.2f}\n"
    for m in (1, 16, 128, 256, 512, 1024, 2048, 4096)
    for k in (1024, 4096, 8192)
)
RUNS = """hw,model,tp,batch,prompt_len,phase,steps,link,runtime,strategy,latency_ms,source
h100,Qwen2.5-72B-Instruct,8,1,4096,prefill,1,nvlink_multimem,vllm_eager,serial,180,me
h100,Qwen2.5-72B-Instruct,8,1,4096,prefill,1,nvlink_multimem,vllm_eager,spd_all,160,me
"""
TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 131,
    "max_position_embeddings": 128,
}
WANTED = (
    "search",
    "deployments",
    "policy",
    "sweep",
    "comparison",
    "check",
    "runs",
    "calibration",
    "sensitivity",
    "trace",
)


def wanted(results: dict[str, Path]) -> list[str]:
    """What goes on the page of everything: a validation too, where it could be run."""
    return [*WANTED, *(["validation"] if "validation" in results else [])]


def saved(folder: Path, name: str, *arguments: str) -> Path:
    """What a command prints with --json, as a file."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([*arguments, "--json"])
    path = folder / f"{name}.json"
    path.write_text(out.getvalue())
    assert json.loads(out.getvalue())
    return path


def results_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """One result of each kind, made in the working directory `folder` by the commands."""
    costs = [0.02 if block < 2 else 0.0001 * (block % 5 - 1) for block in range(BLOCKS)]
    table = {
        "model": "llama-2-7b",
        "blocks": costs,
        "transfer": {"int8": 0.001},
        "treatments": {"bias": [cost / 2 for cost in costs]},
        "classes": ["ISB" if cost < 0.0002 else "SB" if cost < 0.01 else "ESB" for cost in costs],
        "tau1": 0.0002,
        "tau2": 0.01,
    }
    sensitivity = folder / "sensitivity.json"
    sensitivity.write_text(json.dumps(table))
    yield "sensitivity", sensitivity
    scenario = ("--hw", "a800", "--model", "llama-2-7b", "--prompt", "2k")
    budget = ("--sensitivity", "sensitivity.json", "--objectives", "latency,accuracy_cost")
    search = ("search", *scenario, "--trials", "24", *budget, "--pareto")
    yield "search", saved(folder, "search", *search)
    yield "plan", folder / "plan.yaml"
    axes = ("--tp", "2,4", "--batch", "1,2", "--trials", "16", "--latency-limit", "200")
    deploy = ("search", *scenario, *axes, "-o", "deployed.yaml")
    yield "deployments", saved(folder, "deployments", *deploy)
    lengths = ("search", "--hw", "rtx4090", "--model", "llama-2-7b", "--prompt", "256:1k")
    yield "policy", saved(folder, "policy", *lengths)
    yield "policy file", folder / "policy.yaml"
    grid = ("--hw", "a800,l40s", "--model", "llama-2-7b", "--tp", "2,4", "--prompt", "512,2k,8k")
    names = ("--strategies", "serial,gemm_overlap,iso,spd", "--jobs", "1", "-o", "table.csv")
    yield "sweep", saved(folder, "sweep", "sweep", *grid, *names)
    yield "table", folder / "table.csv"
    (folder / "gemms.csv").write_text(GEMMS)
    (folder / "runs.csv").write_text(RUNS)
    yield "check", saved(folder, "check", "check", "gemms.csv")
    yield "runs", saved(folder, "runs", "check", "runs.csv")
    fit = ("calibrate", "gemms.csv", "--base", "a100", "-o", "mine.yaml", "--date", "2026-01-31")
    yield "calibration", saved(folder, "calibration", *fit)
    (folder / "trace.json").write_text(json.dumps(_trace()))
    options = ("--beside", "plan.yaml", "-o", "rows.csv")
    yield "trace", saved(folder, "traced", "import", "trace", "trace.json", *options)
    one = ("--hw", "h100", "--model", "llama-2-7b", "--tp", "4", "--prompt", "2k")
    batch = ("--token-budget", "1k", "--mix", "8x1@500")
    yield "steps", saved(folder, "steps", "search", *one, *batch)
    cases = ("--hw", "h100,a800", "--prompt", "2k", "--tp", "2", "--cp", "1,2")
    yield "comparison", saved(folder, "comparison", "compare", "--model", "llama-2-7b", *cases)
    if all(map(find_spec, ("torch", "transformers", "safetensors"))):
        yield "validation", _validation(folder)


def _trace() -> dict[str, object]:
    """A pass in which most of the communication is hidden."""
    trace = GpuTrace()
    overlapped_pass(trace, serial_pass(trace, 0.0, blocks=3), blocks=3)
    return trace.data()


def _validation(folder: Path) -> Path:
    """A plan of a tiny model with random weights, run by two processes."""
    model = folder / "tiny"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(TINY))
    plan = PlanFile(
        hardware="a800",
        model=ModelReference.of(load_model(str(model)), str(model)),
        workload=Workload(prompt=64, tp=2, batch=2),
        plan=Plan(strategy="iso", chunks=(40, 24), dropped=(1,)),
    )
    plan.write(folder / "tiny.yaml")
    once = ("--device", "cpu", "--repeat", "1", "--warmup", "1")
    return saved(folder, "validation", "validate", "tiny.yaml", *once)
