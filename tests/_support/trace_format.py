"""The rules of the Trace Event Format, as a check of a file someone else would open.

From the specification ("Trace Event Format", the Chromium project): the fields that each phase must
have, complete events of a track nested or apart, flow ends bound to a slice and a start before
each finish, and metadata of the known kinds.
"""

from collections import defaultdict
from typing import Any

_FIELDS = {
    "M": {"name": str, "pid": int, "tid": int, "args": dict},
    "X": {"name": str, "cat": str, "pid": int, "tid": int, "ts": (int, float), "dur": (int, float)},
    "s": {"name": str, "cat": str, "id": (str, int), "pid": int, "tid": int, "ts": (int, float)},
    "f": {"name": str, "cat": str, "id": (str, int), "pid": int, "tid": int, "ts": (int, float)},
}
_METADATA = {
    "process_name": "name",
    "thread_name": "name",
    "process_sort_index": "sort_index",
    "thread_sort_index": "sort_index",
}
_TOLERANCE_US = 1e-6
Event = dict[str, Any]


def check_trace(trace: Any) -> None:
    """Fail with the offending event where a trace breaks the format."""
    assert isinstance(trace, dict)
    assert trace["displayTimeUnit"] in ("ms", "ns")
    events = trace["traceEvents"]
    for event in events:
        for name, kind in _FIELDS[event["ph"]].items():
            assert isinstance(event[name], kind), (name, event)
        assert event["pid"] > 0, event
        assert event["tid"] > 0, event
        if event["ph"] == "M":
            assert _METADATA[event["name"]] in event["args"], event
        else:
            assert event["ts"] >= 0, event
        assert event.get("dur", 0) >= 0, event
    slices = _slices(events)
    _check_nesting(slices)
    _check_names(events, slices)
    _check_flows(events, slices)
    times = [event["ts"] for event in events if event["ph"] != "M"]
    assert times == sorted(times)


def _slices(events: list[Event]) -> dict[tuple[int, int], list[Event]]:
    tracks: dict[tuple[int, int], list[Event]] = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            tracks[event["pid"], event["tid"]].append(event)
    return tracks


def _check_nesting(tracks: dict[tuple[int, int], list[Event]]) -> None:
    for slices in tracks.values():
        open_ends: list[float] = []
        for event in sorted(slices, key=lambda e: (e["ts"], -e["dur"])):
            end = event["ts"] + event["dur"]
            while open_ends and open_ends[-1] <= event["ts"] + _TOLERANCE_US:
                open_ends.pop()
            assert not open_ends or end <= open_ends[-1] + _TOLERANCE_US, event
            open_ends.append(end)


def _check_names(events: list[Event], tracks: dict[tuple[int, int], list[Event]]) -> None:
    for kind, column in (("process_name", 1), ("thread_name", 2)):
        named = {(e["pid"], e["tid"])[:column] for e in events if e["name"] == kind}
        assert {track[:column] for track in tracks} <= named


def _check_flows(events: list[Event], tracks: dict[tuple[int, int], list[Event]]) -> None:
    flows: dict[object, list[Event]] = defaultdict(list)
    for event in events:
        if event["ph"] in "sf":
            flows[event["cat"], event["name"], event["id"]].append(event)
            around = [
                e
                for e in tracks[event["pid"], event["tid"]]
                if e["ts"] <= event["ts"] <= e["ts"] + e["dur"]
            ]
            assert around, event
    for ends in flows.values():
        assert [end["ph"] for end in ends] == ["s", "f"], ends
        assert ends[1]["bp"] == "e", ends
