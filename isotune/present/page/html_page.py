"""The page: one template, its style and script, Plotly, and the figures as JSON."""

import base64
import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

from isotune._version import __version__
from isotune.present.figures import figures_of
from isotune.present.section import Cell, Figure, Section, Table
from isotune.present.sections import section_of
from isotune.results import read_result
from isotune.simulator.errors import InputError
from isotune.simulator.io import printable

MOST_BYTES = 6_000_000


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page and what is on it."""

    html: str
    sections: tuple[Section, ...]


def make_report(paths: Sequence[Path], title: str | None = None) -> Page:
    """One page of the results in these files, in their order.

    Raises:
        InputError: a file that holds no result, a page too large to hand around, or plotly or
            jinja2 missing.
    """
    _libraries()
    results = [read_result(path) for path in paths]
    sections = tuple(
        replace(
            section_of(result),
            source=path.name,
            figures=figures_of(result, path.name, results),
        )
        for path, result in zip(paths, results, strict=True)
    )
    found = sections[0].title if len(sections) == 1 else f"{len(sections)} results"
    html = render(sections, title or found)
    size = len(html.encode())
    if size > MOST_BYTES:
        raise InputError(
            f"report: the page would be {size / 1e6:.1f} MB (allowed: {MOST_BYTES / 1e6:.0f}); "
            "give fewer results"
        )
    return Page(html=html, sections=sections)


def _libraries() -> tuple[ModuleType, ModuleType]:
    """jinja2 and Plotly's script.

    Raises:
        InputError: one is not installed.
    """
    try:
        import jinja2
        import plotly.offline
    except ImportError as error:
        raise InputError(f"report needs {error.name}: pip install 'isotune[report]'") from error
    return jinja2, plotly.offline


def render(sections: Sequence[Section], title: str) -> str:
    """The page of these sections."""
    jinja2, plotly = _libraries()
    here = files("isotune.present.page")
    parts = {name: here.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js")}
    scripts = [plotly.get_plotlyjs(), parts["page.js"]]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(here.joinpath("page.html.j2").read_text("utf-8"))
    numbered = _numbered(sections)
    return str(
        template.render(
            title=printable(title),
            version=__version__,
            sections=numbered,
            style=parts["page.css"],
            scripts=scripts,
            hashes=[_hash(script) for script in scripts],
            figures={key: _figure_json(key, figure) for key, figure in _all_figures(numbered)},
            cell_text=_cell_text,
            sort_value=_sort_value,
            command=_command,
            unbroken=_unbroken,
        )
    )


def _hash(script: str) -> str:
    """A script's fingerprint, for the policy that lets no other script run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _numbered(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Sections with an anchor for each, and for each of their figures and tables."""
    return [
        {
            "id": f"result-{number}",
            "section": section,
            "figures": [(f"figure-{number}-{n}", f) for n, f in enumerate(section.figures, 1)],
            "tables": [(f"table-{number}-{n}", t) for n, t in enumerate(_tables(section), 1)],
        }
        for number, section in enumerate(sections, 1)
    ]


def _tables(section: Section) -> list[Table]:
    """The tables of the page, without what is for a terminal."""
    return [_on_page(table) for table in section.tables if table.place != "terminal"]


def _on_page(table: Table) -> Table:
    kept = [n for n, column in enumerate(table.columns) if column.place != "terminal"]
    return replace(
        table,
        columns=tuple(table.columns[n] for n in kept),
        rows=tuple(tuple(row[n] for n in kept) for row in table.rows),
    )


def _sort_value(cell: Cell) -> float | None:
    """The number that a column is sorted by; the lower end of an interval."""
    if isinstance(cell, tuple):
        return cell[0]
    return None if isinstance(cell, str) else cell


def _all_figures(numbered: list[dict[str, Any]]) -> list[tuple[str, Figure]]:
    return [item for section in numbered for item in section["figures"]]


def _unbroken(text: str) -> str:
    """A text in which no line ends between a number and its unit."""
    return re.sub(r"(?<=\d) (?=%|ms|GPUs|tokens)", "\u00a0", text)


def _command(text: str) -> str:
    """A command as a person would give it: to see the result, not to save it."""
    try:
        words = [word for word in shlex.split(text) if word != "--json"]
    except ValueError:
        return printable(text)
    return printable(shlex.join(words))


def _cell_text(table: Table, row: tuple[Any, ...], index: int) -> str:
    return printable(table.text(row, index))


def _figure_json(key: str, figure: Figure) -> dict[str, Any]:
    """A figure as the script takes it; numbers rounded to six digits."""
    name = re.sub(r"[^a-z0-9]+", "-", figure.title.lower()).strip("-")
    return {
        "file": f"{name}-{key.removeprefix('figure-')}.csv",
        "views": [
            {"data": _rounded(view.data), "layout": _rounded(view.layout)} for view in figure.views
        ],
        "columns": [
            {"title": column.title, "digits": column.digits} for column in figure.table.columns
        ],
        "rows": _rounded(figure.table.rows),
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
