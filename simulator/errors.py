"""The exceptions isotune raises on purpose."""

_LONGEST = 500
_HEAD = 330


def printable(text: str) -> str:
    """A text from a file or an option in one line, with no power over the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


class IsotuneError(Exception):
    """Base of every error isotune raises on purpose; its text is one line for the user."""


class InputError(IsotuneError, ValueError):
    """Something the user gave is wrong: says what, where, and what is allowed.

    Its text is one printable line of at most 500 characters: of a longer one the middle is left
    out.
    """

    def __init__(self, text: str) -> None:
        line = printable(text)
        if len(line) > _LONGEST:
            line = f"{line[:_HEAD]} ... {line[_HEAD + 5 - _LONGEST :]}"
        super().__init__(line)


class DisagreementError(IsotuneError):
    """The ranks of one run were asked for different things."""


class DoesNotFitError(InputError):
    """The model, its KV cache and its activations need more memory than a GPU has."""
