"""Watches the ranks of a run: what they send, whether they move, and which one failed first."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import connection
from typing import Any, get_args

import torch.distributed as dist

from isotune.simulator.errors import InputError, IsotuneError
from isotune.validation.ranks.process import RankProcess, exit_reason
from isotune.validation.ranks.rank import PHASES
from isotune.validation.ranks.run_store import Failure, FailureKind, Inbox, RankState
from isotune.validation.ranks.wire import NoMessageError, pack, unpack

LOADING = PHASES.index("loading")
START_S = 180.0
"""How long a process may take to import torch and find the others, at least."""
BEAT_S = 0.2
"""How often the watching processes look at their ranks and tell each other that they live."""
SILENCE_S = 20.0
"""A process that has told nothing for so long is lost."""
_URGENCY: tuple[FailureKind, ...] = get_args(FailureKind)
_GRACE_S = 1.5
"""How long the other ranks may take to report what they saw, once one has failed."""
_TOGETHER_S = 0.25
"""Failures seen within this time count as seen at once; a later one is a consequence."""

OnMessage = Callable[[int, Any], None]
"""Receives a rank's index and what it sent."""


class RunFailedError(IsotuneError):
    """A real run ended early: which rank, where, and why."""


@dataclass
class Watched:
    """A rank as the leading process sees it: `progress` is that of `Rank`.

    `beat` counts the reports of the process that started it (see `report`).
    """

    index: int
    store: dist.Store
    inbox: Inbox
    progress: tuple[int, int, int] = (0, -1, 0)
    exit_code: int | None = None
    failure: Failure | None = None
    noticed: float = 0.0
    moved: float = field(default_factory=time.monotonic)
    beat: int = -1
    heard: float = 0.0

    @property
    def done(self) -> bool:
        """Whether its job has come to its end."""
        return self.exit_code == 0

    def patience(self, timeout_s: float) -> float:
        """Seconds without progress after which the rank counts as hung."""
        return timeout_s if self.progress[0] >= LOADING else max(timeout_s, START_S)

    def look(self, on_message: OnMessage) -> None:
        """Take in what the rank sent, whether it moved, and whether its process lives."""
        try:
            self._refresh()  # before the messages: a process has sent all of them when it ends
            for content in self.inbox.received():
                if isinstance(content, Failure):
                    self.fail(content)
                else:
                    on_message(self.index, content)
        except NoMessageError as error:
            self.fail(Failure("died", f"was spoken for by a stranger: {error}"))
        if self.exit_code:
            self.fail(exit_reason(self.exit_code))
        elif self.silent(SILENCE_S):
            self.fail(Failure("lost", "lost the connection to its process"))

    def _refresh(self) -> None:
        if not self.store.check([_state_key(self.index)]):
            return
        state = unpack(self.store.get(_state_key(self.index)), RankState)
        if not 0 <= state.progress[0] < len(PHASES):
            raise NoMessageError(f"{state.progress[0]} is no phase of a rank")
        self.exit_code = state.exit_code
        if state.beat != self.beat:
            self.beat, self.heard = state.beat, time.monotonic()
        if state.progress != self.progress:
            self.progress, self.moved = state.progress, time.monotonic()

    def fail(self, failure: Failure) -> None:
        """Note a failure, if it is the first of this rank."""
        if self.failure is None:
            self.failure, self.noticed = failure, time.monotonic()

    def silent(self, seconds: float) -> bool:
        """Whether the process that started it lives no longer, or has been stopped."""
        running = self.beat >= 0 and self.exit_code is None
        return running and time.monotonic() - self.heard > seconds


def report(started: Sequence[RankProcess], store: dist.Store, beat: int) -> list[int | None]:
    """Tell the leading process how the ranks stand that were started here; their exit codes."""
    codes = [rank.process.exitcode for rank in started]
    for rank, code in zip(started, codes, strict=True):
        phase, step, count_of_reports = rank.progress
        state = RankState(beat, (phase, step, count_of_reports), code)
        store.set(_state_key(rank.rank), pack(state, RankState))
    return codes


def _state_key(rank: int) -> str:
    return f"state/{rank}"


def follow(started: RankProcess, store: dist.Store) -> bool:
    """Report a rank until it or the leading process ends; whether its job came to its end."""
    leader, heard = b"", time.monotonic()
    for beat in count():
        connection.wait([started.process.sentinel], BEAT_S)
        (code,) = report([started], store, beat)
        if code is not None:
            return code == 0
        if store.check(["leader"]) and (now := store.get("leader")) != leader:
            leader, heard = now, time.monotonic()
        patience = SILENCE_S if leader else START_S
        if store.check(["failed"]) or time.monotonic() - heard > patience:
            break
    return False


def watch(
    started: Sequence[RankProcess],
    inboxes: Sequence[Inbox],
    store: dist.Store,
    timeout_s: float,
    on_message: OnMessage,
    where: Callable[[int], str],
    stopped: Callable[[], str | None] = lambda: None,
) -> None:
    """Lead a run of the ranks with these inboxes: returns when all are done.

    `stopped` gives the reason to end it early.

    Raises:
        RunFailedError: a rank died, hung, ran out of memory or raised.
        InputError: a rank refused its input.
    """
    watched = [Watched(index, store, inbox) for index, inbox in enumerate(inboxes)]
    for beat in count():
        store.set("leader", str(beat))
        alive = [rank.process.sentinel for rank in started if rank.process.exitcode is None]
        connection.wait(alive, BEAT_S)
        reason = stopped()
        _look(watched, started, store, beat, on_message)
        if all(rank.done for rank in watched):
            return
        _find_hung([rank for rank in watched if not rank.done], timeout_s)
        if reason or any(rank.failure for rank in watched):
            if not any(rank.failure and rank.failure.kind == "hang" for rank in watched):
                time.sleep(_GRACE_S)
                _look(watched, started, store, beat + 1, on_message)
            raise _failure(watched, where, reason)


def _look(
    watched: Sequence[Watched],
    started: Sequence[RankProcess],
    store: dist.Store,
    beat: int,
    on_message: OnMessage,
) -> None:
    report(started, store, beat)
    for rank in watched:
        rank.look(on_message)


def _find_hung(busy: Sequence[Watched], timeout_s: float) -> None:
    """Ranks wait for each other, so a run hangs where the rank behind all others stands."""
    now = time.monotonic()
    if busy and all(now - rank.moved > rank.patience(timeout_s) for rank in busy):
        behind = min(busy, key=lambda rank: rank.progress[2])
        behind.fail(Failure("hang", f"did nothing for {behind.patience(timeout_s):g} s"))


def _failure(
    watched: Sequence[Watched], where: Callable[[int], str], reason: str | None
) -> IsotuneError:
    """The failure that ended a run, as one line."""
    for rank in watched:
        if rank.silent(_GRACE_S - 2 * BEAT_S):
            rank.fail(Failure("lost", "ended without a word"))
    failed = [(rank, rank.failure) for rank in watched if rank.failure]
    if not failed:
        return RunFailedError(f"{reason} ({_furthest(watched, where)})")
    first, failure = _first(failed)
    if failure.kind == "input":
        return InputError(failure.text)
    return RunFailedError(f"{_name(first, watched, where)} {failure.text}")


def _first(failed: Sequence[tuple[Watched, Failure]]) -> tuple[Watched, Failure]:
    """The failure that caused the others, and whose it is."""
    soonest = min(rank.noticed for rank, _ in failed)

    def order(one: tuple[Watched, Failure]) -> tuple[bool, bool, int, float]:
        rank, failure = one
        late = rank.noticed > soonest + _TOGETHER_S
        return failure.kind == "peers", late, _URGENCY.index(failure.kind), rank.noticed

    return min(failed, key=order)


def _furthest(watched: Sequence[Watched], where: Callable[[int], str]) -> str:
    absent = [str(rank.index) for rank in watched if rank.beat < 0]
    if absent:
        return f"rank {', '.join(absent)} of {len(watched)} had not come"
    return _name(max(watched, key=lambda rank: rank.progress[2]), watched, where)


def _name(rank: Watched, watched: Sequence[Watched], where: Callable[[int], str]) -> str:
    """A rank, its phase, and the step it was at."""
    phase, step = PHASES[rank.progress[0]], rank.progress[1]
    at = f"{phase}, {where(step)}" if step >= 0 else phase
    return f"rank {rank.index} of {len(watched)} ({at})"
