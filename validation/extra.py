"""The packages that real runs need, and what to install when they are missing."""

from importlib.util import find_spec

from isotune.simulator.errors import InputError

PACKAGES = ("torch", "transformers", "safetensors")


def require_validate_extra() -> None:
    """Refuse to go on without the packages of the extra `validate`.

    Raises:
        InputError: names what is missing and what installs it.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(f"real runs need {' and '.join(missing)}: pip install 'isotune[validate]'")
