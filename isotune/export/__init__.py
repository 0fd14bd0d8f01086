"""A plan or a policy for a serving engine, with what the engine's format cannot say."""

from isotune.export.plain import as_csv, as_json
from isotune.export.runners import ENGINE_TARGETS, Runner, runners, support
from isotune.export.source import Exported, Source, read_source

TARGETS = {
    **ENGINE_TARGETS,
    "json": as_json,
    "csv": as_csv,
}

__all__ = [
    "ENGINE_TARGETS",
    "TARGETS",
    "Exported",
    "Runner",
    "Source",
    "read_source",
    "runners",
    "support",
]
