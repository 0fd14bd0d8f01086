"""Writes docs/figures.md from the output of the commands it names.

    python benchmarks/write_figures.py [END_TO_END_CSV]

With a table of whole measured passes it writes docs/end_to_end.md as well.
"""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
FIGURES = FOLDER.parent / "docs" / "figures.md"
END_TO_END = FOLDER.parent / "docs" / "end_to_end.md"
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


def section(title: str, script: str, *arguments: str) -> str:
    """A heading, the script's docstring, the command, and its output."""
    text = (FOLDER / script).read_text().split('"""')[1].strip().split("\n\n")
    about = "\n\n".join(part for part in text if not part.startswith("    python"))
    shown = " ".join([script, *(Path(argument).name for argument in arguments)])
    result = printed(script, *arguments)
    return f"## {title}\n\n{about}\n\n```sh\npython benchmarks/{shown}\n```\n\n{result}\n"


def main() -> None:
    """Write the pages."""
    FIGURES.write_text("\n".join([INTRODUCTION, *(section(*item) for item in SECTIONS)]))
    for table in sys.argv[1:2]:
        page = section("Whole passes on H100", "end_to_end_figures.py", table)
        END_TO_END.write_text(page.replace("## ", "# ", 1))


if __name__ == "__main__":
    main()
