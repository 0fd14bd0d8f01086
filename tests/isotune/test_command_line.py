"""What holds for every command: help, completion, and no text lost on the way to either."""

import ast
import json
import re
import shlex
import subprocess
import sys

import pytest
import typer
from _support.paths import ROOT
from _support.report_cases import GEMMS

from isotune.cli import app
from isotune.commands.options import EXAMPLES
from isotune.results import SCHEMA


def commands(command=None, path=()):
    """Every command with its words."""
    command = command or typer.main.get_command(app)
    for name in command.list_commands(None) if hasattr(command, "commands") else ():
        child = command.get_command(None, name)
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
        ("isotune search --hw a100", {"a100", "a100-lbw", "a100-pcie"}),
        ("isotune predict --phase ", {"prefill", "decode"}),
        ("isotune search --strategies iso,gemm", {"iso,gemm_overlap"}),
        ("isotune search --sampler ", {"auto", "tpe"}),
        ("isotune hw show h2", {"h20", "h200"}),
        ("isotune export plan.yaml --to vl", {"vllm"}),
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


def test_every_command_has_one_example_and_every_example_a_command():
    assert set(EXAMPLES) == {(), *COMMANDS}


@pytest.mark.parametrize("words", EXAMPLES, ids=" ".join)
def test_help_ends_with_an_example_on_one_line_that_the_command_takes(isotune, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "80")
    example = EXAMPLES[words]
    lines = [line.strip() for line in isotune(*words, "--help").out.splitlines() if line.strip()]
    assert lines[-2:] == ["Example:", example]
    typed = shlex.split(example)
    assert tuple(typed[1 : 1 + len(words)]) == words
    asked = max((path for path in COMMANDS if path == tuple(typed[1 : 1 + len(path)])), key=len)
    rest = typed[1 + len(asked) :]
    assert not hasattr(COMMANDS[asked], "commands"), f"{example} only prints help"
    COMMANDS[asked].make_context(" ".join(asked), rest)


def test_the_list_of_commands_says_what_each_says_of_itself():
    listed = typer.main.get_command(app).commands
    for name, line in listed.items():
        first = (COMMANDS[(name,)].help or "").split("\n\n")[0]
        assert line.help == " ".join(first.split())


def test_a_list_of_commands_imports_none_of_them():
    code = (
        "import sys\nfrom isotune.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([n for n in sys.modules if n.startswith('isotune.commands.')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stderr))
    own = ("", ".examples", ".group", ".output", ".process")
    assert loaded == {f"isotune.commands.options{name}" for name in own}


@pytest.mark.parametrize(
    ("words", "old", "new"),
    [
        (("search",), "--front", "pareto"),
        (("search",), "--budget 1h", "time_budget"),
        (("sensitivity",), "--budget 1%", "accuracy_budget"),
        (("recover",), "--held-back 10%", "held_back_share"),
        (("remeasure",), "--batch 2", "eval_batch"),
    ],
)
def test_an_earlier_name_of_an_option_is_still_taken(words, old, new):
    command = COMMANDS[words]
    context = command.make_context(words[0], old.split(), resilient_parsing=True)
    assert context.params[new] != command.make_context("", [], resilient_parsing=True).params[new]


FILES = ROOT / "tests" / "docs" / "files"
SMALL = ("--hw", "a800", "--model", "llama-2-7b", "--prompt", "1k")
BRIEFLY = ("--tokens", "8", "--seconds", "0", "--device", "cpu")
JSON = {
    ("search",): (*SMALL, "--trials", "4"),
    ("predict",): SMALL,
    ("compare",): (*SMALL, "--tp", "2"),
    ("sweep",): (*SMALL, "--tp", "2", "--strategies", "serial,iso", "--jobs", "1", "-o", "s.csv"),
    ("hw", "list"): (),
    ("hw", "show"): ("a800",),
    ("hw", "diff"): ("a100", "a800"),
    ("doctor",): (),
    ("engines", "list"): (),
    ("engines", "show"): ("vllm",),
    ("engines", "diff"): ("vllm", "sglang"),
    ("hw", "new"): ("mine",),
    ("models", "list"): (),
    ("models", "show"): ("llama-2-7b",),
    ("measure",): ("--ops", "rms_norm", *BRIEFLY, "-o", "m.csv"),
    ("calibrate",): ("gemms.csv", "--base", "a100", "-o", "fitted.yaml"),
    ("check",): ("gemms.csv",),
    ("import", "nccl-tests"): (FILES / "all_reduce.log", "-o", "n.csv"),
    ("import", "aiconfigurator"): (FILES / "system.yaml", "--from", "h100", "-o", "a.yaml"),
    ("import", "topo"): (FILES / "topo.txt",),
    ("import", "trace"): (FILES / "trace.json",),
    ("report",): ("plan.yaml",),
    ("export",): ("plan.yaml", "--to", "json"),
}
ON_WEIGHTS = {("validate",), ("sensitivity",), ("recover",), ("remeasure",)}
"""Commands that run a model; `test_results` tests the kinds of result that they print."""
WANTS_A_PACKAGE = {("import", "tables")}
"""Commands of an extra that the tests do without; their own tests skip without it."""


def test_every_command_that_prints_takes_json():
    leaves = {words for words, command in COMMANDS.items() if not hasattr(command, "commands")}
    assert leaves == set(JSON) | ON_WEIGHTS | WANTS_A_PACKAGE
    for words in leaves:
        assert "as_json" in {parameter.name for parameter in COMMANDS[words].params}, words


@pytest.mark.parametrize("words", JSON, ids=" ".join)
def test_every_json_says_its_kind_and_its_schema(isotune, tmp_path, monkeypatch, words):
    if words == ("measure",):
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gemms.csv").write_text(GEMMS)
    isotune("search", *SMALL, "--trials", "1")
    printed = isotune(*words, *map(str, JSON[words]), "--json")
    assert printed.code == 0, printed.err
    data = json.loads(printed.out)
    assert data["schema"] == SCHEMA
    assert data["kind"]
    assert data["command"].startswith(f"isotune {' '.join(words)}")
