"""What a dropped block costs after each treatment, and what a drop set costs as a whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from validation.spd.network import Network
from validation.spd.recover import Recovery, Settings, recover
from validation.spd.text import Windows


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A network with the windows that fit repairs and those that judge them."""

    network: Network
    calibration: Windows
    held_back: Windows
    settings: Settings

    def growth(self, steps: Mapping[int, Sequence[str]]) -> float:
        """Relative growth of perplexity with these blocks dropped, each after its steps.

        Raises:
            InputError: an unknown step or block, or a loss that is not finite.
        """
        return growth(
            recover(
                self.network,
                self.calibration,
                self.held_back,
                tuple(steps),
                steps,
                settings=self.settings,
            )
        )


def growth(found: Recovery) -> float:
    """Relative growth of perplexity after a recovery, on its held-back text."""
    return found.recovered.perplexity / found.whole.perplexity - 1.0


def steps_of(treatment: str) -> tuple[str, ...]:
    """The recovery steps of a treatment such as `bias+distil`; none of a zero-shot drop."""
    return () if treatment == "zero-shot" else tuple(treatment.split("+"))


def single_growths(
    measurement: Measurement,
    treatments: Sequence[str],
    on_progress: Callable[[int, int], object] | None = None,
) -> dict[str, tuple[float, ...]]:
    """Growth of perplexity by treatment with each block alone dropped and treated."""
    blocks, found = len(measurement.network), {}
    for number, name in enumerate(treatments):
        costs = []
        for block in range(blocks):
            costs.append(measurement.growth({block: steps_of(name)}))
            if on_progress:
                on_progress(number * blocks + block + 1, len(treatments) * blocks)
        found[name] = tuple(costs)
    return found
