"""Every command block of the README and the docs runs; what cannot run here is parsed.

A page runs from top to bottom in one temporary folder, in which `tests/docs/files` lies: a reader's
measurements, logs, model. `isotune` is this checkout, run in this process where no shell is needed.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from _support.blocks import MARKER, PROGRAMS, ROOT, Block, Line, blocks, pages

from isotune.cli import app, main

FILES = Path(__file__).with_name("files")
WITH_COMMANDS = [page for page in pages() if list(blocks(page))]
ALL = [block for page in WITH_COMMANDS for block in blocks(page)]
_SHELL = re.compile(r"[|<>;&$`*\n]")
_TIMEOUT_S = 600
_MOST_S = 30.0


def words(text: str) -> list[str]:
    """A command's words without its trailing comment; optional ones lose their brackets."""
    return [
        word.strip("[]")
        for word in shlex.split(text, comments=True)
        if word not in ("...", "[...]")
    ]


def parts(text: str) -> list[list[str]]:
    """The words of each command of a line, without its trailing comment."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;"):
            found.append([])
        else:
            found[-1].append(word.strip("[]"))
    return [part for part in found if part]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_the_commands_of_a_page_run_in_order(page, tmp_path, monkeypatch, capsys):
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python":
            exec(compile(block.text, block.where, "exec"), names)
        for line in block.lines:
            capsys.readouterr()
            if line.reason is None:
                printed = _run(line.text, block) + capsys.readouterr().out
                _compare(line, printed, block)
    for drawn in tmp_path.glob("*.svg"):
        shown = ROOT / "docs" / "pictures" / drawn.name
        assert drawn.read_text() == shown.read_text(), f"{page.name}: copy {drawn.name} again"


def _compare(line: Line, printed: str, block: Block) -> None:
    """The lines a page shows are printed, in that order; others may stand between them."""
    rest = [text.rstrip() for text in printed.splitlines()]
    for shown in line.shown:
        assert shown in rest, f"{block.where}: {line.text} does not print: {shown}\n{printed}"
        rest = rest[rest.index(shown) + 1 :]


def _run(text: str, block: Block) -> str:
    """Run a command; what it printed, unless it ran in this process."""
    # What installs isotune, and the test run itself, has happened where this runs.
    wanted = [part for part in text.split(" && ") if not part.startswith(("pip install", "pytest"))]
    text = " && ".join(wanted)
    if not text:
        return ""
    asked = words(text)
    if asked[0] == "isotune" and not _SHELL.search(text.split(" #")[0]):
        with pytest.raises(SystemExit) as ended, _within(_MOST_S, f"{block.where}: {text}"):
            main(asked[1:])
        assert ended.value.code in (0, None), f"{block.where}: {text}"
        return ""
    folder = Path.cwd() / ".bin"
    folder.mkdir(exist_ok=True)
    program = folder / "isotune"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m isotune "$@"\n')
    program.chmod(0o755)
    where = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        env=os.environ | where,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{block.where}: {text}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def _within(seconds: float, what: str) -> Iterator[None]:
    """End a command that computes too long for a page: it wants a marker, or a smaller case."""

    def late(*_: object) -> None:
        pytest.fail(f"{what}: more than {seconds} s; use a smaller case or {MARKER!r}")

    # Processor time, not the clock's: a busy machine is not the page's fault.
    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.where)
def test_programs_commands_and_options_of_every_line_exist(block):
    for line in block.lines:
        assert line.reason != "", f"{block.where}: not run, but no reason is given"
        if "<<" in line.text:
            continue
        for part in parts(line.text):
            _check(part, block)


def _check(asked: list[str], block: Block) -> None:
    while asked and ("=" in asked[0] and not asked[0].startswith("-")):
        asked = asked[1:]
    if not asked:
        return
    assert asked[0] in PROGRAMS, f"{block.where}: unknown program {asked[0]}"
    if "isotune" in asked:
        _check_isotune(asked[asked.index("isotune") + 1 :], block)
    for word in asked:
        if word.startswith(("benchmarks/", "figures/", "experiments/")):
            assert (ROOT / word).is_file(), f"{block.where}: no such file {word}"


def _check_isotune(arguments: list[str], block: Block) -> None:
    """Let the command line itself parse a command, without running it."""
    command: Any = typer.main.get_command(app)
    for index, word in enumerate(arguments):
        if word in (">", ">>", "2>"):
            arguments = arguments[:index]
            break
    name = "isotune"
    while hasattr(command, "commands") and arguments and not arguments[0].startswith("-"):
        name, arguments = arguments[0], arguments[1:]
        assert name in command.commands, f"{block.where}: no command {name}"
        command = command.get_command(None, name)
    known = {option for parameter in command.params for option in parameter.opts}
    known |= {"--help", "--install-completion", "--show-completion"}
    for word in arguments:
        if word.startswith("-") and not re.fullmatch(r"-\d.*", word):
            assert word.split("=")[0] in known, f"{block.where}: {name} has no option {word}"
    if not hasattr(command, "commands") and "--help" not in arguments:
        command.make_context(name, list(arguments))


def test_the_runner_finds_blocks_of_each_kind(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n```sh\nisotune hw list # comment\n# not run here: no GPU\n"
        "isotune validate p.yaml \\\n  --layers 2\n```\n\n"
        "    isotune models list\n\n    not a command\n\n"
        "```console\n$ isotune hw list\nname  GPUs\n```\n\n"
        "```python\nx = 1\n```\n\n```sh\ncat > a.csv <<'EOF'\n1\nEOF\n```\n"
    )
    monkeypatch.setattr("_support.blocks.ROOT", tmp_path)
    found = list(blocks(page))
    assert [block.language for block in found] == ["sh", "sh", "sh", "python", "sh"]
    assert [line.reason for line in found[0].lines] == [None, "no GPU"]
    assert words(found[0].lines[1].text) == ["isotune", "validate", "p.yaml", "--layers", "2"]
    assert [line.text for line in found[2].lines] == ["isotune hw list"]
    assert found[2].lines[0].shown == ("name  GPUs",)
    assert found[4].lines[0].text.endswith("EOF")
    assert parts("a --b 'c|d' && e | f # g; h") == [["a", "--b", "c|d"], ["e"], ["f"]]


@pytest.mark.parametrize(
    "wrong", ["isotune serach", "isotune search --hv a800", "isotune hw lst", "rm -r ."]
)
def test_the_runner_finds_what_does_not_exist(wrong, tmp_path, monkeypatch):
    monkeypatch.setattr("_support.blocks.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(f"```sh\n{wrong}\n```\n")
    (block,) = blocks(page)
    with pytest.raises(AssertionError):
        _check(words(block.lines[0].text), block)


def test_the_runner_finds_a_figure_that_is_not_printed(tmp_path, monkeypatch):
    monkeypatch.setattr("_support.blocks.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("```console\n$ isotune hw list\na 1\n...\nc 3\n```\n")
    (block,) = blocks(page)
    (line,) = block.lines
    _compare(line, "a 1\nb 2\nc 3 \n", block)
    for printed in ("a 1\nb 2\n", "c 3\na 1\n", "a 1\nc 4\n"):
        with pytest.raises(AssertionError, match="does not print"):
            _compare(line, printed, block)
