"""The page of `experiments/spd_accuracy.py`: tables, latency and verdicts in Markdown."""

from collections.abc import Iterator
from typing import Any

import isotune
from isotune.simulator.schedule import Plan

ABOUT = """# SPD on real weights

```sh
# not run here: needs trained weights, and takes minutes
isotune sensitivity --model llama --text calibration.txt --tp 4 --treatments bias,bias+distil
isotune search --hw a100 --model llama --tp 4 --sensitivity sensitivity.json --pareto
isotune remeasure plan.yaml --sensitivity sensitivity.json --text calibration.txt --rounds 5
isotune recover --plan plan.yaml --text calibration.txt -o recovered
isotune validate plan.yaml --model recovered --quality --text evaluation.txt --original llama
```

The first measures what each dropped all-reduce costs, as it is and after repairs. The second picks
the drop set and each block's treatment, with as little repair as `--accuracy-budget` (1 %) allows;
`--pareto` adds latency against perplexity, with the paper's ISB/SB/ESB rule as a point on it. That
costs add up is an assumption: the third measures the chosen set whole, says how far off the sum
was, and searches again with a table that agrees with what was measured. The fourth writes the
repaired model: one step after another (bias correction, head grouping, neuron grouping,
distillation) goes through all dropped blocks, and stays in a block only where it lowers the loss of
the whole set on held-back text by more than the standard error of the change. The last refuses to
call it good unless it keeps the limits on text that nothing was fitted to.

Each of them but the search reads windows of 512 tokens. A model that `experiments/train_small.py`
trained on a CPU has seen 256 at a time: give `--context 256`, and the texts in its folder.

## On trained models

"""
REPAIRS = {
    "+ bias correction": "bias",
    "+ head grouping": "heads",
    "+ neuron grouping": "neurons",
    "+ distillation": "distil",
}
"""The step that each column adds to the one before."""
RANDOM, ORDERED = "random order", "sensitivity order"
COLUMNS = (RANDOM, ORDERED, *REPAIRS)
MACHINES = ("a100", "a100-lbw")
LARGE = "llama-2-70b"

Results = dict[tuple[str, int], dict[str, Any]]
"""What was measured, by model and tp."""


def latency_savings(tp: int, shares: list[float]) -> dict[str, list[float]]:
    """Saving of prefill latency for each share of dropped blocks of the large model."""
    found = {}
    for machine in MACHINES:
        scenario = isotune.scenario(LARGE, machine, tp=tp, prompt=128,
                                    weight_dtype="int8" if tp == 2 else None)  # fmt: skip
        blocks = scenario.model.num_hidden_layers
        plans = [
            Plan(dropped=tuple(range(blocks - round(share * blocks), blocks))) for share in shares
        ]
        found[machine] = [isotune.predict(scenario, plan).saving for plan in plans]
    return found


def page(results: Results) -> Iterator[str]:
    """Markdown: a table for each model and tp, then what the targets say."""
    for (name, tp), found in results.items():
        yield (
            f"### {name}, tp {tp}\n\n{found['kind']}, {found['parameters'] / 1e6:.1f} M "
            f"parameters, {found['blocks']} blocks, {found['heads']} heads, {found['kv_heads']} KV "
            "heads; "
            f"perplexity {found['whole']:.3f} on {found['tokens']:,} tokens with every sync"
            f"{_training(found.get('training'))}. {_concentration(found['single'])}\n"
        )
        yield _row(["dropped", *COLUMNS, *(f"saves, {machine}" for machine in MACHINES)])
        yield _row(["---:"] * (1 + len(COLUMNS) + len(MACHINES)))
        shares = [count / found["blocks"] for count in found["counts"]]
        saved = latency_savings(tp, shares)
        for at, share in enumerate(shares):
            growths = [
                f"{_growth(found, name, at):+.2%}{_mark(found, name, at)}" for name in COLUMNS
            ]
            cells = [f"{share:.0%}", *growths, *(f"{saved[m][at]:.1%}" for m in MACHINES)]
            yield _row(cells)
        yield ""
    yield "### What the targets say\n"
    yield from _targets(results)


def _concentration(single: list[float]) -> str:
    """Where the cost lies."""
    costs = sorted(single)
    return (
        f"Alone, block {single.index(costs[-1])} costs {costs[-1]:+.1%}, the next "
        f"{costs[-2]:+.2%}, the median block {costs[len(costs) // 2]:+.2%}."
    )


def _training(record: dict[str, Any] | None) -> str:
    if record is None:
        return ""
    return f"; trained on {record['tokens']:,} tokens in {record['seconds'] / 60:.0f} minutes"


def _growth(found: dict[str, Any], column: str, at: int) -> float:
    return float(found["curves"][column][at] / found["whole"] - 1.0)


def _rise(found: dict[str, Any], column: str, at: int) -> str | None:
    """Whether perplexity is higher than in the column before: by `noise`, or by `more`."""
    change = found["changes"][column][at] if column in REPAIRS else {"mean": 0.0}
    if change["mean"] <= 0.0:
        return None
    return "more" if change["mean"] > change["error"] else "noise"


def _mark(found: dict[str, Any], column: str, at: int) -> str:
    rise = _rise(found, column, at)
    return "" if rise is None else {"noise": " ~", "more": " ↑"}[rise]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _targets(results: Results) -> Iterator[str]:
    for (name, tp), found in results.items():
        curves, counts = found["curves"], found["counts"]
        partial = [at for at, count in enumerate(counts) if count < found["blocks"]]
        better = sum(curves[ORDERED][at] < curves[RANDOM][at] for at in partial)
        rises = {
            kind: [
                f"{column} at {count} blocks"
                for column in REPAIRS
                for at, count in enumerate(counts)
                if _rise(found, column, at) == kind
            ]
            for kind in ("more", "noise")
        }
        within = [
            counts[at] / found["blocks"]
            for at in range(len(counts))
            if _growth(found, COLUMNS[-1], at) <= 0.01
        ]
        steps = f"beyond noise {_after(rises['more'])}; within noise {_after(rises['noise'])}"
        yield (
            f"- {name}, tp {tp}: sensitivity order beats random at {better} of {len(partial)} "
            f"shares; perplexity rises {steps}; after recovery {max(within, default=0.0):.0%} of "
            "the blocks are dropped within 1 %."
        )


def _after(steps: list[str]) -> str:
    return f"after {', '.join(steps) or 'no step'}"


def trained(name: str, found: dict[str, Any]) -> str:
    record = found.get("training")
    minutes = f" --cpu-minutes {record['seconds'] / 60:.0f}" if record else ""
    return f"python experiments/train_small.py {name} --kind {found['kind']}{minutes}"
