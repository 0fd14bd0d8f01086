"""What holds for every command: help, completion, and no text lost on the way to either."""

import re

import pytest
import typer

from isotune.cli import app


def commands(command=None, path=()):
    """Every command with its words."""
    command = command or typer.main.get_command(app)
    for name, child in getattr(command, "commands", {}).items():
        yield (*path, name), child
        yield from commands(child, (*path, name))


COMMANDS = dict(commands())


@pytest.fixture
def complete(isotune, monkeypatch):
    """What the shell is offered for the last word of a line."""

    def offered(line):
        monkeypatch.setenv("_ISOTUNE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        done = isotune()
        assert (done.code, done.err) == (0, "")
        return done.out.split()

    return offered


@pytest.mark.parametrize("words", [(), ("hw",), ("models",), ("import",)])
def test_a_group_of_commands_without_more_prints_its_help(isotune, words):
    bare, asked = isotune(*words), isotune(*words, "--help")
    assert bare == asked
    assert bare.code == 0
    assert "Usage: isotune" in bare.out


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("isotune ", {"search", "predict", "hw", "import"}),
        ("isotune se", {"search", "sensitivity"}),
        ("isotune hw ", {"list", "show", "diff", "new"}),
        ("isotune search --ro", {"--robust"}),
        ("isotune hw new --fr", {"--from"}),
    ],
)
def test_tab_offers_commands_and_options(complete, line, offered):
    assert offered <= set(complete(line))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_prints_every_word_that_was_written(isotune, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "80")
    printed = isotune(*words, "--help")
    assert printed.code == 0
    assert max(map(len, printed.out.splitlines())) <= 80
    shown = re.sub(r"[\s│╭╮╰╯─]", "", printed.out)
    for parameter in COMMANDS[words].params:
        text = re.sub(r"\s", "", getattr(parameter, "help", None) or "")
        for word in re.findall(r"\[[^\]]*\]", text):
            assert word in shown, f"{parameter.name}: {word} is taken for markup"
