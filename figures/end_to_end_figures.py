"""Whole passes measured on H100: predicted beside measured, row by row.

    python figures/end_to_end_figures.py end_to_end.csv [--markdown]

Each line is one case of a public table of whole-model latencies (columns in docs/hardware.md):
prefill latency, or one decode step, with all-reduces (serial), without any (no_comm), and with
the attention all-reduce dropped in every block (spd_all). A cell is predicted / measured in
milliseconds and the error. The runtime figures of the h100 profile are fitted to part of these
rows; its sources say which. `isotune check end_to_end.csv --hw h100` sums all strategies up.
"""

import argparse
import statistics
from pathlib import Path

from isotune.simulator.machine import read_profile
from isotune.validation.check.measured_passes import run_seconds
from isotune.validation.tables import Run, read_runs

SHOWN = ("serial", "no_comm", "spd_all")


def case(run: Run) -> tuple[str, ...]:
    """What the strategies of one line share."""
    work = f"{run.batch} x {run.prompt_len}" + (f" + {run.steps}" if run.phase == "decode" else "")
    return (run.model, str(run.tp), run.phase, work, run.link, run.source)


def main() -> None:
    """Print the table and the mean error of each strategy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--hw", default="h100")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    line = (lambda cells: "| " + " | ".join(cells) + " |") if options.markdown else "\t".join
    profile = read_profile(options.hw)
    errors: dict[str, list[float]] = {name: [] for name in SHOWN}
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for run in read_runs(options.table):
        if run.strategy not in SHOWN:
            continue
        predicted = run_seconds(run, profile)
        error = predicted / run.step_s - 1
        errors[run.strategy].append(abs(error))
        cell = f"{predicted * 1e3:.1f} / {run.step_s * 1e3:.1f} ({error:+.0%})"
        cells = lines.setdefault(case(run), {})
        cells[run.strategy] = f"{cells[run.strategy]}; {cell}" if run.strategy in cells else cell
    header = ["model", "GPUs", "phase", "batch x prompt", "link", "source", *SHOWN]
    print(line(header))
    if options.markdown:
        print(line(["---"] * len(header)))
    for key, cells in lines.items():
        print(line([*key, *(cells.get(name, "") for name in SHOWN)]))
    print()
    for name, found in errors.items():
        mean, worst = statistics.fmean(found), max(found)
        print(f"{name}: {len(found)} rows, mean error {mean:.1%}, largest {worst:.1%}.")
        print()


if __name__ == "__main__":
    main()
