"""What the processes of a run tell each other, through the torch store at which the ranks meet.

Keys, all under one prefix per run:

    RANK/NUMBER   the messages of a rank: (kind, content), numbered from 0
    state/RANK    what the process that started a rank knows: (beat, progress, exit code)
    leader        a count that grows while the leading process watches
    failed        set when the leading process has ended the run
"""

import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from isotune.validation.ranks.placement import RankPlacement, under_torchrun

MESSAGE = "message"
"""The kind of what a job sends; any other kind is that of a failure, with one line about it."""


@dataclass(frozen=True, kw_only=True)
class StoreAddress:
    """Where a run's store listens, and the prefix of the run's keys; picklable."""

    host: str
    port: int
    prefix: str

    def connect(self, timeout_s: float, *, serve: bool = False) -> tuple[dist.Store, int]:
        """A client of the store, and its port; `serve` starts the store in this process."""
        tcp = dist.TCPStore(
            self.host,
            self.port,
            is_master=serve,
            timeout=timedelta(seconds=timeout_s),
            wait_for_workers=False,
        )
        return dist.PrefixStore(self.prefix, tcp), tcp.port


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

    def send(self, content: Any, kind: str = MESSAGE) -> None:
        """Put a message into the store; it survives the death of this process."""
        self._store.set(f"{self._rank}/{self._sent}", pickle.dumps((kind, content)))
        self._sent += 1

    def flush(self) -> None:
        """Return when the store holds all that was sent."""
        self._store.check(["leader"])  # answered after what this connection sent before


class Inbox:
    """Reads the messages of one rank, in order, each once."""

    def __init__(self, store: dist.Store, rank: int) -> None:
        self._store, self._rank, self._read = store, rank, 0

    def received(self) -> Iterator[tuple[str, Any]]:
        """Kind and content of each message that has come."""
        while self._store.check([key := f"{self._rank}/{self._read}"]):
            self._read += 1
            kind, content = pickle.loads(self._store.get(key))  # noqa: S301  # from our own ranks
            self._store.delete_key(key)
            yield kind, content
