"""The perplexity that a dropped block costs after each treatment, and that of a whole drop set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from isotune.simulator.schedule import steps_of
from isotune.validation.spd.checkpoint import PartialRun, kept_or_run
from isotune.validation.spd.model import Network, Windows
from isotune.validation.spd.recover.recovery import Progress, Recovery, recover
from isotune.validation.spd.recover.repair import Settings


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
    kept: PartialRun | None = None,
    on_progress: Progress | None = None,
) -> dict[str, tuple[float, ...]]:
    """By treatment: how it changes the growth of perplexity when each block alone is dropped.

    Negative where it helps. `kept` keeps the gains, for a run that is interrupted.
    """
    blocks, gains = len(measurement.network), dict[str, tuple[float, ...]]()
    for number, name in enumerate(treatments):
        row = []
        for block in range(blocks):
            gain = partial(_gain, measurement, block, steps_of(name))
            row.append(float(kept_or_run(kept, f"{name}-{block}", gain)))
            if on_progress:
                on_progress(number * blocks + block + 1, len(treatments) * blocks)
        gains[name] = tuple(row)
    return gains


def _gain(measurement: Measurement, block: int, steps: Sequence[str]) -> float:
    recovery = measurement.recovery({block: steps})
    after, before = recovery.recovered.perplexity, recovery.zero_shot.perplexity
    return (after - before) / recovery.whole.perplexity
