"""A slow network on one Linux machine: a namespace per rank, joined through a paced bridge.

Each rank's egress passes a token bucket filter, so an all-reduce takes the time that a link of
that rate would take. TCP is plain Reno that keeps its window over a pause: BBR's probing, which is
some hosts' default, stalls an all-reduce between two computations for up to 200 ms. Needs root and
the `ip` and `tc` commands; nothing outlives the block.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from isotune.simulator.errors import IsotuneError

PORT = 29400
LINK = "pacedlink"
_BURST = 72_000
"""Bytes a token bucket holds at least: one segment of 64 KiB, which must fit whole."""
_BURST_S = 2e-4
_TCP = {"tcp_congestion_control": "reno", "tcp_slow_start_after_idle": "0"}


class NoNamespacesError(IsotuneError):
    """Network namespaces cannot be made here, and why."""


@dataclass(frozen=True)
class Network:
    """Namespaces of the ranks, in order."""

    namespaces: tuple[str, ...]

    def command(self, rank: int, arguments: Sequence[str]) -> list[str]:
        """A command that runs as a rank, with what torch.distributed needs in its environment."""
        environment = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": len(self.namespaces),
            "LOCAL_WORLD_SIZE": len(self.namespaces),
            "MASTER_ADDR": _address(0),
            "MASTER_PORT": PORT,
            "GLOO_SOCKET_IFNAME": LINK,
        }
        settings = [f"{name}={value}" for name, value in environment.items()]
        return ["ip", "netns", "exec", self.namespaces[rank], "env", *settings, *arguments]

    def pace(self, bits_per_second: float) -> None:
        """Give every rank's egress this rate.

        What the bucket holds passes at once after a pause, so it is kept small: otherwise a
        message between two computations is faster than one in a row of them.
        """
        burst = max(int(bits_per_second / 8 * _BURST_S), _BURST)
        for namespace in self.namespaces:
            rate = f"rate {bits_per_second:.0f}bit burst {burst} latency 200ms"
            _run(f"ip netns exec {namespace} tc qdisc replace dev {LINK} root tbf {rate}")


@contextmanager
def network(ranks: int) -> Iterator[Network]:
    """Namespaces for so many ranks, joined without a limit until `Network.pace` sets one.

    Raises:
        NoNamespacesError: no root, no `ip` or `tc`, or the kernel refuses.
    """
    missing = [name for name in ("ip", "tc") if shutil.which(name) is None]
    if missing:
        raise NoNamespacesError(f"no command {' or '.join(missing)} (iproute2)")
    if os.geteuid() != 0:
        raise NoNamespacesError("network namespaces need root")
    prefix = f"isotune{os.getpid()}"
    hub, names = f"{prefix}-hub", tuple(f"{prefix}-{rank}" for rank in range(ranks))
    try:
        _run(f"ip netns add {hub}")
        _run(f"ip -n {hub} link add bridge type bridge")
        _run(f"ip -n {hub} link set bridge up")
        for rank, name in enumerate(names):
            _join(hub, name, rank)
        yield Network(names)
    finally:
        for name in (*names, hub):
            with suppress(NoNamespacesError):
                _run(f"ip netns del {name}")


def _join(hub: str, name: str, rank: int) -> None:
    _run(f"ip netns add {name}")
    _run(f"ip -n {hub} link add port{rank} type veth peer name {LINK} netns {name}")
    _run(f"ip -n {hub} link set port{rank} master bridge")
    _run(f"ip -n {hub} link set port{rank} up")
    _run(f"ip -n {name} addr add {_address(rank)}/24 dev {LINK}")
    _run(f"ip -n {name} link set dev {LINK} up")
    _run(f"ip -n {name} link set lo up")
    for setting, value in _TCP.items():
        write = f"echo {value} > /proc/sys/net/ipv4/{setting}"
        _run(f"ip netns exec {name} sh -c", write)


def _address(rank: int) -> str:
    return f"10.213.7.{rank + 1}"


def _run(command: str, *more: str) -> None:
    """Run a command of words without spaces, then of `more`."""
    words = [*command.split(), *more]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = next(iter(done.stderr.strip().splitlines()), "no reason given")
        raise NoNamespacesError(f"{' '.join(words)!r} failed: {reason}")
