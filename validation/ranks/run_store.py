"""What the processes of a run tell each other, through the torch store at which the ranks meet.

Keys, all under one prefix per run:

    RANK/NUMBER   the messages of a rank, numbered from 0: a name and a content, as JSON
    state/RANK    what the process that started a rank knows: a `RankState`, as JSON
    leader        a count that grows while the leading process watches
    failed        set when the leading process has ended the run

The store has no password: whoever reaches its port can end the run or falsify its times, but
runs no code (see `wire`). It listens on loopback where the ranks are on one machine, else on
the address that the launcher names.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch.distributed as dist

from isotune.simulator.errors import InputError
from isotune.validation.ranks.placement import RankPlacement, under_torchrun
from isotune.validation.ranks.wire import pack_named, unpack_named

FailureKind = Literal["died", "input", "memory", "error", "lost", "aborted", "hang", "peers"]
"""Kinds of failure, the likeliest cause of the others first. NCCL's own watchdog aborts a process
some time after it has lost another one."""


@dataclass(frozen=True)
class Failure:
    """Why a rank ended: `input` (the user's), `memory`, `peers` (the consequence of another
    rank's failure or of a lost link), `error`, or what its process saw; with one line."""

    kind: FailureKind
    text: str


@dataclass(frozen=True)
class RankState:
    """What the process that started a rank knows of it; `beat` counts its reports."""

    beat: int
    progress: tuple[int, int, int]
    exit_code: int | None


@dataclass(frozen=True, kw_only=True)
class StoreAddress:
    """Where a run's store listens, and the prefix of the run's keys; picklable."""

    host: str
    port: int
    prefix: str

    def connect(self, timeout_s: float, *, serve: bool = False) -> tuple[dist.Store, int]:
        """A client of the store, and its port; `serve` starts the store in this process.

        Raises:
            InputError: the store cannot listen at the host and port.
        """
        listening = _listening(self.host, self.port) if serve else None
        tcp = dist.TCPStore(
            self.host,
            listening.getsockname()[1] if listening else self.port,
            is_master=serve,
            timeout=timedelta(seconds=timeout_s),
            wait_for_workers=False,
            master_listen_fd=listening.detach() if listening else None,
        )
        return dist.PrefixStore(self.prefix, tcp), tcp.port


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens on the interface of a host only; torch's own listens on all."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen()
    except OSError as error:
        reason = error.strerror
        raise InputError(f"ranks cannot meet at {host} port {port}: {reason}") from error
    return found


def open_store(first: RankPlacement, timeout_s: float) -> tuple[dist.Store, StoreAddress]:
    """This process's client of the run's store, and the address for the ranks that it starts.

    Under torchrun the store is at MASTER_ADDR and MASTER_PORT; it lives in torchrun's agent, or
    else in the process of rank 0. Otherwise it lives in this process, on a free port.
    """
    if under_torchrun():
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        address = StoreAddress(
            host=os.environ["MASTER_ADDR"],
            port=int(os.environ["MASTER_PORT"]),
            prefix=f"isotune/{attempt}",
        )
        in_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        return address.connect(timeout_s, serve=first.rank == 0 and not in_agent)[0], address
    local = StoreAddress(host="127.0.0.1", port=0, prefix="isotune")
    store, port = local.connect(timeout_s, serve=True)
    return store, StoreAddress(host=local.host, port=port, prefix=local.prefix)


class Outbox:
    """Sends the messages of one rank; a message may take up to 8 MB (torch's limit)."""

    def __init__(self, store: dist.Store, rank: int) -> None:
        self._store, self._rank, self._sent = store, rank, 0

    def send(self, content: Any) -> None:
        """Put a message into the store; it survives the death of this process."""
        self._store.set(f"{self._rank}/{self._sent}", pack_named(content))
        self._sent += 1

    def flush(self) -> None:
        """Return when the store holds all that was sent."""
        self._store.check(["leader"])  # answered after what this connection sent before


class Inbox:
    """Reads the messages of one rank, in order, each once: of the given types, or a `Failure`."""

    def __init__(self, store: dist.Store, rank: int, kinds: Sequence[type]) -> None:
        self._store, self._rank, self._kinds, self._read = store, rank, (*kinds, Failure), 0

    def received(self) -> Iterator[Any]:
        """Each message that has come.

        Raises:
            NoMessageError: one that no rank of this run has sent.
        """
        while self._store.check([key := f"{self._rank}/{self._read}"]):
            self._read += 1
            content = unpack_named(self._store.get(key), self._kinds)
            self._store.delete_key(key)
            yield content
