"""Broken and hostile files of every kind, given to the commands that read them.

A command must answer in ten seconds: a result, or one line that is no traceback and no longer than
a screen. `tests/isotune/test_hostile_files.py` runs a little of this; by hand, for longer:

    python experiments/fuzz.py --seconds 600 --seed 1
"""

import argparse
import contextlib
import csv
import functools
import io
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from isotune import hw_profiles
from isotune.cli import main

SLOW_S = 10.0
LONGEST = 500
"""Characters of a line on standard error."""
FORGED = "FORGED LINE"
HOSTILE = (
    f"=HYPERLINK(1)[/x][bold red]b\x1b[31m\x07\n{FORGED}\r<img src=x onerror=alert(1)>{{{{7*7}}}}",
    f"@x\u202e\u2028{FORGED}\x85{FORGED} !!python/object:os.system %s {{0}} \x00&amp;",
)
"""What a text may hold to reach the terminal, a spreadsheet, a page, YAML or a template."""
NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 2**31, 2**63, 2**64, 10**400, 0.0, -0.0, 1e-300, 1e300, 1e18, 0.1),
    *(float("inf"), float("nan"), True, False),
)
ODD: tuple[Any, ...] = (
    *NUMBERS,
    *(None, "", " ", [], {}, [[]], [None], "0", "1e999", "nan", "-1", "1:2", "9" * 5000),
    *("a" * 300, "../../etc/passwd", "/dev/zero", "\ud800", "é", *HOSTILE),
)
GEMMS = "op,hw,dtype,m,n,k,latency_us,source\n" + "".join(
    f"gemm,a800,bf16,{m},4096,{k},{max(9.0, m * 4096 * k * 2 / 2.4e8 * (1 + m % 7 / 40)):.2f},me\n"
    for m in (1, 128, 512, 2048)
    for k in (1024, 8192)
)
SERVED = """\
source,hw,model,dtype,tp,engine,concurrency,isl,osl,ttft_ms,tpot_ms
me,h100,llama-3.1-8b,fp8,2,vllm 0.12.0,4,1024,256,60,4.5
me,h100,llama-3.1-8b,,2,trtllm,8,1024,256,90,6.5
"""
RUNS = """hw,model,tp,batch,prompt_len,phase,steps,link,runtime,strategy,latency_ms,source
h100,Qwen2.5-72B-Instruct,8,1,4096,prefill,1,nvlink_multimem,vllm_eager,serial,180,me
"""
CONTENTION = """op,hw,dtype,m,n,k,batch,q_len,kv_len,heads,kv_heads,head_dim,bytes,ranks,algorithm,\
sms,alone_us,beside_us,all_reduce_alone_us,all_reduce_beside_us,skew_us,source
gemm,x,bf16,512,768,512,,,,,,,524288,2,nccl,0,1000,1250,4000,5000,200,measured
attention,x,bf16,,,,1,512,1024,4,4,64,524288,2,nccl,0,1000,1250,4000,5000,-200,measured
"""
LOG = """# nccl-tests version 2.17.6 nccl-headers=22703 nccl-library=22703
# nThread 1 nGpus 8 minBytes 1048576 maxBytes 268435456 step: 4(factor) warmup iters: 5 iters: 20
#  Rank  0 Group  0 Pid  28307 on      node1 device  0 [0x16] NVIDIA A100-SXM4-80GB
#  Rank  1 Group  0 Pid  28307 on      node1 device  1 [0x16] NVIDIA A100-SXM4-80GB
#       size         count      type   redop    root     time   algbw   busbw #wrong     time
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)
       65536         32768      half     sum      -1    30.00    2.18    3.82      0    29.70
     1048576        524288      half     sum      -1    34.53   30.36   53.13      0    34.19
"""
TOPO = """\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity
GPU0\t X \tNV12\t0-63\t0
GPU1\tNV12\t X \t0-63\t0
"""
TRACE = {
    "schemaVersion": 1,
    "deviceProperties": [{"id": 0, "name": "NVIDIA H100 80GB HBM3"}],
    "distributedInfo": {"backend": "nccl", "rank": 0, "world_size": 2},
    "traceEvents": [
        {
            "ph": "M",
            "name": "process_name",
            "pid": 0,
            "tid": 0,
            "ts": 0,
            "args": {"name": "python"},
        },
        *(
            {
                "ph": "X",
                "cat": "user_annotation" if "#" in name else "kernel",
                "name": name,
                "pid": 0,
                "tid": stream,
                "ts": 5e6 + ts + 50 * block,
                "dur": dur,
                "args": {"device": 0, "stream": stream, "correlation": 10 * block + ts, **sent},
            }
            for block in range(3)
            for name, stream, ts, dur, sent in (
                (f"ProfilerStep#{block}", 1, 0, 40, {}),
                ("nvjet_tst_128x256_64x4_TNT", 7, 0, 20, {}),
                (
                    "ncclDevKernel_AllReduce_Sum_bf16_RING_LL",
                    *(20, 21, 12),
                    {
                        "Collective name": "allreduce",
                        "In msg nelems": 65536,
                        "Out msg nelems": 65536,
                        "Group size": 2,
                        "dtype": "BFloat16",
                    },
                ),
                ("my_kernel", 7, 33, 4, {}),
            )
        ),
    ],
}
KERNEL_NAMES = {
    "kernels": [{"op": "mine", "stream": "compute", "words": ["my_kernel"]}],
    "passes": ["my pass"],
}
SYSTEM = {
    "data_dir": "data/big_sxm",
    "gpu": {"mem_bw": 3350000000000, "mem_capacity": 85899345920, "float16_tc_flops": 989e12},
    "node": {"num_gpus_per_node": 8, "inter_node_bw": 5e10, "intra_node_bw": 450000000000},
    "misc": {"nccl_version": "2.27.3"},
}
TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 131,
    "max_position_embeddings": 4096,
}
SENSITIVITY = {
    "model": "tiny",
    "blocks": [0.02, 0.001, 0.0001, -0.0001],
    "transfer": {"int8": 0.001},
    "treatments": {"bias": [0.01, 0.0005, 0.0, -0.0001]},
}
GRID = {
    "hardware": ["a800"],
    "model": ["tiny"],
    "tp": [2],
    "prompt": [64, 128],
    "strategy": ["iso"],
}
_CASE = ("--hw", "a800", "--model", "tiny", "--tp", "2", "--prompt", "256")
_ISO = ("--strategy", "iso", "--chunks", "128,128")


class Format(NamedTuple):
    """How a file's text becomes plain data (lists and dicts), and data a text."""

    read: Callable[[str], Any]
    write: Callable[[Any], str]


def _csv_text(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


_FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader), getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""The harness's own reader and writer of YAML: LibYAML's, where PyYAML was built with it."""


def _yaml_data(text: str) -> Any:
    return yaml.load(text, Loader=_FAST[0])  # noqa: S506  (a SafeLoader)


def _yaml_text(data: Any) -> str:
    return str(yaml.dump(data, Dumper=_FAST[1], sort_keys=False, allow_unicode=True))


YAML = Format(_yaml_data, _yaml_text)
JSON = Format(json.loads, json.dumps)
CSV = Format(lambda text: list(csv.reader(io.StringIO(text))), _csv_text)
WORDS = Format(
    lambda text: [line.split("\t" if "\t" in line else " ") for line in text.splitlines()],
    lambda rows: "\n".join(" ".join(map(str, row)) for row in rows) + "\n",
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file: its name, its format, and the commands that read it as `{}`."""

    name: str
    format: Format
    commands: tuple[tuple[str, ...], ...]


RESULTS = (
    *("prediction", "search", "policy", "sweep", "check", "runs", "calibration", "traced"),
    *("steps", "deployments", "comparison", "shared search"),
)
"""Kinds of files that isotune has written."""
_REPORT = (("report", "{}", "-o", "out.html"),)
_RESULT = {
    name: Kind(name=f"{name.replace(' ', '_')}.json", format=JSON, commands=_REPORT)
    for name in RESULTS
}
KINDS: dict[str, Kind] = {
    "profile": Kind(
        name="mine.yaml",
        format=YAML,
        commands=(
            ("hw", "show", "{}"),
            ("hw", "diff", "{}", "a800"),
            ("predict", "--hw", "{}", *_CASE[2:], "--json"),
            ("predict", "--hw", "{}", *_CASE[2:], *_ISO, "--trace", "out.json"),
            ("calibrate", "gemms.csv", "--base", "{}", "-o", "out.yaml"),
        ),
    ),
    "derived profile": Kind(name="near.yaml", format=YAML, commands=(("hw", "show", "{}"),)),
    "model": Kind(
        name="config.json",
        format=JSON,
        commands=(
            ("predict", "--hw", "a800", "--model", "{}", "--tp", "2", "--prompt", "256"),
            ("models", "show", "{}", "--json"),
        ),
    ),
    "plan": Kind(
        name="plan.yaml",
        format=YAML,
        commands=(
            ("predict", "--plan", "{}"),
            ("export", "{}", "--to", "csv"),
            ("export", "{}", "--to", "json"),
            ("export", "{}", "--to", "vllm"),
            *_REPORT,
        ),
    ),
    "policy file": Kind(
        name="policy.yaml",
        format=YAML,
        commands=(
            ("predict", "--policy", "{}", "--prompt", "300"),
            ("export", "{}", "--to", "csv"),
            ("export", "{}", "--to", "tokenweave"),
            *_REPORT,
        ),
    ),
    "sensitivity": Kind(
        name="sensitivity.json",
        format=JSON,
        commands=(
            ("search", *_CASE, "--sensitivity", "{}", "--trials", "2", "-o", "out.yaml"),
            *_REPORT,
        ),
    ),
    "measurements": Kind(
        name="gemms.csv",
        format=CSV,
        commands=(
            ("check", "{}", "--hw", "a800"),
            ("calibrate", "{}", "--base", "a100", "-o", "out.yaml", "--date", "2026-01-31"),
        ),
    ),
    "whole passes": Kind(name="runs.csv", format=CSV, commands=(("check", "{}"),)),
    "served models": Kind(name="served.csv", format=CSV, commands=(("check", "{}"),)),
    "contention": Kind(
        name="contention.csv",
        format=CSV,
        commands=(
            ("calibrate", "gemms.csv", "--base", "a100", "-o", "out.yaml", "--contention", "{}"),
        ),
    ),
    "swept table": Kind(name="table.csv", format=CSV, commands=_REPORT),
    "prompt lengths": Kind(
        name="lengths.csv",
        format=CSV,
        commands=(("search", *_CASE[:6], "--prompts", "{}", "-o", "out.yaml"),),
    ),
    "grid": Kind(
        name="grid.yaml",
        format=YAML,
        commands=(("sweep", "{}", "-o", "out.csv", "--jobs", "1"),),
    ),
    "nccl-tests log": Kind(
        name="all_reduce.log",
        format=WORDS,
        commands=(("import", "nccl-tests", "{}", "-o", "out.csv"),),
    ),
    "topology": Kind(
        name="topo.txt",
        format=WORDS,
        commands=(("import", "topo", "{}", "--from", "a100", "-o", "out.yaml"),),
    ),
    "aiconfigurator system": Kind(
        name="system.yaml",
        format=YAML,
        commands=(("import", "aiconfigurator", "{}", "--from", "h100", "-o", "out.yaml"),),
    ),
    "engine trace": Kind(
        name="trace.json",
        format=JSON,
        commands=(("import", "trace", "{}"), ("import", "trace", "{}", "-o", "out.csv")),
    ),
    "kernel names": Kind(
        name="kernels.yaml",
        format=YAML,
        commands=(("import", "trace", "trace.json", "--kernels", "{}"),),
    ),
    **_RESULT,
}
"""Every kind of file that a command reads and that can be hostile."""
UNSAID = (TypeError, ValueError, csv.Error, yaml.YAMLError)
"""What a format raises on data that it cannot say."""
LOADED_ONLY = ("grid",)
"""Kinds whose command starts processes, so that few of them run."""


class Outcome(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str
    seconds: float
    trace: str = ""


def run(*arguments: str) -> Outcome:
    """Run a command in this process."""
    out, err, begun, trace, code = io.StringIO(), io.StringIO(), time.perf_counter(), "", 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            first = next(iter(str(error).splitlines()), "")
            trace = f"{type(error).__name__}: {first:.120} ({where.filename}:{where.lineno})"
    return Outcome(code, out.getvalue(), err.getvalue(), time.perf_counter() - begun, trace)


def examples(folder: Path) -> dict[str, str]:
    """A sound file of each kind, by kind; `folder` is the working directory, and has them all."""
    (folder / "tiny").mkdir()
    (folder / "tiny" / "config.json").write_text(json.dumps(TINY))
    profile = (Path(hw_profiles.__file__).parent / "a800.yaml").read_text(encoding="utf-8")
    near = (Path(hw_profiles.__file__).parent / "a40.yaml").read_text(encoding="utf-8")
    texts = {
        "profile": profile,
        "derived profile": near,
        "model": json.dumps(TINY),
        "sensitivity": json.dumps(SENSITIVITY),
        "measurements": GEMMS,
        "whole passes": RUNS,
        "served models": SERVED,
        "contention": CONTENTION,
        "prompt lengths": "tokens,count\n200,5\n700,3\n",
        "grid": _yaml_text(GRID),
        "nccl-tests log": LOG,
        "topology": TOPO,
        "aiconfigurator system": _yaml_text(SYSTEM),
        "engine trace": json.dumps(TRACE),
        "kernel names": _yaml_text(KERNEL_NAMES),
    }
    for kind, text in texts.items():
        (folder / KINDS[kind].name).write_text(text, encoding="utf-8")
    few = ("--trials", "4")
    prompts = ("--hw", "rtx4090", "--model", "tiny", "--prompt", "256:1k")
    commands = {
        "prediction": ("predict", *_CASE, *_ISO),
        "search": ("search", *_CASE, *few, "-o", "plan.yaml"),
        "policy": ("search", *prompts, "-o", "policy.yaml"),
        "sweep": ("sweep", "grid.yaml", "-o", "table.csv", "--jobs", "1"),
        "check": ("check", "gemms.csv"),
        "runs": ("check", "runs.csv"),
        "calibration": ("calibrate", "gemms.csv", "--base", "a100", "-o", "fitted.yaml"),
        "traced": ("import", "trace", "trace.json"),
        "steps": ("search", *_CASE[:6], "--prompt", "512", "--token-budget", "128"),
        "deployments": ("search", *_CASE[:4], "--tp", "2,4", "--prompt", "256"),
        "comparison": ("compare", *_CASE),
        "shared search": ("search", *_CASE, *few, "--storage", "journal:///study.log"),
    }
    for kind, command in commands.items():
        found = run(*command, "--json")
        if found.code or found.trace:
            raise RuntimeError(f"{command}: {found.err}{found.trace}")
        texts[kind] = found.out
        (folder / KINDS[kind].name).write_text(found.out, encoding="utf-8")
    for kind in ("plan", "policy file", "swept table"):
        texts[kind] = (folder / KINDS[kind].name).read_text(encoding="utf-8")
    return texts


def leaves(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values that hold no others."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from leaves(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from leaves(value, (*path, index))
    else:
        yield path


def changed(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of data with another value at a path."""
    if not path:
        return value
    copy = data.copy()
    copy[path[0]] = changed(data[path[0]], path[1:], value)
    return copy


def mutated(data: Any, chance: random.Random) -> Any:
    """Data with a value, a key or an entry that is not as it should be."""
    path = list(chance.choice(list(leaves(data))))
    at = path[: chance.randint(0, len(path))] if chance.random() < 0.3 else path
    value = data
    for key in at:
        value = value[key]
    what = chance.randrange(6)
    odd: Any = chance.choice(ODD)
    if what == 0 and isinstance(value, dict) and value:
        key = chance.choice(list(value))
        odd = {(chance.choice(HOSTILE) if k == key else k): v for k, v in value.items()}
    elif what == 1 and isinstance(value, (dict, list)) and value:
        odd = value.copy()
        odd.pop(chance.choice(list(value)) if isinstance(value, dict) else -1)
    elif what == 2 and isinstance(value, list) and value:
        odd = value * chance.choice((2, 3, 100))
    elif what == 3 and isinstance(value, (int, float)):
        factor = chance.choice((-1, 2, 1e-9, 1e3, 1e9, 1e15, 0))
        with contextlib.suppress(OverflowError):  # an integer beyond the floats stays odd
            odd = value * factor
    elif what == 4 and isinstance(value, str) and value:
        cut = chance.randrange(len(value))
        odd = value[:cut] + chance.choice(("", "\x00", "9", "e9", *HOSTILE)) + value[cut + 1 :]
    return changed(data, tuple(at), odd)


def mutated_bytes(data: bytes, chance: random.Random) -> bytes:
    """Bytes of which some are others, missing, or there twice."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(found) + 1)
        what = chance.randrange(4)
        if what == 0:
            found[at : at + 1] = bytes([chance.randrange(256)])
        elif what == 1:
            del found[at : at + chance.choice((1, 2, 10, 1000))]
        elif what == 2:
            found[at:at] = found[at : at + chance.choice((1, 5, 100))]
        else:
            found[at:at] = chance.choice((b"\0", b"-", b"0", b"e9", b'"', b"\n", b"\xff\xfe", b"{"))
    return bytes(found)


@functools.cache
def _read(kind: Kind, text: str) -> Any:
    return kind.format.read(text)


def one_input(kind: Kind, text: str, chance: random.Random) -> bytes:
    """A file of a kind with one to three mutations, of its data or of its bytes."""
    if chance.random() < 0.25:
        return mutated_bytes(text.encode(), chance)
    data = _read(kind, text)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if isinstance(data, (dict, list)) and any(True for _ in leaves(data)):
            data = mutated(data, chance)
    try:
        return kind.format.write(data).encode("utf-8", "surrogatepass")
    except UNSAID:
        return mutated_bytes(text.encode(), chance)


def complaint(found: Outcome, data: bytes = b"") -> str:
    """What is wrong with a command's answer to a broken file; empty if nothing is."""
    if found.trace:
        return found.trace
    checks = {
        f"took {found.seconds:.0f} s": found.seconds > SLOW_S,
        f"exit code {found.code}": found.code not in (0, 1, 2),
        "an escape code or a control character": any(
            not c.isprintable() and c != "\n" for c in found.out + found.err
        ),
        "a forged line": any(
            line.startswith(FORGED) for line in (found.out + found.err).splitlines()
        ),
        "no single line on standard error": found.code == 2 and found.err.count("\n") != 1,
        f"a line of {len(found.err)} characters": found.code == 2 and len(found.err) > LONGEST,
        "inf or nan": any(
            word in found.out.split() and word.encode() not in data
            for word in ("inf", "nan", "NaN", "Infinity")
        ),
    }
    return "; ".join(text for text, wrong in checks.items() if wrong)


def campaign(seconds: float, seed: int, most: int | None = None) -> tuple[int, Counter[str]]:
    """Broken files for some time in the working directory; how many, and complaints by kind."""
    folder = Path.cwd()
    texts, complaints, count = examples(folder), Counter[str](), 0
    chance, end = random.Random(seed), time.monotonic() + seconds  # noqa: S311
    kinds = [name for name in KINDS if name not in LOADED_ONLY]
    while time.monotonic() < end and (most is None or count < most):
        name = chance.choice(kinds) if chance.random() > 0.01 else "grid"
        kind = KINDS[name]
        data = one_input(kind, texts[name], chance)
        file = folder / "fuzzed" / kind.name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
        command = [word.replace("{}", str(file)) for word in chance.choice(kind.commands)]
        found = run(*command)
        count += 1
        if wrong := complaint(found, data):
            first = wrong not in complaints
            complaints[wrong] += 1
            if first:
                kept = folder / f"found-{len(complaints)}-{kind.name}"
                kept.write_bytes(data)
                print(f"{kept.name}: {' '.join(command[:3])}: {wrong}", flush=True)
    return count, complaints


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that were answered wrongly")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="fuzz"))
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    count, complaints = campaign(given.seconds, given.seed)
    print(f"{count} inputs, {sum(complaints.values())} answered wrongly in {len(complaints)} ways")
    print(f"files in {folder}")
    sys.exit(bool(complaints))


if __name__ == "__main__":
    _main()
