"""Writes docs/figures.md from the output of the commands it names.

    python benchmarks/write_figures.py [END_TO_END_CSV]

Without the table of end-to-end measurements, that section keeps its last content.
"""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "figures.md"
INTRODUCTION = """# Figures

Predictions beside what others measured. Every table is the output of the command above it;
nothing is typed by hand, and no parameter was chosen to meet a headline: kernels and all-reduces
are fitted to kernel and all-reduce tables (the sources stand in each profile), contention and
run-time figures to whole-model runs on H100. Savings are of prefill latency unless said.
"""
SECTIONS = [
    ("ISO against its paper", "iso_figures.py"),
    ("SPD against its paper", "spd_figures.py"),
]


def printed(script: str, *arguments: str) -> str:
    """What a script prints."""
    command = [sys.executable, str(FOLDER / script), *arguments, "--markdown"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def section(title: str, script: str) -> str:
    """A heading, the command, and its output, with the script's docstring as the text."""
    text = (FOLDER / script).read_text().split('"""')[1].strip().split("\n\n")
    about = "\n\n".join(part for part in text if not part.startswith("    python"))
    return f"## {title}\n\n{about}\n\n```sh\npython benchmarks/{script}\n```\n\n{printed(script)}\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text("\n".join([INTRODUCTION, *(section(*item) for item in SECTIONS)]))


if __name__ == "__main__":
    main()
