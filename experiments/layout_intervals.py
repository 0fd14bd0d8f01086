"""How often the interval between two tensor-parallel sizes of one machine holds what was measured.

    python experiments/layout_intervals.py end_to_end.csv

Reads a table of whole passes, pairs serial runs that differ in tp alone (each size with the next
larger one), and counts the pairs whose measured ratio of latencies lies within the 80 % interval
of the predicted one: with all errors shared, with those of collectives independent
(`LAYOUT_APART`, what `isotune compare` takes), and with none shared.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from isotune.simulator.errors import InputError
from isotune.simulator.machine import CLASSES, read_profile
from isotune.simulator.predict import LAYOUT_APART, SimulatedRun, saving_interval
from isotune.validation.check.measured_passes import simulated_pass
from isotune.validation.tables import Run, read_runs

APART = {
    "all errors shared": frozenset[str](),
    "those of collectives independent": LAYOUT_APART,
    "none shared": frozenset(CLASSES),
}


def pairs(runs: tuple[Run, ...]) -> Iterator[tuple[Run, Run]]:
    """Serial runs of the next larger tp beside those of a smaller one, all else alike."""
    alike: dict[tuple[object, ...], dict[int, Run]] = defaultdict(dict)
    for run in runs:
        if run.strategy == "serial":
            case = (run.hw, run.model, run.batch, run.prompt_len, run.phase, run.steps)
            alike[*case, run.link, run.runtime][run.tp] = run
    for sizes in alike.values():
        ordered = [sizes[tp] for tp in sorted(sizes)]
        yield from zip(ordered[1:], ordered, strict=False)


def predicted(run: Run) -> SimulatedRun | None:
    """The run as predicted; None where its machine or model is not here."""
    try:
        return simulated_pass(run, read_profile(run.hw))
    except InputError:
        return None


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", type=Path)
    held, count = dict.fromkeys(APART, 0), 0
    for wide, narrow in pairs(read_runs(parser.parse_args().table)):
        ours, theirs = predicted(wide), predicted(narrow)
        if ours is None or theirs is None:
            continue
        count += 1
        saved = 1.0 - wide.seconds / narrow.seconds
        for name, apart in APART.items():
            low, high = saving_interval(ours, theirs, apart)
            held[name] += low <= saved <= high
    for name, times in held.items():
        print(f"{name}: {times} of {count} pairs within the 80 % interval")


if __name__ == "__main__":
    main()
