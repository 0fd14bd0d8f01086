"""Perplexity against the share of dropped attention all-reduces, and the latency each share buys.

    python experiments/spd_accuracy.py MODEL_FOLDER... [-o docs/spd.md] [--cache FOLDER]

A MODEL_FOLDER holds a model with `calibration.txt` and `evaluation.txt`, as
`experiments/train_small.py` writes it. Each block's sensitivity is the growth of perplexity when
it alone is dropped, on calibration text; repairs are fitted and accepted on calibration text
too; perplexity is that of windows of the evaluation text. "Random" is the mean over random orders.
Each drop set is recovered once, step after step over all its blocks; the columns are the network
as it stands after each step. Where perplexity is higher than in the column before, a cell says so:
"↑" beyond noise, "~" within it, which is the standard error of the change of log-perplexity over
the evaluation windows (paired: the same windows in both columns).

Latency is predicted for LLaMA-2-70B with the same share of its blocks dropped (the last ones),
prefill of 128 tokens, batch 1, on as many GPUs (int8 weights at tp 2, where 16-bit ones do not
fit): these small models have no latency worth a GPU.
"""

import argparse
import json
import random
import sys
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from spd_page import ABOUT, ORDERED, RANDOM, REPAIRS, Results, page, trained

from isotune.simulator.io import write_text
from isotune.validation.spd.model import (
    Network,
    Quality,
    Windows,
    evaluate,
    load_network,
    read_corpus,
    read_tokenizer,
    scan,
)
from isotune.validation.spd.recover import Settings, Training, recover
from isotune.validation.spd.recover.paired import Change

ALL_TP = (2, 4, 8)
SHARES = (0.25, 0.5, 0.65, 0.85, 1.0)


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much text is used (windows of `context` tokens), epochs and rate of distillation."""

    context: int = 256
    evaluation: int = 32
    calibration: int = 16
    held_back: int = 12
    scanned: int = 6
    orders: int = 3
    epochs: int = 3
    rate: float = 1e-3


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
    chance = _random(network, texts.evaluation, counts, effort.orders)
    points = [_stages(network, texts, order[:count], effort) for count in counts]
    curves = {name: [point[name].perplexity for point in points] for name in (ORDERED, *REPAIRS)}
    return {
        "effort": asdict(effort),
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
        "curves": {RANDOM: chance, **curves},
        "changes": {
            after: [_change(point[before], point[after]) for point in points]
            for before, after in pairwise((ORDERED, *REPAIRS))
        },
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


def _stages(
    network: Network, texts: Texts, dropped: list[int], effort: Effort
) -> dict[str, Quality]:
    """The evaluation text with a drop set as it is, and after each step of its recovery."""
    found = {ORDERED: evaluate(network, texts.evaluation, dropped=dropped)}

    def told(step: str, now: Network) -> None:
        found[column[step]] = evaluate(now, texts.evaluation, dropped=dropped)

    column = {step: name for name, step in REPAIRS.items()}
    recover(
        network,
        texts.calibration,
        texts.held_back,
        dropped,
        tuple(column),
        settings=Settings(training=Training(rate=effort.rate, epochs=effort.epochs)),
        on_stage=told,
    )
    return found


def _change(before: Quality, after: Quality) -> dict[str, float]:
    """Of the logarithm of perplexity, with its standard error over the windows."""
    return asdict(Change.of(before.windows, after.windows, before.tokens))


def _commands(asked: argparse.Namespace, results: Results) -> str:
    """The commands that made the page."""
    lines = list(dict.fromkeys(trained(name, found) for (name, _), found in results.items()))
    tps = "" if tuple(asked.tp) == ALL_TP else " --tp " + " ".join(map(str, asked.tp))
    given = " ".join(
        f"--{name.replace('_', '-')} {getattr(asked, name)}"
        for name, value in asdict(Effort()).items()
        if getattr(asked, name) != value
    )
    names = " ".join(folder.name for folder in asked.folders)
    last = f"python experiments/spd_accuracy.py {names}{tps} {given}".rstrip()
    marker = "# not run here: takes an hour"
    return "\n".join(["```sh", marker, *lines, f"{last} -o docs/spd.md", "```", "", ""])


def _cached(path: Path | None, effort: Effort) -> dict[str, Any] | None:
    """What was measured before with the same effort."""
    if path is None or not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found if found.get("effort") == asdict(effort) else None


def _timed(folder: Path, tp: int, effort: Effort) -> dict[str, Any]:
    torch.manual_seed(0)
    started = time.perf_counter(), time.process_time()
    found = measure(folder, tp, effort)
    wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    print(f"{folder.name}, tp {tp}: {wall:.0f} s, {cpu:.0f} s of CPU", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Measure what the cache does not have, then print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--tp", type=int, nargs="+", default=ALL_TP)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--cache", type=Path, help="folder of results, kept and taken up")
    for name, value in asdict(Effort()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    asked = parser.parse_args()
    effort = Effort(**{name: getattr(asked, name) for name in asdict(Effort())})
    results: Results = {}
    for folder in asked.folders:
        for tp in asked.tp:
            kept = asked.cache / f"{folder.name}-tp{tp}.json" if asked.cache else None
            results[folder.name, tp] = _cached(kept, effort) or _timed(folder, tp, effort)
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
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
