"""The perplexity that a dropped block costs after each treatment, and that of a whole drop set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isotune.simulator.schedule import steps_of
from isotune.validation.spd.checkpoint import PartialRun
from isotune.validation.spd.model import Network, Windows
from isotune.validation.spd.recover.recovery import Progress, Recovery, Settings, recover


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A network, and the windows on which repairs are fitted and evaluated."""

    network: Network
    calibration: Windows
    held_back: Windows
    settings: Settings

    def growth(
        self, steps: Mapping[int, Sequence[str]], on_progress: Progress | None = None
    ) -> float:
        """Relative growth of perplexity with these blocks dropped, each after its steps."""
        found = self.recovery(steps, on_progress)
        return found.recovered.perplexity / found.whole.perplexity - 1.0

    def recovery(
        self, steps: Mapping[int, Sequence[str]], on_progress: Progress | None = None
    ) -> Recovery:
        """These blocks dropped, each after its steps.

        Raises:
            InputError: an unknown step or block, or a loss that is not finite.
        """
        return recover(
            self.network,
            self.calibration,
            self.held_back,
            tuple(steps),
            steps,
            settings=self.settings,
            on_progress=on_progress,
        )


def single_gains(
    measurement: Measurement,
    treatments: Sequence[str],
    *,
    partial: PartialRun | None = None,
    on_progress: Progress | None = None,
) -> dict[str, tuple[float, ...]]:
    """By treatment: how it changes the growth of perplexity when each block alone is dropped.

    Negative where it helps. `partial` keeps the gains, for a run that is interrupted.
    """
    blocks, gains = len(measurement.network), dict[str, tuple[float, ...]]()
    for number, name in enumerate(treatments):
        row = []
        for block in range(blocks):
            row.append(_kept_gain(measurement, block, name, partial))
            if on_progress:
                on_progress(number * blocks + block + 1, len(treatments) * blocks)
        gains[name] = tuple(row)
    return gains


def _kept_gain(
    measurement: Measurement, block: int, treatment: str, partial: PartialRun | None
) -> float:
    part = f"{treatment}-{block}"
    kept = partial.read(part) if partial else None
    if kept is not None:
        return float(kept[0])
    gain = _gain(measurement, block, steps_of(treatment))
    if partial:
        partial.save(part, gain)
    return gain


def _gain(measurement: Measurement, block: int, steps: Sequence[str]) -> float:
    found = measurement.recovery({block: steps})
    after, before = found.recovered.perplexity, found.zero_shot.perplexity
    return (after - before) / found.whole.perplexity
