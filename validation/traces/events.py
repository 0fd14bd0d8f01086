"""Reading a trace of torch.profiler (Kineto): the Trace Event Format, plain or gzipped.

Complete events (`X`) have a category: `kernel`, `gpu_memcpy` and `gpu_memset` ran on a GPU,
`cpu_op` on the host, `user_annotation` is a named span on the host. `args` of a kernel name the
call that launched it (`correlation`), the operator that asked for it (`External id`), and of NCCL's
kernels what they sent (`Collective name`, `In msg nelems`, `dtype`, `Group size`). Times are
microseconds.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isotune.simulator.errors import InputError
from isotune.simulator.io import LARGEST, read_json

MOST_BYTES = 500_000_000
GPU = ("kernel", "gpu_memcpy", "gpu_memset")
LAUNCHES = ("cuda_runtime", "cuda_driver", "hip_runtime", "runtime")
_HOST = ("cpu_op", "user_annotation")
_LONGEST_NAME = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A complete event; seconds since the first event of the trace."""

    name: str
    category: str
    start: float
    end: float
    thread: tuple[str, str]
    arguments: dict[str, Any]

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The events of one process, by category, each in the order of their starts.

    `rank`, `ranks` and `backend` are those of torch.distributed, where the trace has them; `device`
    is the GPU's name, or `CPU` for a trace without GPU events.
    """

    events: dict[str, tuple[Event, ...]]
    device: str
    rank: int | None
    ranks: int | None
    backend: str

    @property
    def on_gpu(self) -> bool:
        """Whether kernels of a GPU were traced."""
        return any(self.of(*GPU))

    def of(self, *categories: str) -> tuple[Event, ...]:
        """The events of some categories, in the order of their starts."""
        found = [event for category in categories for event in self.events.get(category, ())]
        return tuple(sorted(found, key=lambda event: (event.start, -event.end)))


def read_trace(path: Path) -> Trace:
    """The trace in a `.json` or `.json.gz` file.

    Raises:
        InputError: an unreadable file, malformed JSON, no list of events, an event whose name or
            times are none, no events that ran, or kernels of several GPUs.
    """
    data = read_json(path, MOST_BYTES, infinities=True)
    listed = data.get("traceEvents")
    if not isinstance(listed, list):
        raise InputError(f"{path}: traceEvents: no list of events (torch.profiler writes one)")
    wanted = {*GPU, *LAUNCHES, *_HOST}
    raw = [
        (index, event)
        for index, event in enumerate(listed)
        if isinstance(event, dict) and event.get("ph") == "X" and _category(event) in wanted
    ]
    if not raw:
        raise InputError(
            f"{path}: no kernels and no operators in it (torch.profiler with "
            "activities=[CPU, CUDA] records them)"
        )
    first = min(_time(event, "ts", path, index) for index, event in raw)
    events: dict[str, list[Event]] = {}
    for index, event in raw:
        events.setdefault(_category(event), []).append(_event(event, first, path, index))
    _check_one_device(events, path)
    job = data.get("distributedInfo")
    job = job if isinstance(job, dict) else {}
    return Trace(
        events={name: tuple(found) for name, found in events.items()},
        device=_device(data, any(name in events for name in GPU)),
        rank=_count(job.get("rank"), 0),
        ranks=_count(job.get("world_size"), 1),
        backend=str(job.get("backend", ""))[:40],
    )


def _category(event: dict[str, Any]) -> str:
    category = event.get("cat")
    return category.lower() if isinstance(category, str) else ""


def _event(event: dict[str, Any], first: float, path: Path, index: int) -> Event:
    name, arguments = event.get("name"), event.get("args", {})
    if not isinstance(name, str):
        raise InputError(f"{path}: traceEvents[{index}]: name: not a text")
    if not isinstance(arguments, dict):
        raise InputError(f"{path}: traceEvents[{index}]: args: not a mapping")
    start = _time(event, "ts", path, index) - first
    took = _time(event, "dur", path, index)
    if took < 0:
        raise InputError(f"{path}: traceEvents[{index}]: dur: {took:g} is below zero")
    return Event(
        name=name[:_LONGEST_NAME],
        category=_category(event),
        start=start * 1e-6,
        end=(start + took) * 1e-6,
        thread=(str(event.get("pid"))[:40], str(event.get("tid"))[:40]),
        arguments=arguments,
    )


def _time(event: dict[str, Any], field: str, path: Path, index: int) -> float:
    value = event.get(field)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{path}: traceEvents[{index}]: {field}: not a number of microseconds")
    if not math.isfinite(value) or abs(value) > LARGEST * 1e3:
        raise InputError(f"{path}: traceEvents[{index}]: {field}: too large")
    return float(value)


def _check_one_device(events: dict[str, list[Event]], path: Path) -> None:
    devices = {
        str(event.arguments["device"])
        for event in events.get("kernel", ())
        if "device" in event.arguments
    }
    if len(devices) > 1:
        shown = ", ".join(sorted(devices)[:8])
        raise InputError(
            f"{path}: kernels of {len(devices)} GPUs ({shown:.60}); a trace of one rank is needed"
        )


def _device(data: dict[str, Any], on_gpu: bool) -> str:
    if not on_gpu:
        return "CPU"
    listed = data.get("deviceProperties")
    for properties in listed if isinstance(listed, list) else ():
        if isinstance(properties, dict) and isinstance(properties.get("name"), str):
            return str(properties["name"])[:80]
    return "GPU"


def _count(value: object, least: int) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= 1_000_000:
        return value
    return None
