"""What kernels do, by words in their names; the table is data, `kernel_names.yaml`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from isotune.simulator.io import Schema, read_yaml, validate

IGNORED = "ignored"
"""The op of names that are no work."""
UNKNOWN = "unknown"
"""The op of kernels that no entry names; they count as compute."""
COPY = "copy"
"""The op of what the driver copies and fills, whatever its name."""
_Word = Annotated[str, StringConstraints(min_length=3, max_length=100)]
Stream = Literal["compute", "communication"]


class NamedKernels(Schema):
    """Kernels of one op: those whose name contains one of the words, in any case."""

    op: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]
    stream: Stream
    words: tuple[_Word, ...] = Field(min_length=1, max_length=200)


class _File(Schema):
    kernels: tuple[NamedKernels, ...] = Field(default=(), max_length=200)
    passes: tuple[_Word, ...] = Field(default=(), max_length=20)


@dataclass(frozen=True, kw_only=True)
class KernelNames:
    """Entries in the order in which they are tried, and the annotations that mark a pass."""

    kernels: tuple[NamedKernels, ...]
    passes: tuple[str, ...]
    _found: dict[str, NamedKernels | None] = field(default_factory=dict, repr=False, compare=False)

    def of(self, name: str) -> NamedKernels | None:
        """The entry of a kernel; None where no entry names it."""
        if name not in self._found:
            self._found[name] = next(self._matches(name.lower()), None)
        return self._found[name]

    def _matches(self, lower: str) -> Iterator[NamedKernels]:
        for entry in self.kernels:
            if any(word.lower() in lower for word in entry.words):
                yield entry


@cache
def bundled_names() -> KernelNames:
    """The bundled table."""
    path = Path(str(files("isotune.validation.traces"))) / "kernel_names.yaml"
    return _names(path)


def read_names(path: Path) -> KernelNames:
    """A user's table, tried before the bundled one.

    Raises:
        InputError: an unreadable file, malformed YAML, or a field that is not known.
    """
    own, bundled = _names(path), bundled_names()
    return KernelNames(kernels=own.kernels + bundled.kernels, passes=own.passes + bundled.passes)


def _names(path: Path) -> KernelNames:
    data = validate(_File, read_yaml(path), path)
    return KernelNames(kernels=data.kernels, passes=data.passes)
