"""What a terminal shows of a result unless details are asked for: one screen."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from isotune.present.phrases import (
    effect,
    percent,
    plan_text,
    rough,
    rough_ends,
    rough_ms,
    workload_text,
)
from isotune.present.section import Section, Table, number, table, text
from isotune.present.sections.of_result import section_of
from isotune.present.sections.prediction import above_ideal, head
from isotune.results import FoundPolicy, Prediction, Result, SearchResult, Times
from isotune.simulator.engines import DEFAULT

_NAMES = {"gemm": "GEMM", "collectives": "communication"}
"""Sections of a profile as people name what they cost; the others are named like it."""
_PARTS = 3
_RANGES = 12
_MORE_RANGES = "ranges, in the policy's file and with --details"


def brief_of(result: Result) -> Section:
    """A result on one screen; the whole section where it has no shorter one."""
    if isinstance(result, SearchResult):
        return _search(result)
    if isinstance(result, Prediction):
        return _prediction(result)
    section = section_of(result)
    if isinstance(result, FoundPolicy):
        tables = (replace(shown, most=_RANGES, more=_MORE_RANGES) for shown in section.tables)
        return replace(section, tables=tuple(tables))
    return section


def _prediction(result: Prediction) -> Section:
    return Section(
        kind="prediction",
        verdict="",
        tables=(_plans(result, "this plan", ""),),
        **_head(result),
    )


def _search(result: SearchResult) -> Section:
    from isotune.present.sections import search

    proof = search.proof_text(result)
    serial = ("No plan that is allowed is faster than serial.",) if result.is_serial else ()
    return Section(
        kind="search",
        verdict="",
        tables=(
            _plans(result, "best plan", proof),
            _techniques(result),
            *search.asked_tables(result),
        ),
        notes=(*serial, *search.asked_notes(result), *search.failure_notes(result.trials)),
        **_head(result),
    )


def _head(result: Prediction | SearchResult) -> dict[str, Any]:
    """Scenario and cautions; the plan stands in the table."""
    return head(result) | {
        "title": workload_text(result.model, result.hardware, result.workload),
        "plan": "",
    }


def _plans(result: Prediction | SearchResult, name: str, proof: str) -> Table:
    """The serial pass and the plan: what each takes, and what there is to say of it."""
    serial, engine = result.baseline, result.workload.engine
    rows = [("serial", rough_ms(serial.latency_s), _shares(serial))]
    rows += [("", "", line) for line in _carried(serial, engine)]
    if result.is_serial:
        rows.append(("", "", _between(result)))
    else:
        outputs = "outputs change" if result.plan.lossy else "same outputs"
        rows.append((name, rough_ms(result.latency_s), f"{effect(result)}, {outputs}"))
        own = _carried(result, engine)
        rows += [("", "", line) for line in (*_about(result), *own, proof) if line]
    return table(
        "Plans",
        rows,
        text("", lambda name, *_: name),
        number("", lambda _, latency, __: latency),
        text("", lambda *row: row[2], fold=True),
        headless=True,
    )


def _carried(times: Times, engine: str) -> Iterator[str]:
    """What carries the all-reduces, where an engine chooses."""
    if engine == DEFAULT or not times.all_reduces:
        return
    tokens: dict[str, list[str]] = {}
    for one in times.all_reduces:
        sizes = tokens.setdefault(one.algorithm, [])
        if f"{one.tokens:,}" not in sizes:
            sizes.append(f"{one.tokens:,}")
    parts = (f"{name} ({' and '.join(sizes)} tokens)" for name, sizes in tokens.items())
    yield f"all-reduces: {', '.join(parts)}"


def _about(result: Times) -> Iterator[str]:
    yield plan_text(result.plan)
    if result.plan.overlaps and result.comm_s > 0:
        hidden = percent(max(0.0, 1 - result.exposed_comm_s / result.comm_s))
        yield f"{hidden} of communication hidden, {above_ideal(result)}"
    yield _between(result)


def _between(times: Times) -> str:
    low, high = (rough(end * 1e3) for end in times.latency_interval_s)
    return f"80 % interval of its latency: {low} to {high} ms"


def _shares(serial: Times) -> str:
    """What most of the serial pass is made of, the communication first."""
    seconds: dict[str, float] = {}
    for op, time in serial.op_seconds.items():
        name = serial.op_sections[op].partition(".")[0]
        seconds[name] = seconds.get(name, 0.0) + time
    total = serial.compute_s + serial.comm_s
    ordered = sorted(seconds.items(), key=lambda item: (item[0] != "collectives", -item[1]))
    shares = [(_name(section), round(time / total * 100)) for section, time in ordered]
    return ", ".join(f"{name} {share} %" for name, share in shares[:_PARTS] if share)


def _name(section: str) -> str:
    return _NAMES.get(section, section.replace("_", " "))


def _techniques(result: SearchResult) -> Table:
    from isotune.present.sections import search

    own = [technique for technique in result.techniques if not technique.plan.how.compared]
    return table(
        "Each technique alone",
        own,
        text("on its own", lambda t: t.name),
        number("latency", lambda t: rough_ms(t.latency_s)),
        number("saving", lambda t: percent(t.saving)),
        number("80 % interval", _interval),
        text("outputs", search.outputs_text),
        note=search.assumed_note(own),
    )


def _interval(times: Times) -> str:
    low, high = (end * 100 for end in times.saving_interval)
    return f"{rough_ends(low, high)} %"
