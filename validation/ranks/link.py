"""How the processes that a launcher started reach the first of them: a TCP connection from each.

The address and a secret travel through the store at which the ranks meet anyway.
"""

import os
import secrets
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from hmac import compare_digest
from multiprocessing.connection import Connection
from typing import Any, Self

import torch.distributed as dist

from isotune.validation.ranks.watch import Watched

_PORT, _SECRET = "port", "secret"
_SECRET_BYTES = 32
_OVER = "over"
_HELLO_S = 10.0
"""How long a caller may take to say who it is."""


class Door:
    """Lets the other processes in: each one's connection becomes its `Watched.pipe`."""

    def __init__(self, store: dist.Store, expected: Sequence[Watched]) -> None:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        self._socket = socket.create_server(
            ("", 0), family=family, backlog=max(1, len(expected)), dualstack_ipv6=both
        )
        self._secret = secrets.token_bytes(_SECRET_BYTES)
        self._expected = {rank.index: rank for rank in expected}
        store.set(_SECRET, self._secret.hex())
        store.set(_PORT, str(self._socket.getsockname()[1]))

    def __enter__(self) -> Self:
        threading.Thread(target=self._open, daemon=True).start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Cut all connections, which tells the others to end; first a word if nothing failed."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._socket.close()
        for rank in self._expected.values():
            if rank.pipe is None:
                continue
            if kind is None:
                with suppress(OSError):  # it may have ended before
                    rank.pipe.send(_OVER)
            rank.pipe.close()

    def _open(self) -> None:
        waiting = set(self._expected)
        while waiting:
            try:
                caller, _ = self._socket.accept()
            except OSError:  # closed
                return
            pipe = _connection(caller)
            index = self._greeted(pipe)
            if index in waiting:
                self._expected[index].pipe = pipe
                waiting.remove(index)
            else:
                pipe.close()

    def _greeted(self, pipe: Any) -> int:
        """Who calls; -1 for a stranger."""
        try:
            hello = pipe.recv_bytes(_SECRET_BYTES + 4) if pipe.poll(_HELLO_S) else b""
        except (EOFError, OSError):
            return -1
        known = compare_digest(hello[:_SECRET_BYTES], self._secret)
        return int.from_bytes(hello[_SECRET_BYTES:], "big") if known else -1


def call(store: dist.Store, rank: int) -> Any:
    """A connection to the first process, as one of its ranks; waits for its door to be there."""
    port, secret = int(store.get(_PORT)), bytes.fromhex(store.get(_SECRET).decode())
    pipe = _connection(socket.create_connection((os.environ["MASTER_ADDR"], port)))
    pipe.send_bytes(secret + rank.to_bytes(4, "big"))
    return pipe


def said_over(link: Any) -> bool:
    """Whether a run whose connection has ended came to its end."""
    try:
        return bool(link.recv() == _OVER)
    except (EOFError, OSError):
        return False


def _connection(of: socket.socket) -> Any:
    of.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    of.settimeout(None)
    return Connection(of.detach())
