"""Command blocks of the README and the pages in docs/, and the lines in them.

A block is fenced as `sh`, `bash`, `console` or `python`, or indented by four spaces and begins with
a known program. From a line `# not run here: REASON` on, the rest of a block is only parsed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

from _support.paths import ROOT

SHELL = ("sh", "bash", "console", "shell")
PROGRAMS = ("isotune", "python", "pip", "sudo", "torchrun", "srun", "sbatch", "mpirun", "git")
PROGRAMS += ("head", "pytest", "mkdocs", "pre-commit", "cat", "printf", "cd", "export", ".")
MARKER = "# not run here: "


@dataclass(frozen=True)
class Line:
    """One command, continuation lines and heredocs included.

    `reason` says why it is not run; `shown` are lines that it prints in this order, of a console.
    """

    text: str
    reason: str | None
    shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """Commands that are run in turn, or a piece of Python."""

    page: Path
    number: int
    language: str
    text: str
    lines: tuple[Line, ...] = field(default=())

    @property
    def where(self) -> str:
        """`docs/tuner.md:42`."""
        return f"{self.page.relative_to(ROOT)}:{self.number}"


def pages() -> list[Path]:
    """The README and every page of docs/."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """The command and Python blocks of a page, in order."""
    for number, language, text in _raw(page.read_text(encoding="utf-8").splitlines()):
        if language == "python":
            yield Block(page, number, "python", text)
        elif language in SHELL:
            yield Block(page, number, "sh", text, tuple(_lines(text, language == "console")))


def _raw(lines: list[str]) -> Iterator[tuple[int, str, str]]:
    """Line number, language and text of each block."""
    index = 0
    while index < len(lines):
        fence = re.match(r"( *)(```+)\s*([\w-]*)", lines[index])
        if fence:
            end = index + 1
            while end < len(lines) and lines[end].strip() != fence[2]:
                end += 1
            yield index + 1, fence[3], dedent("\n".join(lines[index + 1 : end]))
            index = end + 1
        elif lines[index].startswith("    ") and (index == 0 or not lines[index - 1].strip()):
            end = index
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            text = dedent("\n".join(lines[index:end])).strip()
            if text.split()[0] in PROGRAMS or text.startswith("#"):
                yield index + 1, "sh", text
            index = end
        else:
            index += 1


def _lines(text: str, console: bool) -> Iterator[Line]:
    """The commands of a block; in a console each follows a `$`, and its output follows it."""
    if console:
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, *output = part.splitlines()
            shown = (line.rstrip() for line in output)
            yield Line(command, None, tuple(line for line in shown if line not in ("", "...")))
        return
    reason = None
    waiting = text.splitlines()
    while waiting:
        line = waiting.pop(0).rstrip()
        if line.startswith(MARKER):
            reason = line.removeprefix(MARKER)
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        while line.endswith("\\") and waiting:
            line = line[:-1] + " " + waiting.pop(0).strip()
        heredoc = re.search(r"<<-?\s*['\"]?(\w+)", line)
        while heredoc and waiting:
            line += "\n" + waiting[0]
            if waiting.pop(0).strip() == heredoc[1]:
                break
        yield Line(line, reason)
