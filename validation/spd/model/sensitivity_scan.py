"""The sensitivity scan (SPD, arXiv 2502.20727): what each dropped attention all-reduce costs.

Two scans share one pass over the text. *Single*: block l alone is dropped. *Cumulative*: the
blocks l to L-1 are, from the last to the first. Both start from block l's own input, which no
drop changes, and from its own output without the sync, so that for L blocks L + L^2 block
passes replace the (2 L + 1) L of as many whole evaluations.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from isotune._version import __version__
from isotune.simulator.errors import InputError
from isotune.validation.spd.checkpoint import PartialRun, kept_or_run
from isotune.validation.spd.model.network import Network, perplexity
from isotune.validation.spd.model.text import Windows
from isotune.validation.weights import weight_files

Progress = Callable[[int, int], object]
_WHOLE, _END = 1 << 30, 1 << 20
"""Bytes of a weight file that is read whole for a digest, and of each end of a larger one."""


@dataclass(frozen=True, kw_only=True)
class Nats:
    """Summed negative log-likelihoods: with nothing dropped, and by block of each scan."""

    whole: float
    single: Sequence[float]
    cumulative: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What both scans found; `passes` block passes were run where whole evaluations take
    `whole_passes`."""

    tokens: int
    nats: Nats
    passes: int
    whole_passes: int

    @property
    def perplexity(self) -> float:
        """Perplexity with nothing dropped."""
        return self._perplexity(self.nats.whole)

    @property
    def single(self) -> tuple[float, ...]:
        """Perplexity with each block alone dropped."""
        return tuple(map(self._perplexity, self.nats.single))

    @property
    def cumulative(self) -> tuple[float, ...]:
        """Perplexity with each block and all after it dropped."""
        return tuple(map(self._perplexity, self.nats.cumulative))

    def growth(self, which: str) -> tuple[float, ...]:
        """Relative growth of perplexity per block; the cumulative scan's consecutive differences.

        `which` is `single` or `cumulative`.
        """
        base = self.perplexity
        if which == "single":
            return tuple((ppl - base) / base for ppl in self.single)
        after = (*self.cumulative[1:], base)
        return tuple((ppl - then) / base for ppl, then in zip(self.cumulative, after, strict=True))

    def _perplexity(self, nats: float) -> float:
        return perplexity(nats, self.tokens)


def scan(
    network: Network,
    windows: Windows,
    *,
    batch: int = 4,
    kept: PartialRun | None = None,
    on_progress: Progress | None = None,
) -> Scan:
    """Drop every block alone, and with all after it; windows by `batch`, states of one at a time.

    `kept` keeps the batches, for a scan that is interrupted.

    Raises:
        InputError: a loss is not finite.
    """
    blocks, batches = len(network), windows.batches(batch)
    each = blocks + blocks * blocks
    ticks = _Ticks(len(batches) * each, on_progress)
    nats: list[Nats] = []
    for number, part in enumerate(batches):
        ticks.done = number * each
        run = partial(_scan, network, part, ticks)
        nats.append(Nats(**kept_or_run(kept, f"batch-{number}", run)))
    return Scan(
        tokens=windows.tokens,
        nats=Nats(
            whole=sum(of.whole for of in nats),
            single=_sums([of.single for of in nats]),
            cumulative=_sums([of.cumulative for of in nats]),
        ),
        passes=ticks.passes,
        whole_passes=ticks.passes // each * (2 * blocks + 1) * blocks,
    )


@dataclass
class _Ticks:
    """Counts block passes: those of this run, and those done, an interrupted run's included."""

    total: int
    report: Progress | None
    done: int = 0
    passes: int = 0

    def __call__(self) -> None:
        self.done += 1
        self.passes += 1
        if self.report:
            self.report(self.done, self.total)


def _scan(network: Network, windows: Windows, tick: Callable[[], None]) -> dict[str, Any]:
    """The `Nats` of a batch of windows, as plain data."""
    stream = network.enter(windows)
    last, calls = len(network) - 1, stream.calls
    inputs, hidden = [], stream.hidden
    for index in range(last + 1):
        inputs.append(hidden)
        hidden = network.run(index, hidden, calls, drop=False)
        tick()
    whole = sum(network.losses(windows, hidden))
    single, cumulative = [], []
    for first in range(last, -1, -1):
        alone = together = network.run(first, inputs.pop(), calls, drop=True)
        tick()
        for index in range(first + 1, last + 1):
            alone = network.run(index, alone, calls, drop=False)
            together = network.run(index, together, calls, drop=True)
            tick()
            tick()
        single.append(sum(network.losses(windows, alone)))
        both = single[-1] if first == last else sum(network.losses(windows, together))
        cumulative.append(both)
    return {"whole": whole, "single": single[::-1], "cumulative": cumulative[::-1]}


def _sums(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(sum(column) for column in zip(*rows, strict=True))


def digest_of(folder: Path, *request: object) -> str:
    """A digest of a model's folder and of the request; equal digests give equal results.

    Weight files count with their contents, large ones with size, time of change, and both ends.
    """
    digest = hashlib.sha256(repr((__version__, *request)).encode())
    try:
        digest.update((folder / "config.json").read_bytes())
        for path in weight_files(folder):
            _digest_file(path, digest)
    except OSError as error:
        raise InputError(f"{folder}: cannot read it ({error.strerror})") from error
    return digest.hexdigest()


def _digest_file(path: Path, digest: Any) -> None:
    status = path.stat()
    digest.update(repr((path.name, status.st_size)).encode())
    with path.open("rb") as file:
        if status.st_size <= _WHOLE:
            digest.update(hashlib.file_digest(file, "sha256").digest())
            return
        digest.update(repr(status.st_mtime_ns).encode() + file.read(_END))
        file.seek(-_END, os.SEEK_END)
        digest.update(file.read(_END))
