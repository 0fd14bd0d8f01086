"""Perplexity against the share of dropped attention syncs, and the latency each share buys.

    python benchmarks/spd_accuracy.py MODEL_FOLDER... [-o docs/spd.md] [--cache FOLDER]

A MODEL_FOLDER holds a model with `calibration.txt` and `evaluation.txt`, as
`benchmarks/train_small.py` writes it. Each block's sensitivity is the growth of perplexity when
it alone is dropped, on calibration text; repairs are fitted and accepted on calibration text
too; perplexity is that of windows of the evaluation text. "Random" is the mean over random orders.
Repairs are fitted to each drop set (`--fit set`), or once with all blocks dropped (`--fit all`,
several times faster), which misfits the smaller sets where a block upstream of them breaks.

Latency is predicted for LLaMA-2-70B with the same share of its blocks dropped (the last ones),
prefill of 128 tokens, batch 1, on as many GPUs: these small models have no latency worth a GPU.
"""

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import isotune
from simulator.files import write_text
from simulator.plan import Plan
from validation.spd.distil import Training
from validation.spd.network import Network, evaluate, load_network
from validation.spd.recover import Repaired, Settings, recover
from validation.spd.scan import scan
from validation.spd.text import Windows, read_corpus, read_tokenizer

ABOUT = """# SPD on real weights

```sh
isotune sensitivity --model llama --text calibration.txt --tp 4 --treatments bias,bias+distil
isotune search --hw a100 --model llama --tp 4 --sensitivity sensitivity.json --front
isotune remeasure plan.yaml --sensitivity sensitivity.json --text calibration.txt --rounds 5
isotune recover --plan plan.yaml --text calibration.txt -o recovered
isotune validate plan.yaml --model recovered --quality --text evaluation.txt --original llama
```

The first measures what each dropped sync costs, as it is and after repairs. The second picks the
drop set and each block's treatment, with as little repair as `--accuracy-budget` (1 %) allows;
`--front` adds latency against perplexity, with the paper's ISB/SB/ESB rule as a point on it. That
costs add up is an assumption: the third measures the chosen set whole, says how far off the sum
was, and searches again with a table that agrees with what was measured. The fourth writes the
repaired model; the last refuses to call it good unless it keeps the limits on text that nothing
was fitted to.

## On trained models

"""
ALL_TP = (2, 4, 8)
SHARES = (0.25, 0.5, 0.65, 0.85, 1.0)
REPAIRS = {
    "+ bias correction": ("bias",),
    "+ head grouping": ("bias", "heads"),
    "+ neuron grouping": ("bias", "heads", "neurons"),
    "+ distillation": ("bias", "heads", "neurons", "distil"),
}
RANDOM, ORDERED = "random order", "sensitivity order"
COLUMNS = (RANDOM, ORDERED, *REPAIRS)
MACHINES = ("a100", "a100-lbw")
LARGE = "llama-2-70b"


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much text is used (windows of `context` tokens), epochs and rate of distillation, and
    the drop set that repairs are fitted to."""

    context: int = 256
    evaluation: int = 16
    calibration: int = 48
    held_back: int = 8
    scanned: int = 8
    orders: int = 3
    epochs: int = 8
    rate: float = 1e-3
    fit: str = "set"


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Windows of the evaluation text, to calibrate, to accept repairs and to scan on."""

    evaluation: Windows
    calibration: Windows
    held_back: Windows
    scanned: Windows

    @classmethod
    def of(cls, folder: Path, words: int, effort: Effort) -> "Texts":
        """The windows of a model's folder; no token is in two of the kinds."""
        tokenizer = read_tokenizer(folder, None, words)
        fitted, judged = read_corpus([folder / "calibration.txt"], tokenizer).split(0.2)
        whole = read_corpus([folder / "evaluation.txt"], tokenizer)
        size = effort.context
        return cls(
            evaluation=whole.windows(size, count=effort.evaluation),
            calibration=fitted.windows(size, count=effort.calibration),
            held_back=judged.windows(size, count=effort.held_back),
            scanned=fitted.windows(size, count=effort.scanned, seed=1),
        )


def measure(folder: Path, tp: int, effort: Effort) -> dict[str, Any]:
    """Perplexities of a model by column and number of dropped blocks."""
    network = load_network(folder, tp)
    texts = Texts.of(folder, network.config.vocab_size, effort)
    blocks = len(network)
    single = scan(network, texts.scanned).growth("single")
    order = sorted(range(blocks), key=lambda block: single[block])
    counts = sorted({max(1, round(share * blocks)) for share in SHARES})
    curves: dict[str, list[float]] = {
        RANDOM: _random(network, texts.evaluation, counts, effort.orders),
        ORDERED: [_perplexity(network, texts.evaluation, order[:n]) for n in counts],
    }
    for name, steps in REPAIRS.items():
        curves[name] = []
        repairs = _repairs(network, texts, order, steps, effort) if effort.fit == "all" else None
        for dropped in (order[:n] for n in counts):
            fitted = repairs or _repairs(network, texts, dropped, steps, effort)
            branch = _repaired(network, fitted, dropped)
            curves[name].append(_perplexity(branch, texts.evaluation, dropped))
    return {
        "blocks": blocks,
        "parameters": network.shape.parameters,
        "kind": network.shape.architecture,
        "heads": network.shape.num_attention_heads,
        "kv_heads": network.shape.num_key_value_heads,
        "training": _record(folder),
        "whole": evaluate(network, texts.evaluation).perplexity,
        "tokens": texts.evaluation.tokens,
        "single": single,
        "counts": counts,
        "curves": curves,
    }


def _record(folder: Path) -> dict[str, Any] | None:
    path = folder / "training.json"
    record: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return record


def _perplexity(network: Network, windows: Windows, dropped: list[int]) -> float:
    return evaluate(network, windows, dropped=dropped).perplexity


def _random(network: Network, windows: Windows, counts: list[int], orders: int) -> list[float]:
    """Mean over random orders; all blocks dropped are the same in each."""
    found = []
    for count in counts:
        sets = [
            random.Random(seed).sample(range(len(network)), count)  # noqa: S311
            for seed in range(orders if count < len(network) else 1)
        ]
        found.append(sum(_perplexity(network, windows, one) for one in sets) / len(sets))
    return found


def _repairs(
    network: Network, texts: Texts, dropped: list[int], steps: tuple[str, ...], effort: Effort
) -> list[Repaired]:
    found: list[Repaired] = []
    recover(
        network,
        texts.calibration,
        texts.held_back,
        dropped,
        steps,
        settings=Settings(training=Training(rate=effort.rate, epochs=effort.epochs)),
        on_block=found.append,
    )
    return found


def _repaired(network: Network, repairs: list[Repaired], dropped: list[int]) -> Network:
    branch = network.branch()
    for one in repairs:
        if one.index in dropped:
            branch.replace(one.index, one.block(branch.block(one.index)))
    return branch


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


def page(results: dict[tuple[str, int], dict[str, Any]]) -> Iterator[str]:
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
            growths = [f"{_growth(found, name, at):+.2%}" for name in COLUMNS]
            cells = [f"{share:.0%}", *growths, *(f"{saved[m][at]:.1%}" for m in MACHINES)]
            yield _row(cells)
        yield ""
    yield "### What the targets say\n"
    yield from _targets(results)


def _concentration(single: list[float]) -> str:
    """Where the cost lies."""
    costs = sorted(single)
    return (
        f"Alone, block {single.index(costs[-1])} costs {costs[-1]:+.1%}, the next {costs[-2]:+.2%}, "
        f"the median block {costs[len(costs) // 2]:+.2%}."
    )


def _training(record: dict[str, Any] | None) -> str:
    if record is None:
        return ""
    return f"; trained on {record['tokens']:,} tokens in {record['seconds'] / 60:.0f} minutes"


def _growth(found: dict[str, Any], column: str, at: int) -> float:
    return float(found["curves"][column][at] / found["whole"] - 1.0)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _targets(results: dict[tuple[str, int], dict[str, Any]]) -> Iterator[str]:
    for (name, tp), found in results.items():
        curves, counts = found["curves"], found["counts"]
        partial = [at for at, count in enumerate(counts) if count < found["blocks"]]
        better = sum(curves[ORDERED][at] < curves[RANDOM][at] for at in partial)
        worse = [
            f"{after} at {counts[at]} blocks"
            for before, after in pairwise(COLUMNS[1:])
            for at in range(len(counts))
            if curves[after][at] > curves[before][at]
        ]
        within = [
            counts[at] / found["blocks"]
            for at in range(len(counts))
            if _growth(found, COLUMNS[-1], at) <= 0.01
        ]
        steps = f"higher after {', '.join(worse)}" if worse else "lower after every step"
        yield (
            f"- {name}, tp {tp}: sensitivity order beats random at {better} of {len(partial)} "
            f"shares; perplexity is {steps}; after recovery {max(within, default=0.0):.0%} of the "
            "blocks are dropped within 1 %."
        )


def _trained(name: str, found: dict[str, Any]) -> str:
    record = found.get("training")
    minutes = f" --cpu-minutes {record['seconds'] / 60:.0f}" if record else ""
    return f"python benchmarks/train_small.py {name} --kind {found['kind']}{minutes}"


def _commands(asked: argparse.Namespace, results: dict[tuple[str, int], dict[str, Any]]) -> str:
    """The commands that made the page."""
    lines = list(dict.fromkeys(_trained(name, found) for (name, _), found in results.items()))
    tps = "" if tuple(asked.tp) == ALL_TP else " --tp " + " ".join(map(str, asked.tp))
    given = " ".join(
        f"--{name.replace('_', '-')} {getattr(asked, name)}"
        for name, value in asdict(Effort()).items()
        if getattr(asked, name) != value
    )
    names = " ".join(folder.name for folder in asked.folders)
    last = f"python benchmarks/spd_accuracy.py {names}{tps} {given}".rstrip()
    return "\n".join(["```sh", *lines, f"{last} -o docs/spd.md", "```", "", ""])


def main() -> None:
    """Measure what the cache does not have, then print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--tp", type=int, nargs="+", default=ALL_TP)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--cache", type=Path, help="folder of results; what is there is not redone")
    for name, value in asdict(Effort()).items():
        choices = ("set", "all") if name == "fit" else None
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(value), default=value, choices=choices
        )
    asked = parser.parse_args()
    effort = Effort(**{name: getattr(asked, name) for name in asdict(Effort())})
    results = {}
    for folder in asked.folders:
        for tp in asked.tp:
            kept = asked.cache / f"{folder.name}-tp{tp}.json" if asked.cache else None
            if kept is not None and kept.exists():
                results[folder.name, tp] = json.loads(kept.read_text())
                continue
            torch.manual_seed(0)
            results[folder.name, tp] = measure(folder, tp, effort)
            if kept is not None:
                asked.cache.mkdir(parents=True, exist_ok=True)
                write_text(kept, json.dumps(results[folder.name, tp]))
    text = "\n".join(page(results)) + "\n"
    if asked.output:
        parts = [part for part in __doc__.strip().split("\n\n") if not part.startswith("    ")]
        write_text(
            asked.output, ABOUT + "\n\n".join(parts) + "\n\n" + _commands(asked, results) + text
        )
    else:
        print(text)


if __name__ == "__main__":
    main()
