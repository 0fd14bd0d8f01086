"""Recovery of dropped all-reduces, step after step over all blocks.

First every dropped block that is to have a bias correction gets it, from the first to the last;
then heads are grouped in all of them, then neurons, then blocks are distilled. Each block is
repaired on the hidden states that the network as it stands then gives: the blocks before it are
a step further, those after it are not. A step is judged by the loss on held-back text of the
whole drop set as it stands, and kept only where it lowers that by more than noise: by more than
the standard error of the change over the held-back windows (of a single window: at all).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from isotune.simulator.errors import InputError
from isotune.simulator.schedule import STEPS
from isotune.validation.spd.model import Block, Network, Quality, Windows, evaluate
from isotune.validation.spd.recover.repair import (
    Repaired,
    Settings,
    Texts,
    candidate,
    judged,
)

Progress = Callable[[int, int], object]


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """A repaired network, and its held-back losses: `whole` with every sync, `zero_shot` with
    the syncs dropped and nothing repaired, `recovered`, `synced` repaired but with every sync."""

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
    on_stage: Callable[[str, Network], object] = lambda *_: None,
    on_progress: Progress | None = None,
) -> Recovery:
    """Repair the blocks whose syncs are dropped, by the same steps or by each block's own.

    The network given is left as it is. `on_block` is told of a block after each of its steps,
    and `done` has what an interrupted run told last of each. `on_stage` is told of the network
    after each step has been taken through all blocks; it is repaired further afterwards.

    Raises:
        InputError: an unknown step or block, or a loss that is not finite.
    """
    settings = settings or Settings()
    run = _Run(
        original=network,
        network=network.branch(),
        plan=_plan(network, dropped, steps),
        calibration=calibration,
        held_back=held_back,
        settings=settings,
    )
    run.start(done or {})
    stages = [step for step in STEPS if any(step in own for own in run.plan.values())]
    size = len(network)
    for number, step in enumerate(stages):

        def tick(index: int, before: int = number * size) -> None:
            if on_progress:
                on_progress(before + index, len(stages) * size)

        if run.stage(step, on_block, tick):
            on_stage(step, run.network)
        tick(size)
    return run.result()


@dataclass(kw_only=True)
class _Run:
    """A recovery under way: the network as it stands, its held-back loss, and what became of each
    dropped block."""

    original: Network
    network: Network
    plan: Mapping[int, tuple[str, ...]]
    calibration: Windows
    held_back: Windows
    settings: Settings
    blocks: dict[int, Repaired] = field(default_factory=dict)
    standing: Quality = field(init=False)

    def start(self, done: Mapping[int, Repaired]) -> None:
        """Begin, or continue an interrupted run."""
        for index in self.plan:
            self._put(done.get(index) or Repaired(index=index, steps=()))
        self.standing = self._evaluate(self.network, self.plan)

    def stage(
        self, step: str, on_block: Callable[[Repaired], object], tick: Callable[[int], object]
    ) -> bool:
        """Apply a step to the blocks that have it; False if all had been done before."""
        waiting = [
            index
            for index, steps in self.plan.items()
            if step in steps and len(self.blocks[index].steps) <= steps.index(step)
        ]
        if not waiting:
            return False
        texts = Texts.enter(self.network, self.calibration, self.held_back, self.settings)
        for index in range(waiting[-1] + 1):
            if index in waiting:
                self._repair(step, index, texts)
                on_block(self.blocks[index])
            texts.run(self.network, index, index in self.plan)
            tick(index + 1)
        return True

    def _repair(self, step: str, index: int, texts: Texts) -> None:
        """Apply one step to one block, and undo it if it does not help."""
        now, original = self.blocks[index], self.original.block(index)
        offered, note = candidate(step, self.network.block(index), original, now, texts)
        after = self.standing
        if offered is not None:
            after = self._judged(index, offered.block(original), texts)
        result = judged(step, self.standing, after, note)
        told = (*now.steps, result)
        if offered is not None and result.kept:
            now, self.standing = offered, after
        self._put(replace(now, steps=told))

    def _judged(self, index: int, block: Block, texts: Texts) -> Quality:
        """Held-back loss of the drop set as it stands, with another block in place of one."""
        nats: list[float] = []
        for stream in texts.held_back:
            with torch.no_grad():
                hidden = block.dropped(stream.hidden, stream.calls[index])
            for after in range(index + 1, len(self.network)):
                hidden = self.network.run(after, hidden, stream.calls, after in self.plan)
            nats += self.network.losses(stream.windows, hidden)
        return Quality(windows=tuple(nats), tokens=self.held_back.tokens)

    def _put(self, block: Repaired) -> None:
        self.blocks[block.index] = block
        self.network.replace(block.index, block.block(self.original.block(block.index)))

    def _evaluate(self, network: Network, dropped: Collection[int] = ()) -> Quality:
        return evaluate(network, self.held_back, dropped=dropped, batch=self.settings.batch)

    def result(self) -> Recovery:
        """The result."""
        return Recovery(
            network=self.network,
            dropped=tuple(self.plan),
            blocks=tuple(self.blocks[index] for index in self.plan),
            whole=self._evaluate(self.original),
            zero_shot=self._evaluate(self.original, self.plan),
            recovered=self.standing,
            synced=self._evaluate(self.network),
        )


def _plan(
    network: Network, dropped: Collection[int], steps: Sequence[str] | Mapping[int, Sequence[str]]
) -> dict[int, tuple[str, ...]]:
    """The steps of each dropped block, in their order."""
    by_block = steps if isinstance(steps, Mapping) else dict.fromkeys(dropped, steps)
    outside = [index for index in dropped if not 0 <= index < len(network)]
    if outside:
        raise InputError(
            f"drop: {network.shape.name} has blocks 0 to {len(network) - 1}, not {outside[0]}"
        )
    for index in sorted(dropped):
        unknown = [step for step in by_block.get(index, ()) if step not in STEPS]
        if unknown:
            raise InputError(f"unknown step {unknown[0]!r:.40} (allowed: {', '.join(STEPS)})")
    return {
        index: tuple(step for step in STEPS if step in by_block.get(index, ()))
        for index in sorted(dropped)
    }
