"""ISO's prefill saving over models, GPU counts and prompt lengths, beside the paper's means.

    python figures/iso_figures.py [--markdown]

For each case: the serial prefill with the same transfer type, the even two-chunk split, the
plan that Optuna finds from even splits alone, and how far that, and what the search finds by
default, lie above (+) or below (-) the exact two-chunk optimum; both may use more chunks. The
paper (Xiao and Su, arXiv 2409.11155) reports about 35 % on RTX 4090 and about 15 % on A800.
"""

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace

import isotune
from isotune.simulator.errors import DoesNotFitError
from isotune.simulator.schedule import CommDtype, Plan
from isotune.tuner.exact import best_split
from isotune.tuner.search import Options, search
from isotune.tuner.techniques import latency

PROMPTS = [1024 << power for power in range(8)]
MACHINES: list[tuple[str, CommDtype]] = [("rtx4090", "int8"), ("a800", "bf16")]
MODELS = ["llama-30b", "llama-2-70b"]
SIZES = [4, 8]


@dataclass(frozen=True)
class Case:
    """One cell of the table; `why_not` where it does not fit in memory."""

    hardware: str
    comm_dtype: CommDtype
    model: str
    tp: int
    weight_dtype: str
    prompt: int
    serial_s: float = 0.0
    even: float = 0.0
    tuned: float = 0.0
    total: float = 0.0
    gap: float = 0.0
    default_gap: float = 0.0
    plan: Plan | None = None
    why_not: str = ""


def case(hardware: str, comm_dtype: CommDtype, model: str, tp: int, prompt: int) -> Case:
    """Run one case; savings are against serial with the same transfer type."""
    narrow = (hardware, model, tp) == ("rtx4090", "llama-2-70b", 4)
    key = (hardware, comm_dtype, model, tp, "int8" if narrow else "bf16", prompt)
    try:
        scenario = isotune.scenario(model, hardware, tp=tp, prompt=prompt, weight_dtype=key[4])
        options = Options(strategies=("serial", "iso"), spd=False, comm_dtype=comm_dtype)
        alone = search(scenario, replace(options, exact=False))
        default = search(scenario, options)
    except DoesNotFitError as error:
        return Case(*key, why_not=str(error).split("; ")[0].split(": ", 1)[-1])
    serial = latency(scenario, Plan(comm_dtype=comm_dtype))
    even = Plan(strategy="iso", chunks=(prompt // 2, prompt // 2), comm_dtype=comm_dtype)
    exact = best_split(scenario, comm_dtypes=(comm_dtype,), chunks=2)
    if exact is None or alone.trials.best is None:
        raise RuntimeError("a prompt of 1024 tokens or more can be split")
    tuned = alone.trials.best
    return Case(
        *key,
        serial_s=serial,
        even=1 - latency(scenario, even) / serial,
        tuned=1 - tuned.seconds / serial,
        total=1 - tuned.seconds / alone.baseline.latency_s,
        gap=tuned.seconds / exact.latency_s - 1,
        default_gap=default.best.latency_s / exact.latency_s - 1,
        plan=tuned.plan,
    )


def cases() -> Iterator[Case]:
    """All cases, in the table's order."""
    for hardware, comm_dtype in MACHINES:
        for model in MODELS:
            for tp in SIZES:
                for prompt in PROMPTS:
                    yield case(hardware, comm_dtype, model, tp, prompt)


def row(item: Case) -> list[str]:
    """The cells of one line."""
    head = [
        item.hardware,
        item.comm_dtype,
        item.model,
        str(item.tp),
        item.weight_dtype,
        f"{item.prompt // 1024}k",
    ]
    if item.plan is None:
        return [*head, "does not fit", "", "", "", "", "", item.why_not]
    chunks = " + ".join(map(str, item.plan.chunks)) or "serial"
    return [
        *head,
        f"{item.serial_s * 1e3:.0f} ms",
        f"{item.even:.1%}",
        f"{item.tuned:.1%}",
        f"{item.total:.1%}",
        f"{_clean(item.gap):+.2%}",
        f"{_clean(item.default_gap):+.2%}",
        chunks,
    ]


def _clean(gap: float) -> float:
    """Without the sign of a zero, which rounding errors would give it."""
    return round(gap, 4) + 0.0


HEADER = [
    "machine",
    "transfer",
    "model",
    "GPUs",
    "weights",
    "prompt",
    "serial",
    "ISO even",
    "ISO tuned",
    "with transfer",
    "gap of Optuna alone",
    "gap of the search",
    "chunks",
]


def main() -> None:
    """Print the table and the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true")
    markdown = parser.parse_args().markdown
    line = (lambda cells: "| " + " | ".join(cells) + " |") if markdown else "\t".join
    print(line(HEADER))
    if markdown:
        print(line(["---"] * len(HEADER)))
    done: list[Case] = []
    for item in cases():
        print(line(row(item)), flush=True)
        done.append(item)
    print()
    for hardware, comm_dtype in MACHINES:
        fitting = [item for item in done if item.hardware == hardware and item.plan]
        mean = statistics.fmean(item.tuned for item in fitting)
        worst = max(item.gap for item in fitting)
        default = max(item.default_gap for item in fitting)
        print(
            f"{hardware}, {comm_dtype} transfer: mean saving of the tuned split {mean:.1%} over "
            f"{len(fitting)} cases that fit; largest gap to the exact two-chunk "
            f"optimum {_clean(worst):+.2%} of Optuna alone, {_clean(default):+.2%} of the search."
        )
        print()


if __name__ == "__main__":
    main()
