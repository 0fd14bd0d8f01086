"""The site's pages: all in the navigation, every public name and command documented."""

import re
import runpy

import pytest
import typer
import yaml
from _support.blocks import ROOT

import isotune
from isotune.cli import app

DOCS = ROOT / "docs"


def named(nav):
    for entry in nav:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else named(value)


def test_every_page_is_in_the_navigation_once():
    nav = list(named(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert sorted(nav) == sorted(pages), "add the page to nav in mkdocs.yml"


def test_every_public_name_is_in_the_reference():
    page = (DOCS / "python.md").read_text()
    errors = {"InputError", "DoesNotFitError", "IsotuneError"}
    types = {"Scenario", "Model", "HardwareProfile", "PlanFile", "Policy"}
    for name in set(isotune.__all__) - errors - types - {"__version__"}:
        assert re.search(rf"^::: \S+\.{name}$", page, re.MULTILINE), name


def test_the_site_needs_no_network():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert config["theme"]["font"] is False
    assert not {"extra_javascript", "extra_css"} & set(config)


def test_the_command_reference_has_every_command_and_option():
    pytest.importorskip("latex2mathml")
    hooks = runpy.run_path(str(DOCS / "_hooks.py"))
    page = hooks["on_page_markdown"]((DOCS / "commands.md").read_text())
    for path, command in commands(typer.main.get_command(app), "isotune"):
        _, _, section = page.partition(f"`{path}`\n")
        assert section, path
        options = [name for one in command.params for name in one.opts if name.startswith("--")]
        for option in options:
            assert option in section, (path, option)


def test_an_equation_becomes_mathml():
    pytest.importorskip("latex2mathml")
    hooks = runpy.run_path(str(DOCS / "_hooks.py"))
    for path in DOCS.glob("*.md"):
        text = path.read_text()
        shown = hooks["on_page_markdown"](text.replace("<!-- commands -->", ""))
        assert shown.count("<math") == text.count("```math")


def commands(command, path):
    for name in command.list_commands(None):
        child = command.get_command(None, name)
        yield f"{path} {name}", child
        if hasattr(child, "commands"):
            yield from commands(child, f"{path} {name}")
