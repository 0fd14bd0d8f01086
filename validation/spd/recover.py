"""Recovery of dropped syncs, block after block.

The blocks are repaired from the first to the last, on the hidden states that the repaired
blocks before them give.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from simulator.errors import InputError
from simulator.treatment import STEPS
from validation.spd.network import Network, Quality, evaluate
from validation.spd.repair import (
    Repaired,
    Settings,
    StepResult,
    Texts,
    block_record,
    repair,
)
from validation.spd.text import Windows

__all__ = [
    "Recovery",
    "Repaired",
    "Settings",
    "StepResult",
    "block_record",
    "recover",
]
Progress = Callable[[int, int], object]


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """A repaired network, and its held-back losses: `whole` with every sync, `zero_shot` with
    the syncs dropped and nothing repaired, `recovered`.

    Where the repairs together did not help, none is in it (`blocks` is empty).
    """

    network: Network
    dropped: tuple[int, ...]
    blocks: tuple[Repaired, ...]
    whole: Quality
    zero_shot: Quality
    recovered: Quality
    synced: Quality


def recover(
    network: Network,
    calibration: Windows,
    held_back: Windows,
    dropped: Collection[int],
    steps: Sequence[str] | Mapping[int, Sequence[str]],
    *,
    settings: Settings | None = None,
    done: Mapping[int, Repaired] | None = None,
    on_block: Callable[[Repaired], object] = lambda _: None,
    on_progress: Progress | None = None,
) -> Recovery:
    """Repair the blocks whose syncs are dropped, by the same steps or by each block's own.

    The network given is left as it is. `done` has blocks repaired before (by an interrupted
    run), `on_block` is told of each new one.

    Raises:
        InputError: an unknown step or block, or a loss that is not finite.
    """
    settings = settings or Settings()
    plan = _plan(network, dropped, steps)
    repaired, finished = network.branch(), []
    data = Texts(
        calibration=[repaired.enter(part) for part in calibration.batches(settings.batch)],
        held_back=[repaired.enter(part) for part in held_back.batches(settings.batch)],
        settings=settings,
    )
    for index in range(len(network)):
        if index in plan:
            known = (done or {}).get(index)
            found = known or repair(repaired, index, plan[index], data)
            if known is None:
                on_block(found)
            repaired.replace(index, found.block(repaired.block(index)))
            finished.append(found)
        for stream in (*data.calibration, *data.held_back):
            stream.hidden = repaired.run(index, stream.hidden, stream.calls, index in plan)
        if on_progress:
            on_progress(index + 1, len(network))
    return _judged(network, repaired, tuple(finished), held_back, data)


def _judged(
    network: Network,
    repaired: Network,
    blocks: tuple[Repaired, ...],
    held_back: Windows,
    data: Texts,
) -> Recovery:
    """The recovery, or none where it did not help on the whole."""
    dropped, batch = tuple(one.index for one in blocks), data.settings.batch
    whole = evaluate(network, held_back, batch=batch)
    zero_shot = evaluate(network, held_back, dropped=dropped, batch=batch)
    nats = sum(repaired.loss(stream.windows, stream.hidden) for stream in data.held_back)
    recovered = Quality(nats=nats, tokens=held_back.tokens)
    if recovered.nats > zero_shot.nats:
        repaired, blocks, recovered = network.branch(), (), zero_shot
    return Recovery(
        network=repaired,
        dropped=dropped,
        blocks=blocks,
        whole=whole,
        zero_shot=zero_shot,
        recovered=recovered,
        synced=evaluate(repaired, held_back, batch=batch),
    )


def _plan(
    network: Network, dropped: Collection[int], steps: Sequence[str] | Mapping[int, Sequence[str]]
) -> dict[int, tuple[str, ...]]:
    """The steps of each dropped block, in their order."""
    wanted = steps if isinstance(steps, Mapping) else dict.fromkeys(dropped, steps)
    outside = [index for index in dropped if not 0 <= index < len(network)]
    if outside:
        raise InputError(
            f"drop: {network.shape.name} has blocks 0 to {len(network) - 1}, not {outside[0]}"
        )
    for index in sorted(dropped):
        unknown = [step for step in wanted.get(index, ()) if step not in STEPS]
        if unknown:
            raise InputError(f"unknown step {unknown[0]!r:.40} (allowed: {', '.join(STEPS)})")
    return {
        index: tuple(step for step in STEPS if step in wanted.get(index, ()))
        for index in sorted(dropped)
    }
