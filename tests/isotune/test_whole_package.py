"""What holds for every module of the product: declared dependencies, one family of exceptions."""

import ast
import re
import sys
import tomllib
from pathlib import Path

from _support.paths import ROOT

from isotune.simulator import errors

FOLDERS = ("isotune", "simulator", "tuner", "validation", "hw_profiles")
IMPORTED_AS = {"pyyaml": "yaml", "psycopg[binary]": "psycopg", "lazy_loader": "lazy_loader"}
OF_OTHERS = {
    "cmaes",
    "click",
    "lm_eval",
    "pandas",
    "pydantic_core",
    "sqlalchemy",
    "triton",
}
"""Asked for where present, or part of a declared one: click of Typer, SQLAlchemy of Optuna."""


def _modules() -> list[Path]:
    return sorted(path for name in FOLDERS for path in (ROOT / name).rglob("*.py"))


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(line for name in extras for line in extras[name])]
    names = {re.split(r"[<>=; ]", line)[0].lower() for line in asked}
    declared = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}
    imported = {name for path in _modules() for name in _imports(path)}
    ours = {"isotune", *sys.stdlib_module_names}
    assert imported - ours - declared - OF_OTHERS == set()


def test_every_exception_of_ours_is_one_of_the_family() -> None:
    known = {name for name in dir(errors) if name.endswith("Error")}
    strangers: list[str] = []
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error") and node.bases:
                bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                if not bases & known and path.name != "errors.py" and "Schema" not in bases:
                    strangers.append(f"{path.relative_to(ROOT)}: {node.name}({', '.join(bases)})")
    assert strangers == []
