"""What the process of a command keeps to: passwords are not listed."""

import ctypes
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_ARGUMENTS = slice(45, 47)
"""Fields of /proc/PID/stat after the name: where the arguments lie (48 and 49 in proc(5))."""


def hide_arguments(secrets: Iterable[str]) -> None:
    """Overwrite secrets among this process's arguments, which `ps` shows to every user.

    Only Linux lets a process do so.
    """
    hidden = [secret.encode(errors="surrogateescape") for secret in secrets]
    if not hidden:
        return
    with suppress(OSError, ValueError):
        fields = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
        begin, end = map(int, fields[_ARGUMENTS])
        shown = ctypes.string_at(begin, end - begin)
        for secret in hidden:
            at = shown.find(secret)
            while at >= 0:
                ctypes.memset(begin + at, ord("*"), len(secret))
                at = shown.find(secret, at + 1)
