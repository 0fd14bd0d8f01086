"""Writes docs/figures.md from the output of the commands it names.

    python figures/write_figures.py [--check] [MEASUREMENTS]

`--check` writes nothing: it shows where a page is not what its commands print, and ends with 1.
With a folder of measurement tables (docs/hardware.md says in which form) it writes docs/accuracy.md
and docs/end_to_end.md as well, the latter from `end_to_end.csv` in it.
"""

import difflib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
FIGURES = FOLDER.parent / "docs" / "figures.md"
END_TO_END = FOLDER.parent / "docs" / "end_to_end.md"
ACCURACY = FOLDER.parent / "docs" / "accuracy.md"
ABOUT_ACCURACY = """# Accuracy

How far the bundled profiles are off measurements that they were not fitted to: a random fifth of
each public table, and of whole passes on H100 the runs on 4 GPUs, which
`experiments/fit_runtime.py` holds back (the lines of links without peer-to-peer and the rounded
`graph_overlap` and `sync_skew` saw them). MAPE and p90 are the mean and the 90th percentile of
|predicted / measured - 1|, bias is the median with sign; the column before the last is the share
of measurements inside their predicted 80 % interval; a saving is off by so many percentage points
against serial runs of the same case. The worst rows follow by name. `MEASUREMENTS` is a folder of
tables in the form of docs/hardware.md; these were made from the sources that each profile names
(`isotune hw show NAME`).

Two independent sources for one GPU and shape differ by 5-8 % in the median, which is the floor of
any honest error across sources.

```sh
# not run here: MEASUREMENTS are some hundred thousand rows of other projects
isotune check MEASUREMENTS --held-back --worst 3
```

"""
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
    block = f"```sh\n# not run here: takes minutes\npython figures/{shown}\n```"
    return f"## {title}\n\n{about}\n\n{block}\n\n{result}\n"


def pages(arguments: list[str]) -> Iterator[tuple[Path, str]]:
    """Each page with what its commands print now."""
    yield FIGURES, "\n".join([INTRODUCTION, *(section(*item) for item in SECTIONS)])
    for folder in arguments[:1]:
        table = str(Path(folder) / "end_to_end.csv")
        page = section("Whole passes on H100", "end_to_end_figures.py", table)
        yield END_TO_END, page.replace("## ", "# ", 1)
        yield ACCURACY, ABOUT_ACCURACY + accuracy(folder)


def changes(page: Path, text: str) -> str:
    """What differs between a page and what it should be, as a unified diff."""
    before, after = page.read_text().splitlines(), text.splitlines()
    return "\n".join(difflib.unified_diff(before, after, str(page), "its commands", lineterm=""))


def main() -> None:
    """Write the pages, or with `--check` compare them."""
    arguments = [word for word in sys.argv[1:] if word != "--check"]
    stale = False
    for page, text in pages(arguments):
        if "--check" not in sys.argv:
            page.write_text(text)
        elif difference := changes(page, text):
            stale = True
            print(difference)
    sys.exit(stale)


def accuracy(folder: str) -> str:
    """What `isotune check` says of all tables in a folder."""
    check = ["check", folder, "--held-back", "--worst", "3"]
    command = [sys.executable, "-m", "isotune", *check]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = (line.rstrip() for line in done.stdout.splitlines())
    return "```text\n" + "\n".join(lines) + "\n```\n"


if __name__ == "__main__":
    main()
