"""Plain JSON and CSV: what the file says, for programs that do not read it."""

import json

from isotune.export.source import Exported, Source, no_lengths
from isotune.simulator.files import PlanFile, Rule
from isotune.simulator.io import csv_text
from isotune.simulator.schedule import Plan

COLUMNS = (
    *("hardware", "model", "phase", "batch", "tp", "dtype", "weight_dtype", "runtime"),
    *("first", "last", "strategy", "chunks", "shares", "comm_dtype", "comm_sms", "dropped"),
)


def as_json(source: Source, lengths: tuple[int, ...] = ()) -> Exported:
    """The file's content as JSON; nothing is lost."""
    no_lengths("json", lengths)
    data = source.file.model_dump(mode="json")
    return Exported(text=json.dumps(data, indent=2, allow_nan=False), data=data)


def as_csv(source: Source, lengths: tuple[int, ...] = ()) -> Exported:
    """One row per range of prompt lengths; lists are separated by spaces."""
    no_lengths("csv", lengths)
    file, work = source.file, source.workload
    common = {
        "hardware": file.hardware,
        "model": file.model.name,
        **work.model_dump(mode="json", exclude={"prompt"}),
    }
    if isinstance(file, PlanFile):
        rows = [common | _plan_cells(file.plan) | {"first": work.prompt, "last": work.prompt}]
        lost = ("what was predicted, and the model's sizes: columns of a table of plans have none",)
    else:
        rows = [
            common | _rule_cells(bucket.rule) | {"first": bucket.first, "last": bucket.last}
            for bucket in file.buckets
        ]
        lost = ("the expected saving, losses by bucket, and the model's sizes",)
    return Exported(text=csv_text(COLUMNS, rows).rstrip("\n"), data=rows, lost=lost)


def _plan_cells(plan: Plan) -> dict[str, object]:
    return _cells(plan) | {"chunks": " ".join(map(str, plan.chunks))}


def _rule_cells(rule: Rule) -> dict[str, object]:
    return _cells(rule) | {"shares": " ".join(map(repr, rule.shares))}


def _cells(how: Plan | Rule) -> dict[str, object]:
    return {
        "strategy": how.strategy,
        "comm_dtype": how.comm_dtype,
        "comm_sms": "" if how.comm_sms is None else how.comm_sms,
        "dropped": " ".join(map(str, how.dropped)),
    }
