"""Ctrl-C that is not lost.

Python raises KeyboardInterrupt wherever its main thread happens to be. Destructors, callbacks of
weak references and compiled extensions swallow exceptions, so the interrupt is raised again until
whoever ends the work says that it was heard.
"""

import signal
import sys
import threading
from _thread import interrupt_main
from typing import Any, NoReturn

_AGAIN_S = 0.4
_again: list[threading.Timer] = []


def keep_interrupts() -> None:
    """Have Ctrl-C raise KeyboardInterrupt, again and again until it is `heard`.

    For the main thread of a command; where Ctrl-C is ignored it stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    sys.unraisablehook = _report


def heard() -> None:
    """Say that KeyboardInterrupt was caught and is obeyed."""
    while _again:
        _again.pop().cancel()
    # Python ends a process as killed by SIGINT, whatever its exit code, if the interrupt came
    # while a text was executed (dataclasses do so) and no other text was executed since.
    exec("")  # noqa: S102


def _interrupt(*_: object) -> NoReturn:
    heard()
    timer = threading.Timer(_AGAIN_S, interrupt_main)
    timer.daemon = True
    _again.append(timer)
    timer.start()
    raise KeyboardInterrupt


def _report(lost: Any) -> None:
    """Python's own report of an exception that nothing can catch; an interrupt comes again."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
