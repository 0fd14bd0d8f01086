"""The loop closed without a GPU: measure, calibrate, search, validate, on links of three rates.

    python experiments/cpu_loop.py [--ranks 2] [--quick] [--keep FOLDER] [--page docs/loop.md]

Ranks run in network namespaces whose links are paced, so that communication takes half, as
much as, and twice the compute. For each rate the table has the serial run, ISO, SPD and both,
predicted beside measured, and a measured scan of two-chunk splits beside the predicted best.
Needs root, `ip` and `tc`; says why and ends with code 77 where namespaces are not allowed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from first_in_line import first_in_line
from netns import Network, NoNamespacesError, network

from isotune.simulator.architecture import load_model
from isotune.simulator.files import ModelReference
from isotune.simulator.machine import HardwareProfile, read_profile

SKIPPED = 77
RATIOS = (0.5, 1.0, 2.0)
MODEL = {
    "model_type": "llama",
    "hidden_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "intermediate_size": 1376,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
}
UNPACED = 20e9
LEAST = 128
"""Fewest rows measured: no plan that is searched has smaller chunks."""
CROSSINGS = 8.0
"""Memory traffic of an all-reduced byte: two copies through the kernel, each way, and the sum."""
SCAN = Path(__file__).with_name("split_scan.py")
ISOTUNE = [sys.executable, "-m", "isotune"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one small rate: does it all run?")
    parser.add_argument("--keep", type=Path, help="folder for all files")
    parser.add_argument("--page", type=Path, help="file for the table, with what it was made on")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    first_in_line()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="isotune-loop-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with network(options.ranks) as net:
            loop = Loop(net, folder.resolve(), options.quick)
            loop.run()
    except NoNamespacesError as error:
        print(f"skipped: {error}")
        return SKIPPED
    if options.page is not None:
        options.page.write_text(_page(loop, load))
    return 0


class Loop:
    """One closed loop: a network, a folder for its files, and how much to run."""

    def __init__(self, net: Network, folder: Path, quick: bool) -> None:
        self.net, self.folder, self.quick = net, folder, quick
        self.lines: list[str] = []
        self.times: list[dict[str, Any]] = []
        self.splits_off: list[float] = []
        self.ranks, self.prompt = len(net.namespaces), 256 if quick else 1024
        layers = 2 if quick else MODEL["num_hidden_layers"]
        (folder / "config.json").write_text(json.dumps(MODEL | {"num_hidden_layers": layers}))
        self.repeat = "3" if quick else "15"

    def run(self) -> None:
        """Find where fits begin and how fast compute is, then go around for each rate."""
        self.net.pace(UNPACED)
        kernels = self.measure("kernels", "gemm,attention,rms_norm")
        self.net.pace(UNPACED)
        base = self.fitted(kernels)
        syncs = 2 * json.loads((self.folder / "config.json").read_text())["num_hidden_layers"]
        sent = self.prompt * int(str(MODEL["hidden_size"])) * 2 * 2 * (self.ranks - 1) / self.ranks
        serial = self.validate("serial", self.plan("serial", base, {}))
        compute = sum(
            kind["measured_s"]
            for name, kind in serial["time"]["kinds"].items()
            if not name.endswith("sync")
        )
        self.show(_HEADER)
        for ratio in RATIOS[1:2] if self.quick else RATIOS:
            rate = syncs * sent * 8 / (ratio * compute)
            self.net.pace(rate)
            self.around(f"r{ratio:g}", ratio, rate, base)

    def around(self, name: str, ratio: float, rate: float, base: Path) -> None:
        """Measure at one rate, calibrate, search, and validate what was found.

        Kernels are measured anew for each rate, since a machine is not as fast at all times.
        """
        table = self.measure(f"{name}-measured", "gemm,attention,rms_norm,all_reduce,contention")
        profile = self.folder / f"{name}.yaml"
        beside = str(table.with_name(f"{table.stem}-contention.csv"))
        self.isotune(
            *("calibrate", str(table), "--contention", beside),
            *("--base", str(base), "-o", str(profile)),
        )
        found = self.search(name, profile)
        best = found["plan"]
        iso = best if best["strategy"] == "iso" else {"strategy": "iso", "chunks": self.even()}
        lossless = {"strategy": "iso", "chunks": iso["chunks"]}
        dropped = {"dropped": list(range(found["blocks"]))}
        for label, plan in (("ISO", lossless), ("SPD", dropped), ("both", lossless | dropped)):
            path = self.plan(f"{name}-{label}", profile, plan)
            result = self.validate(f"{name}-{label}", path)
            self.show(_row(label, ratio, rate, result["time"]))
            self.times.append(result["time"])
            if not result["numbers"]["ok"]:
                raise SystemExit(f"{path}: the numbers are not the model's")
        if not self.quick:
            self.scan(name, profile, lossless["chunks"])

    def scan(self, name: str, profile: Path, predicted: Sequence[int]) -> None:
        """Measure splits in turns; how far the predicted best is from the best of them."""
        firsts = [round(self.prompt * share / 16) for share in (5, 6, 7, 8, 9, 10, 11)]
        splits = [f"{first}+{self.prompt - first}" for first in firsts]
        own = "+".join(map(str, predicted))
        path = self.plan(f"{name}-scan", profile, {"strategy": "iso", "chunks": self.even()})
        done = self.ranked(
            *(str(SCAN), str(path), "--splits", ",".join(dict.fromkeys((*splits, own)))),
            *("--repeat", "40"),
            program=[sys.executable],
        )
        times = {split: median(runs) for split, runs in json.loads(done).items()}
        best = min(times, key=lambda split: times[split])
        text = ", ".join(f"{split} {time * 1e3:.1f}" for split, time in times.items())
        self.splits_off.append(times[own] / times[best] - 1)
        self.show(f"      ms by split: {text}")
        self.show(f"      best {best}, predicted best {own}: {self.splits_off[-1]:.1%} above it")

    def show(self, line: str) -> None:
        """Print a line, and keep it for the page."""
        self.lines.append(line)
        print(line, flush=True)

    def measure(self, name: str, ops: str) -> Path:
        """Microbenchmarks, every rank in its namespace."""
        table = self.folder / f"{name}.csv"
        seconds = "0.01" if self.quick else "0.1"
        self.ranked(
            *("measure", "-o", str(table), "--name", "cpu-gloo", "--model", str(self.folder)),
            *("--nproc", str(self.ranks), "--tokens", f"{LEAST}:{self.prompt}", "--device", "cpu"),
            *("--ops", ops, "--seconds", seconds),
        )
        return table

    def base(self, kernels: Path) -> Path:
        """A profile to calibrate: the specification of this machine as its best rows show it."""
        rows = [dict(row) for row in _rows(kernels)]
        gemms = [row for row in rows if row["op"] == "gemm"]
        flops = max(2e6 * m * n * k / t for m, n, k, t in (_numbers(r, "mnk") for r in gemms))
        norms = [_numbers(row, ("tokens", "hidden")) for row in rows if row["op"] == "rms_norm"]
        bandwidth = max(8e6 * tokens * hidden / t for tokens, hidden, t in norms)
        path = self.folder / "base.yaml"
        fields = cpu_profile(read_profile("a100"), self.ranks, flops * 1.1, bandwidth * 1.1)
        path.write_text(yaml.safe_dump(fields, sort_keys=False))
        read_profile(str(path))
        return path

    def fitted(self, kernels: Path) -> Path:
        """The base with its kernels fitted, for all rates to start from.

        A fit stays near its base where that is a relative. A CPU has none, so what the base
        pulls the first fit away from the rows is undone by the second, which starts there.
        """
        path = self.folder / "fitted.yaml"
        self.isotune("calibrate", str(kernels), "--base", str(self.base(kernels)), "-o", str(path))
        return path

    def search(self, name: str, profile: Path) -> dict[str, Any]:
        """The best lossless plan, and how many blocks there are."""
        done = self.isotune(
            *("search", "--hw", str(profile), "--model", str(self.folder), "--json"),
            *("--tp", str(self.ranks), "--prompt", str(self.prompt), "--trials", "100"),
            *("-o", str(self.folder / f"{name}-plan.yaml")),
        )
        blocks = json.loads((self.folder / "config.json").read_text())["num_hidden_layers"]
        return dict(json.loads(done)) | {"blocks": blocks}

    def plan(self, name: str, profile: Path, plan: dict[str, Any]) -> Path:
        """A plan file for this loop's model and workload."""
        model = ModelReference.of(load_model(str(self.folder)), str(self.folder))
        fields = {
            "hardware": str(profile),
            "model": model.model_dump(),
            "workload": {"prompt": self.prompt, "tp": self.ranks},
            "plan": plan,
        }
        path = self.folder / f"{name}.plan.yaml"
        path.write_text(yaml.safe_dump(fields))
        return path

    def validate(self, name: str, plan: Path, check: str = "float32") -> dict[str, Any]:
        """Run a plan in the namespaces."""
        trace = str(self.folder / f"{name}.trace.json")
        done = self.ranked(
            *("validate", str(plan), "--json", "--device", "cpu", "--trace", trace),
            *("--repeat", self.repeat, "--check-dtype", check),
        )
        return dict(json.loads(done))

    def even(self) -> list[int]:
        """An even split."""
        return [self.prompt // 2, self.prompt - self.prompt // 2]

    def isotune(self, *arguments: str) -> str:
        """A command in one process; what it prints."""
        done = subprocess.run(
            [*ISOTUNE, *arguments], capture_output=True, text=True, env=_environment(), check=False
        )
        if done.returncode:
            raise SystemExit(f"isotune {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def ranked(self, *arguments: str, program: Sequence[str] = ISOTUNE) -> str:
        """A command on every rank, each in its namespace; what rank 0 prints."""
        ranks = [
            subprocess.Popen(
                self.net.command(rank, [*program, *arguments]),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=_environment(),
            )
            for rank in range(self.ranks)
        ]
        try:
            outputs = [process.communicate(timeout=900) for process in ranks]
        finally:
            for process in ranks:
                process.kill()
        failed = [rank for rank, process in enumerate(ranks) if process.returncode]
        if failed:
            raise SystemExit(f"isotune {arguments[0]}: {outputs[failed[0]][1].strip()}")
        return outputs[0][0]


def cpu_profile(
    like: HardwareProfile, ranks: int, flops: float, bandwidth: float
) -> dict[str, Any]:
    """The fields of a profile for CPU ranks over gloo, for calibrate to start from.

    A rank is a device with one execution unit, of which a collective holds none: what it takes
    from compute it takes in copies through memory. What no measurement says stays as `like`.
    """
    fields = like.model_dump(mode="json", exclude_none=True)
    inherited = ("calibration", "derived_from", "collectives_from")
    for name in (*inherited, "latent_attention", "experts"):
        fields.pop(name, None)
    for rate in ("fp8", "int8", "fp4"):
        fields["gpu"].pop(rate, None)
    fields["name"], fields["description"] = "cpu-gloo", f"{ranks} CPU ranks over gloo"
    fields["gpu"] = fields["gpu"] | {
        "sms": 1,
        "bf16": f"{flops / 1e9:.3f} GFLOP/s",
        "memory": "16 GB",
        "memory_bandwidth": f"{bandwidth / 1e9:.3f} GB/s",
        "l2": "1 MB",
    }
    node = {"gpus": ranks, "link": "pcie", "link_bandwidth": "100 MB/s", "peer_to_peer": False}
    fields["node"] = fields["node"] | node
    still = ("launch_gap", "graph_overlap", "host_launch", "eager_step", "sync_skew", "event_wait")
    runtime = fields["runtime"]
    fields["runtime"] = (
        runtime
        | {name: "0 s" for name in still if name in runtime}
        | {name: 0.0 for name in ("memory_interference",) if name in runtime}
        | {"sustained_clock": 1.0, "memory_reserved": "0 B"}
    )
    nccl = fields["collectives"]["algorithms"]["nccl"]
    one = nccl["protocols"][-1] | {"name": "tcp", "latency": "300 us", "latency_per_rank": "50 us"}
    one |= {"bandwidth": "100 MB/s", "bandwidth_many": "100 MB/s", "pattern": "ring"}
    gloo = nccl | {"protocols": [one], "sms": 0, "traffic": CROSSINGS, "interference": 1.0}
    fields["collectives"] = {"default": "gloo", "algorithms": {"gloo": gloo}}
    sections = dict.fromkeys(path.split(".")[0] for path in like.figures())
    fields["sources"] = dict.fromkeys(
        (section for section in sections if section in fields),
        "assumed until calibrated: best rows of this machine, and the shape of a100",
    )
    return fields


_HEADER = (
    "plan  M/C     Mbit/s   serial: ms predicted, measured    plan: ms predicted, measured"
    "    saving: predicted, measured"
)
_PAGE = """# The loop closed without a GPU

Written by `sudo python experiments/cpu_loop.py --page docs/loop.md`: measure, calibrate, search and
validate a model of {blocks} blocks (hidden size {hidden}) on {ranks} ranks that token buckets join,
at link rates where the communication M of a serial pass is half, as much as, and twice its compute
C. The numbers of every plan were checked against transformers in the same runs. ISO is the lossless
plan that `isotune search` found; SPD drops every attention all-reduce; both does both. The scan
measures splits in turns.

Made on {machine}, {cores} cores, load average {load:.1f} when it began (an idle machine has none).

```
{table}
```

Targets: latencies within 15 %, savings within 6 points, the predicted best split within 3 % of the
best measured one. {verdict}
The serial run, measured three times at each rate, took up to {spread:.1%} longer at its slowest
than at its fastest: what the machine itself varies by.

A prediction is of steps that take the same time every time. Where a sync takes about as long as
the compute beside it, whatever delays one rank (the kernel schedules its network threads by ticks
of some milliseconds) is seen at once, by both; that is when plans come out too fast. Rotary
embeddings, which transformers computes in eager ops, and what modules cost beside their kernels
are not in it either.
"""


def _page(loop: "Loop", load: float) -> str:
    """The table as a page, with what it was made on and how far the targets are met."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    machine = next((line.split(":", 1)[1].strip() for line in info if "model name" in line), "")
    pairs = [(time, prefix) for time in loop.times for prefix in ("serial_", "")]
    close = [abs(t[f"{p}predicted_s"] / t[f"{p}measured_s"] - 1) <= 0.15 for t, p in pairs]
    savings = [abs(t["predicted_saving"] - t["measured_saving"]) <= 0.06 for t in loop.times]
    splits = [off <= 0.03 for off in loop.splits_off]
    serial = [t["serial_measured_s"] for t in loop.times]
    rates = [serial[first : first + 3] for first in range(0, len(serial), 3)]
    return _PAGE.format(
        blocks=MODEL["num_hidden_layers"],
        hidden=MODEL["hidden_size"],
        ranks=loop.ranks,
        machine=machine,
        cores=os.cpu_count(),
        load=load,
        table="\n".join(loop.lines),
        verdict=f"Met here by {sum(close[::2])} of {len(savings)} serial runs, "
        f"{sum(close[1::2])} of {len(savings)} plans, {sum(savings)} of {len(savings)} savings and "
        f"{sum(splits)} of {len(splits)} splits.",
        spread=max(max(three) / min(three) for three in rates) - 1.0,
    )


def _row(label: str, ratio: float, rate: float, time: dict[str, Any]) -> str:
    def sides(prefix: str) -> str:
        predicted, measured = time[f"{prefix}predicted_s"], time[f"{prefix}measured_s"]
        error = predicted / measured - 1
        return f"{predicted * 1e3:11.1f} {measured * 1e3:9.1f} {error:+8.1%}"

    return (
        f"{label:5} {ratio:3g} {rate / 1e6:10.0f} {sides('serial_')}    {sides('')}    "
        f"{time['predicted_saving']:12.1%} {time['measured_saving']:9.1%}"
    )


def _rows(table: Path) -> list[dict[str, str]]:
    import csv

    with table.open() as file:
        return list(csv.DictReader(file))


def _numbers(row: dict[str, str], names: Sequence[str]) -> list[float]:
    return [float(row[name]) for name in (*names, "latency_us")]


def _environment() -> dict[str, str]:
    return {"OMP_NUM_THREADS": "1"} | dict(os.environ)


if __name__ == "__main__":
    sys.exit(main())
