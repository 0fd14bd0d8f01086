"""`isotune search`: the main job, in seven kinds that the options tell apart.

Each kind is a request whose fields are the options that it takes: an option that stands on the
command line and is no field of the kind is refused.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol

import typer

from isotune.commands.options import CONTEXT, application, given, parameters, with_signature
from isotune.commands.search.deployments import DeploymentSearch
from isotune.commands.search.measured import MeasuredSearch
from isotune.commands.search.options import (
    LossyOptions,
    SearchCase,
    TuningOptions,
)
from isotune.commands.search.plan import PlanSearch
from isotune.commands.search.policy import PolicySearch
from isotune.commands.search.shared import JoinedSearch, SharedSearch
from isotune.commands.search.steps import StepSearch
from isotune.simulator.errors import InputError

__all__ = ["app"]


class Kind(Protocol):
    """A kind of search: its request, its name in a refusal, and when it is asked for."""

    NAME: str

    @classmethod
    def wanted(cls, options: Mapping[str, Any]) -> bool:
        """Whether the options ask for this kind."""
        ...


KINDS = (
    JoinedSearch,
    StepSearch,
    PolicySearch,
    DeploymentSearch,
    MeasuredSearch,
    SharedSearch,
    PlanSearch,
)
"""The kinds of search; the first that is wanted is run."""


def kind_of(options: Mapping[str, Any]) -> Any:
    """The kind of search that the options ask for."""
    return next(kind for kind in KINDS if kind.wanted(options))


def refuse_unsuited(context: typer.Context, kind: Any) -> None:
    """Refuse options on the command line that the kind of search does not take.

    Raises:
        InputError: which one, and what it goes with.
    """
    named = given(context)
    for parameter in context.command.params:
        name = str(parameter.name)
        if name in named and name not in _options(kind):
            flag = next(flag for flag in parameter.opts if flag.startswith("--"))
            raise InputError(f"{flag} does not go with {kind.NAME} ({_instead(kind, name)})")


def _instead(kind: Any, name: str) -> str:
    """What to do with an option that a kind of search does not take."""
    takers = [taker for taker in reversed(KINDS) if name in _options(taker)]
    for taker in takers:
        if instead := getattr(taker, "INSTEAD", {}).get(name):
            return str(instead)
    if kind is JoinedSearch:
        return "allowed: --storage, -o, --json"
    return "allowed with: " + "; ".join(taker.NAME for taker in takers)


def _options(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}


def _search(context: typer.Context, **options: Any) -> None:
    kind = kind_of(options)
    refuse_unsuited(context, kind)
    kind(**{name: options[name] for name in _options(kind)}).run()


app = application(
    with_signature(
        _search,
        [CONTEXT, *parameters(SearchCase, TuningOptions, LossyOptions, *reversed(KINDS))],
        "Find the best plan for a machine, and what each technique would save by itself.",
    ),
    renamed={"front": "pareto", "budget": "time-budget"},
)
