"""What a dropped block costs after each treatment, and what a drop set costs as a whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from isotune.simulator.schedule import steps_of
from isotune.validation.spd.model import Network, Windows
from isotune.validation.spd.recover.recovery import Progress, Recovery, Settings, recover


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A network with the windows that fit repairs and those that judge them."""

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
    done: Mapping[str, float] | None = None,
    on_gain: Callable[[Mapping[str, float]], object] = lambda _: None,
    on_progress: Progress | None = None,
) -> dict[str, tuple[float, ...]]:
    """By treatment, what it changes in the growth of perplexity when a block alone is dropped.

    Negative where it helps. `done` has gains of an interrupted run by `treatment:block`;
    `on_gain` is given all so far.
    """
    blocks, known = len(measurement.network), dict(done or {})
    keys = [f"{name}:{block}" for name in treatments for block in range(blocks)]
    for number, key in enumerate(keys, 1):
        if key not in known:
            name, _, block = key.partition(":")
            known[key] = _gain(measurement, int(block), steps_of(name))
            on_gain(known)
        if on_progress:
            on_progress(number, len(keys))
    return {name: tuple(known[f"{name}:{block}"] for block in range(blocks)) for name in treatments}


def _gain(measurement: Measurement, block: int, steps: Sequence[str]) -> float:
    found = measurement.recovery({block: steps})
    after, before = found.recovered.perplexity, found.zero_shot.perplexity
    return (after - before) / found.whole.perplexity
