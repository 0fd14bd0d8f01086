"""The record of a recovery, as `recovery.json` holds it."""

from isotune.validation.spd.checkpoint import Perplexities, Record
from isotune.validation.spd.model import Network, Quality, Windows, evaluate
from isotune.validation.spd.recover.recovery import Recovery


def record_of(
    network: Network,
    recovery: Recovery,
    evaluation: Windows | None,
    *,
    batch: int,
    text: str,
    context: int,
    seed: int,
) -> Record:
    """The record of a recovery; `evaluation` is a text that it was not fitted on.

    `text` identifies the text that it was fitted on, `batch` windows run together.
    """

    def evaluated(windows: Windows) -> list[Quality]:
        return [
            evaluate(which, windows, dropped=dropped, batch=batch)
            for which in (network, recovery.network)
            for dropped in ((), recovery.dropped)
        ]

    return Record(
        model=network.shape.name,
        tp=network.tp,
        dropped=recovery.dropped,
        blocks=tuple(block.record for block in recovery.blocks),
        held_back=_perplexities(
            recovery.whole, recovery.zero_shot, recovery.synced, recovery.recovered
        ),
        evaluation=None if evaluation is None else _perplexities(*evaluated(evaluation)),
        text=text,
        context=context,
        seed=seed,
    )


def _perplexities(
    whole: Quality, zero_shot: Quality, synced: Quality, recovered: Quality
) -> Perplexities:
    return Perplexities(
        tokens=whole.tokens,
        whole=whole.perplexity,
        zero_shot=zero_shot.perplexity,
        recovered=recovered.perplexity,
        synced=synced.perplexity,
    )
