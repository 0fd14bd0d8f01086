"""The record of a recovery, as `recovery.json` holds it."""

from isotune.validation.spd.checkpoint import Perplexities, Record
from isotune.validation.spd.model import Network, Windows, evaluate
from isotune.validation.spd.recover.recovery import Recovery
from isotune.validation.spd.recover.repair import block_record


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
    return Record(
        model=network.shape.name,
        tp=network.tp,
        dropped=recovery.dropped,
        blocks=tuple(map(block_record, recovery.blocks)),
        held_back=Perplexities(
            tokens=recovery.whole.tokens,
            whole=recovery.whole.perplexity,
            zero_shot=recovery.zero_shot.perplexity,
            recovered=recovery.recovered.perplexity,
            synced=recovery.synced.perplexity,
        ),
        evaluation=None
        if evaluation is None
        else _perplexities(network, recovery, evaluation, batch),
        text=text,
        context=context,
        seed=seed,
    )


def _perplexities(
    network: Network, recovery: Recovery, windows: Windows, batch: int
) -> Perplexities:
    runs = {
        "whole": (network, ()),
        "zero_shot": (network, recovery.dropped),
        "recovered": (recovery.network, recovery.dropped),
        "synced": (recovery.network, ()),
    }
    return Perplexities(
        tokens=windows.tokens,
        **{
            name: evaluate(which, windows, dropped=dropped, batch=batch).perplexity
            for name, (which, dropped) in runs.items()
        },
    )
