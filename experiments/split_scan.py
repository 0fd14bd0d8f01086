"""Measures splits of a prompt, all in one job and in turns: what `cpu_loop.py` scans with.

    python experiments/split_scan.py PLAN.yaml --splits 448+576,512+512 [--repeat 20] [--device cpu]

Prints JSON: measured seconds of every run, by split.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from isotune.simulator.files import read_plan
from isotune.simulator.schedule import Plan
from isotune.validation.real_run import Benchmark, Setup, run_benchmark


@dataclass(frozen=True)
class InTurns:
    """A driver that runs some plans in turns."""

    plans: tuple[Plan, ...]
    rounds: int

    def __call__(self, bench: Benchmark) -> None:
        """See `Study`."""
        bench.measure(self.plans, self.rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("--splits", required=True)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    file = read_plan(options.plan)
    setup = Setup.of(file, options.plan.parent, device=options.device)
    splits = [tuple(map(int, text.split("+"))) for text in options.splits.split(",")]
    plans = tuple(Plan(strategy="iso", chunks=chunks) for chunks in splits)
    found = run_benchmark(setup, InTurns(plans, options.repeat), timeout_s=120.0)
    if found is not None:
        print(json.dumps({_name(plan): ran.latencies for plan, ran in found.measured}))
        if found.failure is not None:
            print(found.failure, file=sys.stderr)
            return 1
    return 0


def _name(plan: Plan) -> str:
    return "+".join(map(str, plan.chunks))


if __name__ == "__main__":
    sys.exit(main())
