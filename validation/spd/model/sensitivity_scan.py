"""The sensitivity scan (SPD, arXiv 2502.20727): what each dropped attention sync costs.

Two scans share one pass over the text. *Single*: block l alone is dropped. *Cumulative*: the
blocks l to L-1 are, from the last to the first. Both start from block l's own input, which no
drop changes, and from its own output without the sync, so that for L blocks L + L^2 block
passes replace the (2 L + 1) L of as many whole evaluations.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from isotune.simulator.errors import InputError
from isotune.validation.spd.checkpoint import PartialRun
from isotune.validation.spd.model.network import Network, Stream, perplexity
from isotune.validation.spd.model.text import Windows
from isotune.validation.weights import weight_files

Progress = Callable[[int, int], object]


@dataclass(frozen=True, kw_only=True)
class Nats:
    """Summed negative log-likelihoods: with nothing dropped, and by block of each scan."""

    whole: float
    single: tuple[float, ...]
    cumulative: tuple[float, ...]


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
    partial: PartialRun | None = None,
    on_progress: Progress | None = None,
) -> Scan:
    """Drop every block alone, and with all after it; windows by `batch`, states of one at a time.

    `partial` keeps the batches, for a scan that is interrupted.

    Raises:
        InputError: a loss is not finite.
    """
    blocks, parts = len(network), windows.batches(batch)
    each = blocks + blocks * blocks
    done: list[Nats] = []
    resumed = 0
    for number, part in enumerate(parts):
        kept = partial.read(f"batch-{number}") if partial else None
        if kept is not None:
            done.append(Nats(**kept[0]))
            resumed += 1
            continue
        ticks = _Ticks(number * each, len(parts) * each, on_progress)
        done.append(_scan(network, network.enter(part), ticks))
        if partial:
            partial.save(f"batch-{number}", asdict(done[-1]))
    return Scan(
        tokens=windows.tokens,
        nats=Nats(
            whole=sum(one.whole for one in done),
            single=_sums([one.single for one in done]),
            cumulative=_sums([one.cumulative for one in done]),
        ),
        passes=(len(parts) - resumed) * each,
        whole_passes=(len(parts) - resumed) * (2 * blocks + 1) * blocks,
    )


@dataclass
class _Ticks:
    done: int
    total: int
    report: Progress | None

    def __call__(self) -> None:
        self.done += 1
        if self.report:
            self.report(self.done, self.total)


def _scan(network: Network, stream: Stream, tick: Callable[[], None]) -> Nats:
    last, calls, windows = len(network) - 1, stream.calls, stream.windows
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
    return Nats(whole=whole, single=tuple(single[::-1]), cumulative=tuple(cumulative[::-1]))


def _sums(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(sum(column) for column in zip(*rows, strict=True))


def digest_of(folder: Path, *asked: object) -> str:
    """A digest of a model's folder and of the request; equal digests give equal results.

    Weight files count by name, size and time of change.
    """
    digest = hashlib.sha256(repr(asked).encode())
    try:
        digest.update((folder / "config.json").read_bytes())
        for path in weight_files(folder):
            there = path.stat()
            digest.update(repr((path.name, there.st_size, there.st_mtime_ns)).encode())
    except OSError as error:
        raise InputError(f"{folder}: cannot read it ({error.strerror})") from error
    return digest.hexdigest()
