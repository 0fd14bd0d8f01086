"""What a single GPU can prove of isotune, in eight minutes.

    python experiments/one_gpu.py OUT                    # on a machine with torch and a GPU
    python experiments/one_gpu.py OUT --parts numbers    # one part again

Every part is a process of its own with a time limit, so that none takes another with it: not a
crash, not a hang, not a CUDA error. `OUT/results.json` and the page `OUT/one_gpu.md` are written
anew after every part. `--device cpu` runs the mechanics without a GPU, on tiny models; parts that a
CPU has nothing for say so. Where nothing can be installed, carry wheels:

    pip install --no-index --no-deps --target SITE *.whl
    PYTHONPATH=SITE:. python experiments/one_gpu.py OUT
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

Row = dict[str, Any]
ROOT = Path(__file__).resolve().parents[1]
MARK = "ROWS "
"""What begins the line on which a part prints its rows."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a part works on: the device, and sizes that fit it."""

    out: Path
    cpu: bool

    @property
    def machine(self) -> str:
        """The profile that predicts."""
        if self.cpu:
            return "a100"
        from isotune.simulator.machine import read_profile

        return read_profile("auto").name

    @property
    def model(self) -> str:
        """The model of the parts about time."""
        return str(_tiny("llama", self.out)) if self.cpu else "llama-3.1-70b"

    @property
    def prompts(self) -> tuple[int, ...]:
        """Prompt lengths of the emulated rank."""
        return (96,) if self.cpu else (256, 1024, 4096, 8192)

    @property
    def device(self) -> str:
        """Where a part runs."""
        return "cpu" if self.cpu else "cuda:0"


@dataclass(frozen=True)
class Part:
    """A part: what it shows, its limit in seconds, whether it takes a GPU, and its work."""

    about: str
    limit_s: float
    gpu: bool
    work: Callable[[Task], Iterator[Row]]


def machine(task: Task) -> Iterator[Row]:
    """Device, versions and variables; the host's time per launch, and how many launches fit."""
    import torch

    from isotune.validation.executor import attention_on
    from isotune.validation.real_run import MachineRecord

    device = torch.device(task.device)
    record = MachineRecord.of(device, attention_on(device, torch.bfloat16, 128).name)
    yield {name: value for name, value in vars(record).items() if name != "environment"}
    yield {"environment": json.dumps(record.environment)}
    if task.cpu:
        return
    one = torch.zeros(1, device=device)
    torch.cuda.synchronize()
    torch.cuda._sleep(400_000_000)  # some 0.2 s, in which the queue fills
    stamps = [time.perf_counter()]
    for _ in range(3000):
        one.add_(1)
        stamps.append(time.perf_counter())
    gaps = [later - earlier for earlier, later in pairwise(stamps)]
    full = next((at for at, gap in enumerate(gaps) if gap > 2e-3), None)
    yield {"host us per launch": 1e6 * statistics.median(gaps[:500]), "launches queued": full}


def numbers(task: Task) -> Iterator[Row]:
    """Logits of the executor against transformers on the device, float32, by family and plan."""
    import torch
    from transformers import AutoModelForCausalLM

    from isotune.simulator.architecture import read_model
    from isotune.simulator.schedule import Plan
    from isotune.validation.executor import Session, load_shard
    from isotune.validation.weights import Safetensors, load_config

    torch.set_float32_matmul_precision("highest")
    device = torch.device(task.device)
    plans = (Plan(), Plan(strategy="iso", chunks=(13, 8)))
    for family in ("llama", "mistral", "qwen3", "mixtral", "gemma", "opt", "phi3"):
        folder = _tiny(family, task.out)
        net = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
        ids = torch.randint(3, 131, (2, 21), generator=torch.Generator().manual_seed(0)).to(device)
        model = read_model(folder)
        config = load_config(folder, model.num_hidden_layers)
        for kind, allowed in ((torch.float32, 1e-4), (torch.bfloat16, 6e-2)):
            shard = load_shard(config, Safetensors(folder, kind, device), rank=0, tp=1)
            session = Session(shard, model)
            with torch.no_grad():
                want = net(ids).logits
            for plan in plans:
                done = session.forward(plan, ids, session.cache(2, 21))
                got = session.executor(plan).logits(done.hidden).float()
                error = float((got - want).abs().max() / want.abs().max())
                about = {"family": family, "plan": plan.strategy, "type": str(kind)[6:]}
                yield about | {"error": error, "ok": error <= allowed}


def attention(task: Task) -> Iterator[Row]:
    """The one kernel: a whole prompt, a chunk with context, a window, decode (8 heads, 1 KV)."""
    import torch

    from isotune.validation.executor import Heads, attend, attention_on
    from isotune.validation.measure.timed_kernels import seconds_of

    device = torch.device(task.device)
    size = 128 if task.cpu else 8192
    for q, kv, window in (
        (size, size, None),
        (size // 2, size, None),
        (size // 4, size, None),
        (size, size, size // 8),
        (1, size, None),
    ):
        query, key, value = (
            torch.randn(1, heads, rows, 128, device=device, dtype=torch.bfloat16)
            for heads, rows in ((8, q), (1, kv), (1, kv))
        )
        heads = Heads(query, key, value)

        def run(heads: Any = heads, window: int | None = window) -> object:
            return attend(heads, 128**-0.5, window)

        run()
        seconds = seconds_of(run, 3 if task.cpu else 30, device)
        seen = [min(kv - q + row + 1, window or kv) for row in range(q)]
        yield {
            "queries": q,
            "keys": kv,
            "window": window,
            "us": 1e6 * seconds,
            "TFLOP/s": 4 * 8 * 128 * sum(seen) / seconds / 1e12,
            "kernel": attention_on(device, torch.bfloat16, 128).name,
        }


def races(task: Task) -> Iterator[Row]:
    """The same hidden states, bit for bit, whatever the streams' delays (six random ones each)."""
    import random

    import torch

    from isotune.simulator.architecture import read_model
    from isotune.simulator.schedule import Plan
    from isotune.validation.executor import Session, load_shard
    from isotune.validation.weights import RandomWeights, load_config

    device, folder = torch.device(task.device), _tiny("llama", task.out)
    model = read_model(folder)
    config = load_config(folder, model.num_hidden_layers)
    shard = load_shard(config, RandomWeights(torch.bfloat16, device), rank=0, tp=2)
    ids = torch.randint(3, 131, (2, 96), generator=torch.Generator().manual_seed(0)).to(device)
    embedded = torch.nn.functional.embedding(ids, torch.randn(131, 64).to(device, torch.bfloat16))

    def late(seed: int) -> Callable[[Plan], Any]:
        """An all-reduce's stand-in: late by a random time, and it doubles the sums."""
        delays = random.Random(seed)  # noqa: S311 (delays, not secrets)

        def wait() -> None:
            if seed and not task.cpu and delays.random() < 0.5:
                torch.cuda._sleep(delays.randrange(1, 400_000))

        def double(partial: torch.Tensor) -> None:
            wait()
            partial.mul_(2)
            wait()

        return lambda _: {"all_reduce": double}

    for plan in (
        Plan(strategy="iso", chunks=(60, 36)),
        Plan(strategy="iso", chunks=(30, 40, 26), dropped=(1,)),
        Plan(strategy="gemm_overlap", chunks=(100, 92)),
        Plan(strategy="request_overlap", chunks=(1, 1)),
    ):
        found = []
        for seed in range(7):
            session = Session(shard, model, stand_in=late(seed))
            cache = session.cache(2, 96)
            program = session.program(plan, session.workload(ids, 0))
            found.append(session.executor(plan).run(program, embedded, cache).hidden.clone())
        same = sum(bool(torch.equal(found[0], one)) for one in found[1:])
        yield {"plan": plan.strategy, "same of 6": same, "finite": bool(found[0].isfinite().all())}


def held(task: Task) -> Iterator[Row]:
    """How much slower a GEMM is beside so many held SMs; expected: SMs / (SMs - held)."""
    import torch

    from isotune.validation.executor.emulation import Message, SmCopy

    device = torch.device(task.device)
    x, weight = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in "xw")
    sms = torch.cuda.get_device_properties(device).multi_processor_count
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in "be")
    copy, urgent = SmCopy(device), torch.cuda.Stream(device, priority=-1)

    def seconds() -> float:
        begin.record()
        for _ in range(15):
            torch.mm(x, weight)
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    seconds()
    alone = seconds()
    for count in (4, 8, 16, 32):
        copy(Message(sent=1 << 24, seconds=1e-4, sms=count))
        torch.cuda.synchronize()
        with torch.cuda.stream(urgent):
            copy(Message(sent=1 << 24, seconds=2 * alone, sms=count))
        yield {"held": count, "slower": seconds() / alone, "expected": sms / (sms - count)}


def transfers(task: Task) -> Iterator[Row]:
    """NCCL with one rank, a group with an SM budget, and quantised bytes against the CPU's."""
    import torch
    import torch.distributed as dist

    from isotune.validation.executor import group_of, nccl_options
    from isotune.validation.executor.collective_ops import (
        QUANTISERS,
        QuantisedAllReduce,
        TorchCodec,
        codec_of,
    )
    from isotune.validation.measure.timed_kernels import seconds_of

    device = torch.device(task.device)
    torch.cuda.set_device(device)
    with tempfile.NamedTemporaryFile() as meeting:
        dist.init_process_group(
            "nccl",
            init_method=f"file://{meeting.name}",
            rank=0,
            world_size=1,
            pg_options=nccl_options(),
        )
        x = torch.randn(2048, 8192, device=device, dtype=torch.bfloat16)
        dist.all_reduce(x, group=group_of(None, cuda=True, sms=4))
        yield {"what": "a group with 4 SMs", "ok": True}
        for name, quantiser in QUANTISERS.items():
            reduce = QuantisedAllReduce(quantiser, 1)
            message = x.clone()
            reduce(message)
            packed = codec_of(quantiser, device).quantise(x.view(-1), 1)
            want = TorchCodec(quantiser).quantise(x.cpu().view(-1), 1)

            def run(reduce: Any = reduce, message: Any = message) -> object:
                return reduce(message)

            yield {
                "what": f"{name} transfer",
                "us": 1e6 * seconds_of(run, 20, device),
                "ok": bool(torch.equal(packed.cpu(), want)),
            }
        dist.destroy_process_group()


def kernels(task: Task) -> Iterator[Row]:
    """Kernels measured, a profile calibrated to them, and the profile against the measurements."""
    table, profile = task.out / "here.csv", task.out / "here.yaml"
    tokens = "96" if task.cpu else "8k"
    wanted = ["--model", task.model, "--device", "cpu" if task.cpu else "cuda"]
    if not task.cpu:
        wanted += ["--tp", "8"]
    commands = (
        [
            "measure",
            "-o",
            table,
            "--name",
            "here",
            "--tokens",
            tokens,
            "--seconds",
            "0.05",
            *wanted,
        ],
        ["calibrate", table, "--base", task.machine, "-o", profile],
        ["check", table, "--hw", profile],
    )
    for command in commands:
        yield _ran(task, *command)


def emulated(task: Task) -> Iterator[Row]:
    """Rank 0 of 8: serial and ISO, launched one by one and from a graph, beside predictions."""
    import isotune

    calibrated = task.out / "here.yaml"
    hardware = str(calibrated) if calibrated.exists() and not task.cpu else task.machine
    for prompt in task.prompts:
        scenario = isotune.scenario(task.model, hardware, prompt=prompt, tp=8)
        half = prompt // 2
        plan = isotune.Plan(strategy="iso", chunks=(half, prompt - half))
        file = task.out / f"plan-{prompt}.yaml"
        isotune.write_plan(
            isotune.predict(scenario, plan), file, hardware=hardware, model=task.model
        )
        for launch in ("eager", "graph"):
            yield _emulation(task, file, prompt, launch)


def _emulation(task: Task, file: Path, prompt: int, launch: str) -> Row:
    device = "cpu" if task.cpu else "cuda"
    layers = () if task.cpu else ("--layers", "4")
    row = _ran(
        task,
        *("validate", file, "--emulate-tp", "8", "--device", device, "--launch", launch),
        *("--repeat", "5", "--json", *layers),
    )
    told = row.pop("printed", "")
    about = {"tokens": prompt, "launch": launch}
    if row["exit code"]:
        return about | row
    time_of = json.loads(told)["time"]
    return about | {
        "serial ms": _ms(time_of["serial_measured_s"]),
        "serial predicted ms": _ms(time_of["serial_predicted_s"]),
        "ISO ms": _ms(time_of["measured_s"]),
        "ISO predicted ms": _ms(time_of["predicted_s"]),
        "host ms": _ms(time_of["host_s"]),
        "saving": time_of["measured_saving"],
        "predicted saving": time_of["predicted_saving"],
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


PARTS = {
    "machine": Part("What it ran on", 60, False, machine),
    "numbers": Part("Numbers against transformers on the device", 120, False, numbers),
    "attention": Part("One attention kernel", 60, False, attention),
    "races": Part("No race under random delays", 90, False, races),
    "held": Part("A copy holds its SMs", 60, True, held),
    "transfers": Part("Collectives and quantised transfers", 60, True, transfers),
    "kernels": Part("Kernels measured, calibrated, checked", 200, False, kernels),
    "emulated": Part("Rank 0 of 8, emulated", 240, False, emulated),
}


def _tiny(family: str, out: Path) -> Path:
    """A tiny model of a family with random weights, made once."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = out / "models" / family
    if (folder / "model.safetensors").exists():
        return folder
    sizes = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 8 if family == "opt" else 4,
        "intermediate_size": 128,
        "ffn_dim": 128,
        "word_embed_proj_dim": 64,
        "vocab_size": 131,
        "max_position_embeddings": 256,
        "head_dim": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **sizes)
    net = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.normal_().mul_(parameter.shape[-1] ** -0.5)
    net.save_pretrained(folder)
    return folder


def _ran(task: Task, *words: object) -> Row:
    """A command of isotune, as a user runs it; its output lies beside the results."""
    command = [sys.executable, "-m", "isotune", *map(str, words)]
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    name = f"{words[0]}-{len(list(task.out.glob('*.txt')))}.txt"
    (task.out / name).write_text(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    row = {
        "command": str(words[0]),
        "exit code": done.returncode,
        "seconds": time.perf_counter() - begin,
    }
    if done.returncode == 0:
        return row | {"printed": done.stdout} if "--json" in words else row
    said = (done.stderr or done.stdout).strip().splitlines()
    return row | {"failed": said[-1] if said else "it said nothing"}


def _environment() -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": paths}


def run_part(name: str, out: Path, *, cpu: bool) -> Row:
    """A part in a process of its own: its rows, how long it took, and why it ended early."""
    part = PARTS[name]
    if part.gpu and cpu:
        return {"rows": [], "seconds": 0.0, "skipped": "needs a GPU"}
    command = [sys.executable, __file__, str(out), "--inside", name]
    begin = time.perf_counter()
    try:
        done = subprocess.run(
            [*command, *(["--device", "cpu"] if cpu else [])],
            capture_output=True,
            text=True,
            timeout=part.limit_s,
            check=False,
            env=_environment(),
        )
        printed, failure = done.stdout, None
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            failure = lines[-1] if lines else f"exit code {done.returncode}"
    except subprocess.TimeoutExpired as error:
        printed = (error.stdout or b"").decode()
        failure = f"took longer than {part.limit_s:g} s"
    rows = [json.loads(x.removeprefix(MARK)) for x in printed.splitlines() if x.startswith(MARK)]
    return {"rows": rows, "seconds": time.perf_counter() - begin, "failed": failure}


def page(results: dict[str, Row]) -> str:
    """What was found, as a page of the documentation."""
    lines = ["# One GPU", "", f"`python experiments/one_gpu.py OUT`, {time.strftime('%Y-%m-%d')}."]
    for name, found in results.items():
        lines += ["", f"## {PARTS[name].about}", ""]
        why = found.get("failed") or found.get("skipped")
        if why:
            lines += [f"**Ended early**: {why}." if found.get("failed") else f"Not run: {why}.", ""]
        columns = list(dict.fromkeys(key for row in found["rows"] for key in row))
        if columns:
            lines += [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
            lines += [
                f"| {' | '.join(_cell(row.get(key)) for key in columns)} |" for row in found["rows"]
            ]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "/").replace("\n", " ")


def main() -> int:
    """Run the parts; 1 where one ended early or a check of one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cpu = options.device == "cpu"
    if options.inside:
        for row in PARTS[options.inside].work(Task(out=options.out, cpu=cpu)):
            print(MARK + json.dumps(row), flush=True)
        return 0
    unknown = set(options.parts.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"--parts: {', '.join(sorted(unknown))} (allowed: {', '.join(PARTS)})")
    file = options.out / "results.json"
    results: dict[str, Row] = json.loads(file.read_text()) if file.exists() else {}
    for name in options.parts.split(","):
        results[name] = found = run_part(name, options.out, cpu=cpu)
        said = found.get("failed") or found.get("skipped") or f"{len(found['rows'])} rows"
        print(f"{name}: {said} ({found['seconds']:.0f} s)", flush=True)
        file.write_text(json.dumps(results, indent=1))
        (options.out / "one_gpu.md").write_text(page(results))
    wrong = [row for found in results.values() for row in found["rows"] if _wrong(row)]
    return int(bool(wrong) or any(found.get("failed") for found in results.values()))


def _wrong(row: Row) -> bool:
    return row.get("ok") is False or "failed" in row or row.get("same of 6", 6) != 6


if __name__ == "__main__":
    sys.exit(main())
