"""How long a sweep of a million rows takes.

    python benchmarks/sweep_rows.py [--json] [--quick] [--jobs 2]

The clock on the wall depends on what else the machine does, so the processor time of all processes
(user and system) is printed beside it; on idle cores the sweep takes that, divided by `--jobs`.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

from isotune.tuner.sweep import Grid, sweep

GRID = Grid(
    hardware=("a800", "a100", "h100", "h200", "rtx4090", "l40s"),
    model=("llama-2-70b", "llama-3-8b", "llama-30b", "qwen3-32b"),
    tp=(1, 2, 4),
    batch=(1, 2, 4, 8),
    prompt=tuple(range(128, 75_000, 128)),
    strategy=("serial", "gemm_overlap", "request_overlap", "iso", "spd", "iso_spd"),
)


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", action="store_true")
    options.add_argument("--quick", action="store_true", help="a sixth of the rows")
    options.add_argument("--jobs", type=int, default=2)
    asked = options.parse_args()
    grid = GRID.model_copy(update={"hardware": ("a800",)}) if asked.quick else GRID
    begun, before = time.perf_counter(), processor_seconds()
    with tempfile.TemporaryDirectory() as folder:
        rows = sweep(grid, Path(folder) / "rows.parquet", jobs=asked.jobs).rows
    wall, used = time.perf_counter() - begun, processor_seconds() - before
    figures = {
        "rows": rows,
        "jobs": asked.jobs,
        "wall_s": wall,
        "processor_s": used,
        "processor_s_per_job": used / asked.jobs,
        "million_rows_s": used / asked.jobs / rows * 1e6,
    }
    if asked.json:
        print(json.dumps(figures, indent=2))
        return
    print(
        f"{rows:,} rows with {asked.jobs} processes: {wall:.1f} s on the wall, {used:.1f} s of "
        f"processor time, {figures['million_rows_s']:.1f} s per million rows and {asked.jobs} cores"
    )


if __name__ == "__main__":
    main()
