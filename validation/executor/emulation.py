"""One device plays one rank of many: real compute of its shard, and copies in place of all-reduces.

A copy moves the bytes that the all-reduce would send, and ends when the profile says that the
all-reduce would. What it takes from compute meanwhile is taken for real: by the copy engine, over
the PCIe link into pinned memory, where the profile's ranks are joined by PCIe; by a kernel on as
many SMs as the all-reduce holds where they are joined by NVLink; by a thread that copies memory on
a CPU. The sums are not formed, so the numbers are not the model's.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from isotune.simulator.errors import InputError
from isotune.simulator.kernels import sent_per_byte
from isotune.simulator.number_types import bytes_of
from isotune.simulator.predict import CostModel, Rows, Scenario
from isotune.simulator.schedule import Plan
from isotune.validation.executor.collective_ops import Collectives
from isotune.validation.executor.streams import let_host_ahead

_PIECES = 16
"""Parts of a copy, spread over the time of the all-reduce."""
_PIECE_BYTES = 1 << 16
_COLD_WORDS = 1 << 26
"""256 MiB that copies rotate through: a message alone would stay in the L2 cache."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """What stands for one all-reduce: bytes this rank sends, seconds it takes, SMs it holds."""

    sent: int
    seconds: float
    sms: int


def message_of(scenario: Scenario, plan: Plan, rows: int) -> Message:
    """The all-reduce of the sums of so many rows, as the profile prices it."""
    workload = scenario.workload
    sync = scenario.model.block(workload.tp).segments[-1].collective
    assert sync is not None
    shape = Rows(rows, workload.batch, rows // workload.batch, 0)
    cost = CostModel.of(scenario, plan).step((sync,), shape)
    width = bytes_of(plan.comm_dtype)
    sent = sent_per_byte("ring", workload.tp) * rows * sync.elements * width
    return Message(sent=int(sent), seconds=float(cost.seconds), sms=max(1, int(cost.sms)))


class Emulated:
    """An all-reduce's stand-in; see `InPlace`. The tensor stays as it is."""

    def __init__(self, scenario: Scenario, plan: Plan, device: torch.device) -> None:
        self._scenario, self._plan = scenario, plan
        self._copy = _copy_on(device, scenario)
        self._known: dict[int, Message] = {}

    def __call__(self, partial: Tensor) -> None:
        """Take the time, the bandwidth and the units that an all-reduce would."""
        rows = partial.numel() // self._scenario.model.hidden_size
        if rows not in self._known:
            self._known[rows] = message_of(self._scenario, self._plan, rows)
        self._copy(self._known[rows])


def emulated(scenario: Scenario, device: torch.device) -> Callable[[Plan], Collectives]:
    """The stand-in for each plan's all-reduce."""
    return lambda plan: {"all_reduce": Emulated(scenario, plan, device)}


def _copy_on(device: torch.device, scenario: Scenario) -> Callable[[Message], None]:
    if device.type != "cuda":
        return CpuCopy()
    return EngineCopy(device) if scenario.hardware.node.link == "pcie" else SmCopy(device)


class CpuCopy:
    """Copies memory piece by piece, each piece at its time."""

    def __init__(self) -> None:
        self._from, self._to = torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.uint8)

    def __call__(self, message: Message) -> None:
        """Returns when the copy is done, and not before its time."""
        begin = time.perf_counter()
        if self._from.numel() < message.sent:
            self._from, self._to = (torch.zeros(message.sent, dtype=torch.uint8) for _ in "ft")
        for first, last in _pieces(message.sent):
            self._to[first:last].copy_(self._from[first:last])
            _wait_until(begin + message.seconds * last / message.sent)


class EngineCopy:
    """The copy engine moves the bytes to pinned memory, in pieces with pauses between them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._from = torch.empty(0, dtype=torch.uint8, device=device)
        self._to = torch.empty(0, dtype=torch.uint8)
        self._pauses: dict[Message, int] = {}

    def __call__(self, message: Message) -> None:
        """Enqueue on the current stream; the first of its kind waits for the device."""
        if self._from.numel() < message.sent:
            torch.cuda.synchronize(self._device)
            self._from = torch.zeros(message.sent, dtype=torch.uint8, device=self._device)
            self._to = torch.empty(message.sent, dtype=torch.uint8, pin_memory=True)
        if message not in self._pauses:
            self._pauses[message] = self._pause_of(message)
        self._enqueue(message, self._pauses[message])

    def _enqueue(self, message: Message, pause: int) -> None:
        """Copies with so many cycles after each; 0 is no pause, but takes a launch as well."""
        for first, last in _pieces(message.sent):
            self._to[first:last].copy_(self._from[first:last], non_blocking=True)
            torch.cuda._sleep(pause)

    def _pause_of(self, message: Message) -> int:
        """Cycles after each piece with which the message takes its time, launches included."""
        busy = _cuda_seconds(lambda: self._enqueue(message, 0))
        cycles = 1_000_000
        second = cycles / _cuda_seconds(lambda: torch.cuda._sleep(cycles))
        pause = (message.seconds - busy) / max(1, len(_pieces(message.sent)))
        return max(0, int(pause * second))


class SmCopy:
    """A kernel on a few SMs copies the bytes in device memory and holds the SMs to the end."""

    def __init__(self, device: torch.device) -> None:
        try:
            from isotune.validation.executor.sm_copy import hold_and_copy
        except ImportError as error:
            raise InputError(
                "--emulate-tp: a copy on some of the SMs needs triton (pip install triton), "
                "which torch for CUDA brings along"
            ) from error
        self._hold_and_copy: Any = hold_and_copy
        self._device = device
        self._from = self._to = torch.empty(0, dtype=torch.int32, device=device)
        self._first = 0

    def __call__(self, message: Message) -> None:
        """Enqueue on the current stream; each copy moves words that no cache has any more."""
        words = -(-message.sent // 4)
        if self._from.numel() < max(words, _COLD_WORDS):
            torch.cuda.synchronize(self._device)
            self._from, self._to = (
                torch.zeros(max(words, _COLD_WORDS), dtype=torch.int32, device=self._device)
                for _ in "ft"
            )
        if self._first + words > self._from.numel():
            self._first = 0
        part = slice(self._first, self._first + words)
        self._first += words
        try:
            self._hold_and_copy(self._from[part], self._to[part], message.sms, message.seconds)
        except (RuntimeError, OSError) as error:  # Triton compiles the kernel when it first runs
            raise InputError(
                "--emulate-tp: Triton cannot compile the copy, which takes a C compiler, Python.h "
                f"and a cache that it may write (TRITON_CACHE_DIR): {str(error).splitlines()[0]}"
            ) from error


def _pieces(size: int) -> list[tuple[int, int]]:
    """A copy's parts: `_PIECES`, but none too small to be worth a call."""
    piece = max(_PIECE_BYTES, -(-size // _PIECES))
    return [(first, min(first + piece, size)) for first in range(0, size, piece)]


def _wait_until(moment: float) -> None:
    """Sleep, and spin for the last bit that sleeping would overshoot."""
    while (left := moment - time.perf_counter()) > 0:
        time.sleep(left - 2e-4 if left > 3e-4 else 0)


def _cuda_seconds(work: Callable[[], object]) -> float:
    work()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in "be")
    let_host_ahead(2 * _PIECES)
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3
