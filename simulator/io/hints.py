"""Hints for a name that is not known."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean a or b? ` with the names most alike, to go before the list of all names.

    Empty where no name is alike.
    """
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"did you mean {' or '.join(near)}? " if near else ""
