"""What the process of a command keeps to: Ctrl-C is obeyed, passwords are not listed."""

import ctypes
import signal
import sys
import threading
from _thread import interrupt_main
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

_AGAIN_S = 0.05
_ARGUMENTS = slice(45, 47)
"""Fields of /proc/PID/stat after the name: where the arguments lie (48 and 49 in proc(5))."""


def keep_interrupts() -> None:
    """Have Ctrl-C raise KeyboardInterrupt, also where Python would only report and forget it.

    What a destructor or a weak reference's callback raises is lost; the interrupt is given again.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.unraisablehook = _give_again


def _give_again(lost: Any) -> None:
    if issubclass(lost.exc_type, KeyboardInterrupt):
        again = threading.Timer(_AGAIN_S, interrupt_main)
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(lost)


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
