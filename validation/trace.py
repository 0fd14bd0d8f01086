"""Timelines as a Chrome/Perfetto trace: two rows of predicted, two of measured."""

from typing import Any

from simulator.program import Program, Stream
from simulator.timeline import Timeline


def trace(rows: dict[str, tuple[Program, Timeline]]) -> dict[str, Any]:
    """A trace (JSON Object Format) with one process per timeline, one thread per stream."""
    events: list[dict[str, Any]] = []
    for pid, (name, (program, timeline)) in enumerate(rows.items()):
        events.append(_meta("process_name", pid, 0, name))
        for tid, stream in enumerate(Stream):
            events.append(_meta("thread_name", pid, tid, str(stream)))
        events.extend(_steps(pid, program, timeline))
    return {"displayTimeUnit": "ms", "traceEvents": events}


def _meta(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}


def _steps(pid: int, program: Program, timeline: Timeline) -> list[dict[str, Any]]:
    return [
        {
            "ph": "X",
            "name": f"{step.ops[0] if len(step.ops) == 1 else f'{step.ops[0]}..{step.ops[-1]}'}",
            "cat": str(step.stream),
            "pid": pid,
            "tid": list(Stream).index(step.stream),
            "ts": start * 1e6,
            "dur": (end - start) * 1e6,
            "args": {"block": step.block, "chunk": step.chunk.index, "tile": step.tile},
        }
        for step, start, end in zip(program.steps, timeline.starts, timeline.ends, strict=True)
    ]
