"""What `isotune search` can be asked for, and which of its options go with which of it."""

from enum import StrEnum
from typing import Final

import typer

from isotune.simulator.errors import InputError


class Kind(StrEnum):
    """The kinds of search, in the words of their refusals."""

    PLAN = "a search for one plan"
    DEPLOYMENTS = "several --tp or --batch"
    POLICY = "a policy (--prompts, or --prompt FIRST:LAST)"
    SHARED = "--storage"
    MEASURED = "--measured"
    JOIN = "--join, which takes the search from the study"


_EVERY: Final = frozenset(Kind)
_NEW: Final = _EVERY - {Kind.JOIN}
_TRIALS: Final = _NEW - {Kind.POLICY}

_GOES_WITH: Final = {
    "join": {Kind.JOIN},
    "storage": {Kind.SHARED, Kind.MEASURED, Kind.JOIN},
    "study": {Kind.SHARED, Kind.MEASURED},
    "prompts": {Kind.POLICY},
    "measured": {Kind.MEASURED},
    "budget": {Kind.MEASURED},
    "device": {Kind.MEASURED},
    "robust": {Kind.PLAN},
    "front": {Kind.PLAN},
    "trace": {Kind.PLAN},
    "output": _EVERY,
    "as_json": _EVERY,
    **dict.fromkeys(
        ("max_chunks", "objectives", "latency_limit", "sampler", "strategies"), _TRIALS
    ),
}
"""Options that do not go with every search; those not named go with all but a joined one."""
_INSTEAD: Final = {
    "trace": "trace it with isotune predict --trace",
    "storage": "allowed with one prompt, one --tp and one --batch",
    "measured": "allowed with one prompt, one --tp and one --batch",
}


def kind_of(*, joined: bool, policy: bool, deployments: bool, measured: bool, shared: bool) -> Kind:
    """The kind of search that is asked for; the first that is true decides."""
    asked = {
        Kind.JOIN: joined,
        Kind.POLICY: policy,
        Kind.DEPLOYMENTS: deployments,
        Kind.MEASURED: measured,
        Kind.SHARED: shared,
        Kind.PLAN: True,
    }
    return next(kind for kind, wanted in asked.items() if wanted)


def refuse_unsuited(context: typer.Context, kind: Kind) -> None:
    """Refuse options on the command line that would mean nothing in this kind of search.

    Raises:
        InputError: which one, and what it goes with.
    """
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        allowed = _GOES_WITH.get(name, _NEW)
        if source is not None and source.name == "COMMANDLINE" and kind not in allowed:
            instead = _INSTEAD.get(name) or "allowed with: " + "; ".join(
                item for item in Kind if item in allowed
            )
            if kind is Kind.JOIN and name != "trace":
                instead = "allowed: --storage, -o, --json"
            raise InputError(f"{parameter.opts[0]} does not go with {kind} ({instead})")
