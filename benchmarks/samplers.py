"""How near each sampler comes to the exact optimum, on 20 random scenarios.

    python benchmarks/samplers.py [--json] [--trials 300] [--samplers auto,random]
        [--scenarios 20] [--seed 0]

The exact optimum is over all plans of up to three chunks (serial and ISO, every SM budget); the
samplers search the same space. They start from serial and the even splits, never from the exact
optimum, which the search itself would give them.
"""

import argparse
import json
import statistics
from typing import Any

import numpy as np

import isotune
from isotune.simulator.batch import Timer
from isotune.simulator.errors import IsotuneError
from isotune.simulator.predict import GpuMemory, Scenario
from isotune.simulator.schedule import Plan
from isotune.tuner.exact import best_split
from isotune.tuner.search import Evaluator, Settings, run_study, starts
from isotune.tuner.search.objectives import Judge
from isotune.tuner.space import Space


def random_scenarios(count: int, seed: int) -> list[Scenario]:
    rng = np.random.default_rng(seed)
    found: list[Scenario] = []
    while len(found) < count:
        try:
            scenario = isotune.scenario(
                str(rng.choice(["llama-30b", "llama-2-70b", "llama-3-8b", "qwen3-32b", "opt-66b"])),
                str(rng.choice(["a800", "a100", "a100-lbw", "h100", "h200", "rtx4090"])),
                tp=int(rng.choice([4, 8])),
                prompt=int(rng.integers(512, 12_000)),
                weight_dtype="int8",
            )
            GpuMemory(scenario).check(Plan())
        except IsotuneError:
            continue
        found.append(scenario)
    return found


def gaps(scenario: Scenario, samplers: list[str], trials: int, seed: int) -> dict[str, Any]:
    exact = best_split(scenario, chunks=3)
    serial = Timer(scenario).latency(Plan())
    optimum = min(serial, exact.latency_s) if exact else serial
    space = Space(scenario=scenario, strategies=("serial", "iso"), most_chunks=3)
    row: dict[str, Any] = {
        "hardware": scenario.hardware.name,
        "model": scenario.model.name,
        "tp": scenario.workload.tp,
        "prompt": scenario.workload.prompt,
        "optimum_ms": optimum * 1e3,
    }
    for sampler in samplers:
        found = run_study(
            space,
            Judge(scenario=scenario),
            Evaluator(scenario),
            Settings(trials=trials, sampler=sampler, seed=seed),
            starts(space, None),
        )
        row[sampler] = found.best.seconds / optimum - 1 if found.best else float("inf")
        row[f"{sampler}_per_s"] = found.per_second
    return row


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", action="store_true")
    options.add_argument("--trials", type=int, default=300)
    options.add_argument("--samplers", default="auto,random")
    options.add_argument("--scenarios", type=int, default=20)
    options.add_argument("--seed", type=int, default=0, help="of scenarios and samplers")
    asked = options.parse_args()
    names = asked.samplers.split(",")
    cases = random_scenarios(asked.scenarios, asked.seed)
    rows = [gaps(case, names, asked.trials, asked.seed) for case in cases]
    if asked.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"gap to the exact optimum after {asked.trials} trials")
    print(f"{'scenario':38} {'optimum':>10}  " + "  ".join(f"{name:>8}" for name in names))
    for row in rows:
        where = f"{row['model']}, {row['tp']} x {row['hardware']}, {row['prompt']} tokens"
        cells = "  ".join(f"{row[name] * 100:6.2f} %" for name in names)
        print(f"{where:38} {row['optimum_ms']:7.1f} ms  {cells}")
    worst = "  ".join(f"{max(row[name] for row in rows) * 100:6.2f} %" for name in names)
    speed = ", ".join(
        f"{name} {statistics.median(row[f'{name}_per_s'] for row in rows):.0f}" for name in names
    )
    print(f"{'worst':49} {worst}\ntrials per second: {speed}")


if __name__ == "__main__":
    main()
