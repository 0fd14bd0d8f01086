"""The exceptions isotune raises on purpose."""


class IsotuneError(Exception):
    """Base of every error isotune raises on purpose; its text is one line for the user."""


class InputError(IsotuneError, ValueError):
    """Something the user gave is wrong: says what, where, and what is allowed."""


class DisagreementError(IsotuneError):
    """The ranks of one run were asked for different things."""


class DoesNotFitError(InputError):
    """The model, its KV cache and its activations need more memory than a GPU has."""
