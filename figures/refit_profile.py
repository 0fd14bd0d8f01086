"""Refit a bundled profile from the package aiconfigurator-core, and print its accuracy.

    python figures/refit_profile.py --system h200_sxm --base h200 -o h200-again.yaml

Reads the measured kernels of an engine and NCCL's collectives (extra `tables`), fits the profile
to the rows that are not held back, and prints how far it is off the others, as docs/accuracy.md
does. The profile, its table and the page are written beside each other. A fit of all operations
takes tens of minutes; `--op gemm,moe` takes some.
"""

import argparse
import subprocess
import sys
from pathlib import Path

OPERATIONS = "gemm,attention,moe,quantize,all_reduce,reduce_scatter,all_gather,all_to_all"


def _run(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "isotune", *words], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def refit(system: str, base: str, output: Path, engine: str, operations: str) -> None:
    """Import, calibrate and check; each prints what it did, and an error ends the run."""
    table = output.with_suffix(".csv")
    asked = ("--system", system, "--engine", engine, "--op", operations)
    _run("import", "tables", *asked, "--hw", base, "-o", str(table))
    _run("calibrate", str(table), "--base", base, "-o", str(output))
    _run("check", str(table), "--hw", str(output), "--held-back", "--worst", "0")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--system", required=True, help="the package's name of the machine")
    parser.add_argument("--base", required=True, help="bundled profile to start from")
    parser.add_argument("-o", "--output", type=Path, required=True, help="profile to write")
    parser.add_argument("--engine", default="vllm", help="whose kernels")
    parser.add_argument("--op", default=OPERATIONS, help="operations, with commas between")
    given = parser.parse_args()
    refit(given.system, given.base, given.output, given.engine, given.op)
