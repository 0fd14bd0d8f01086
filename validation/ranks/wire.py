"""What ranks tell each other, as JSON that is checked against a type when it is read.

Nothing that comes over a connection is unpickled: whoever can reach the port at which ranks meet
could otherwise run code in them.
"""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from isotune.simulator.errors import IsotuneError


class NoMessageError(IsotuneError):
    """Bytes at the ranks' store that no rank of this run has sent."""


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def pack(content: object, kind: Any) -> bytes:
    """A content of a type, which may be generic, as JSON; floats come back exactly."""
    return json.dumps(_adapter(kind).dump_python(content, mode="json")).encode()


def unpack(data: bytes, kind: Any) -> Any:
    """What `pack` made.

    Raises:
        NoMessageError: it is no JSON, or not of the type.
    """
    try:
        return _adapter(kind).validate_python(json.loads(data))
    except (ValueError, RecursionError) as error:  # a ValidationError is a ValueError
        raise NoMessageError(f"{data[:40]!r} is not what a rank sends") from error


def pack_named(content: object) -> bytes:
    """A content with the name of its type."""
    return pack((type(content).__name__, pack(content, type(content)).decode()), tuple[str, str])


def unpack_named(data: bytes, kinds: Sequence[type]) -> Any:
    """What `pack_named` made of one of some types.

    Raises:
        NoMessageError: it is of no such type.
    """
    name, text = unpack(data, tuple[str, str])
    for kind in kinds:
        if kind.__name__ == name:
            return unpack(text.encode(), kind)
    raise NoMessageError(f"{name!r:.40} is not what a rank sends")
