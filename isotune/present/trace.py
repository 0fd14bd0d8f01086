"""Timelines as Chrome trace events, which Perfetto and chrome://tracing open.

Predicted and measured timelines have one form, so one writer serves both. The format is the JSON
Object Format of the Trace Event Format specification: metadata events (`M`) name the tracks,
complete events (`X`) are the steps, and flow events (`s`, `f`) lead from each compute step to
its all-reduce and from the all-reduce to the compute step that waits for it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from isotune._version import __version__
from isotune.simulator.io import write_text
from isotune.simulator.predict import Prediction
from isotune.simulator.schedule import Lane, Program, Queue, Step, Timeline, kind_of

Timed = tuple[Program, Timeline]
Event = dict[str, Any]
_FIRST = 1
"""Process and thread 0 are the idle task to viewers that also read kernel traces."""
_TRACKS = {Queue.COMPUTE: "compute stream", Queue.COMM: "communication stream"}


def predicted(prediction: Prediction, name: str = "plan") -> dict[str, Timed]:
    """The timelines of a prediction: the serial baseline, and the plan where it differs."""
    serial, run = prediction.serial, prediction.run
    rows = {"serial, predicted": (serial.program, serial.timeline)}
    if run is not serial:
        rows[f"{name}, predicted"] = (run.program, run.timeline)
    return rows


def write_trace(path: Path, rows: Mapping[str, Timed], about: Mapping[str, str]) -> None:
    """Write timelines as a trace, whole or not at all.

    Args:
        path: where to.
        rows: each timeline by the name of its process in the trace.
        about: what the trace is of; shown under "Info and stats" in Perfetto.

    Raises:
        InputError: it cannot be written there.
    """
    write_text(path, json.dumps(trace(rows, about), allow_nan=False))


def trace(rows: Mapping[str, Timed], about: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A trace with one process per timeline and one track per lane; times in microseconds."""
    names: list[Event] = []
    events: list[Event] = []
    for pid, (name, (program, timeline)) in enumerate(rows.items(), _FIRST):
        stages = 1 + max(step.lane.stage for step in program.steps)
        names += _names(pid, name, stages)
        slices = [
            _slice(pid, step, start, end)
            for step, start, end in zip(program.steps, timeline.starts, timeline.ends, strict=True)
        ]
        events += slices
        events += _flows(program, slices, f"{pid}")
    events.sort(key=lambda event: float(event["ts"]))
    return {
        "displayTimeUnit": "ms",
        "otherData": {"isotune": __version__} | dict(about or {}),
        "traceEvents": names + events,
    }


def _names(pid: int, name: str, stages: int) -> Iterator[Event]:
    def metadata(kind: str, tid: int, **args: object) -> Event:
        return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "ts": 0, "args": args}

    yield metadata("process_name", _FIRST, name=name)
    yield metadata("process_sort_index", _FIRST, sort_index=pid)
    for stage in range(stages):
        for queue, track in _TRACKS.items():
            tid = _thread(Lane(stage, queue))
            of = f"stage {stage}, " if stages > 1 else ""
            yield metadata("thread_name", tid, name=f"{of}{track}")
            yield metadata("thread_sort_index", tid, sort_index=tid)


def _thread(lane: Lane) -> int:
    return _FIRST + len(_TRACKS) * lane.stage + list(_TRACKS).index(lane.queue)


def _slice(pid: int, step: Step, start: float, end: float) -> Event:
    # Whole nanoseconds, so that a step ends where its successor starts.
    first, last = round(start * 1e9), round(end * 1e9)
    return {
        "ph": "X",
        "name": _title(step),
        "cat": "sync" if step.is_sync else "compute",
        "pid": pid,
        "tid": _thread(step.lane),
        "ts": first / 1e3,
        "dur": (last - first) / 1e3,
        "args": {
            "block": step.block,
            "chunk": step.chunk.index,
            "tile": step.tile,
            "rows": step.rows,
            "ops": [str(op) for op in step.ops],
        },
    }


def _title(step: Step) -> str:
    """What a step is: `block 3: mlp_norm .. mlp_down, chunk 1`."""
    ops = str(step.ops[0]) if len(step.ops) == 1 else f"{step.ops[0]} .. {step.ops[-1]}"
    tile = "" if step.tile is None else f", tile {step.tile}"
    if kind_of(step) == "head":  # of all chunks
        return ops
    if step.block < 0:
        return f"{ops}, chunk {step.chunk.index}"
    return f"block {step.block}: {ops}, chunk {step.chunk.index}{tile}"


def _flows(program: Program, slices: list[Event], prefix: str) -> Iterator[Event]:
    """An arrow per dependency that begins or ends at a sync; ids are unique in the trace."""
    for index, step in enumerate(program.steps):
        for before in step.depends_on:
            if not (step.is_sync or program.steps[before].is_sync):
                continue
            flow = {"name": "waits for", "cat": "dependency", "id": f"{prefix}.{before}.{index}"}
            yield _anchor(slices[before], flow | {"ph": "s"})
            yield _anchor(slices[index], flow | {"ph": "f", "bp": "e"})


def _anchor(around: Event, flow: Event) -> Event:
    # A flow belongs to the slice that encloses its time stamp; the middle is never in doubt.
    middle = around["ts"] + around["dur"] / 2
    return flow | {"pid": around["pid"], "tid": around["tid"], "ts": middle}
