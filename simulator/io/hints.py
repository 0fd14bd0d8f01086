"""Hints for a name that is not known."""

import difflib
from collections.abc import Iterable, Sequence

from isotune.simulator.errors import InputError


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean a or b? ` with the names most alike, to go before the list of all names.

    Empty where no name is alike.
    """
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"did you mean {' or '.join(near)}? " if near else ""


def check_known(what: str, names: Iterable[str], allowed: Sequence[str]) -> None:
    """Refuse names that are not among those allowed; `what` is the option or field.

    Raises:
        InputError: the first unknown name, and what is allowed.
    """
    for name in names:
        if name not in allowed:
            raise InputError(f"{what}: unknown {name!r:.60} (allowed: {', '.join(allowed)})")
