"""Which GPUs this machine has, as their driver names them."""

import subprocess
from collections import Counter

from isotune.simulator.errors import InputError

AUTO = "auto"
"""The name that stands for this machine."""
_COMMAND = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
_WAIT_S = 30.0


def this_machine() -> tuple[str, int]:
    """The GPUs of this machine: their name as nvidia-smi prints it, and their number.

    Raises:
        InputError: nvidia-smi is missing or fails, or the machine has no GPU or several kinds.
    """
    try:
        listed = subprocess.run(  # noqa: S603 (a fixed command)
            _COMMAND, capture_output=True, text=True, timeout=_WAIT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(
            f"hardware {AUTO!r}: nvidia-smi found no GPU here ({type(error).__name__}); "
            "name the machine (isotune hw list)"
        ) from error
    kinds = Counter(line.strip() for line in listed.stdout.splitlines() if line.strip())
    if len(kinds) != 1:
        found = ", ".join(f"{count} x {name}" for name, count in kinds.items()) or "no GPU"
        raise InputError(f"hardware {AUTO!r}: needs GPUs of one kind, found {found}")
    return next(iter(kinds.items()))
