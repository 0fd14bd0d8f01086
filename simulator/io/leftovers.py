"""Temporary files and folders beside an output: locked while in use, removed by the next run."""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_OLD_S = 10.0
"""Age from which what nobody has locked is a leftover: its maker locks it at once."""
_RANDOM = r"\.[a-z0-9_]{8}\.tmp"


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """A new file beside `path`, to be written and renamed to it; gone after the block if not."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    with _held(handle, Path(name)) as made:
        yield made


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, to be filled and renamed to it; gone after the block if not."""
    made = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    with _held(os.open(made, os.O_RDONLY), made) as held:
        yield held


@contextmanager
def _held(handle: int, made: Path) -> Iterator[Path]:
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield made
    finally:
        remove(made)
        os.close(handle)


def remove_leftovers(path: Path) -> None:
    """Remove what killed runs left beside an output: nobody has it locked, and it is old enough."""
    pattern = re.compile(re.escape(f".{path.name}") + _RANDOM)
    with suppress(OSError):
        for entry in os.scandir(path.parent):
            if pattern.fullmatch(entry.name):
                _remove_unlocked(Path(entry.path))


def _remove_unlocked(found: Path) -> None:
    with suppress(OSError):
        if found.is_symlink() or time.time() - found.stat().st_mtime < _OLD_S:
            return
        handle = os.open(found, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(found)
        finally:
            os.close(handle)


def remove(found: Path) -> None:
    """Remove a file, or a folder by another name first: one that is half removed is nobody's."""
    if not found.is_dir() or found.is_symlink():
        found.unlink(missing_ok=True)
        return
    with suppress(OSError):
        gone = Path(tempfile.mkdtemp(dir=found.parent, prefix=f"{found.name}.", suffix=".gone"))
        found = found.rename(gone)  # onto an empty folder
    shutil.rmtree(found, ignore_errors=True)
