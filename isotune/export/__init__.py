"""A plan or a policy for a serving engine, with what the engine's format cannot say."""

from isotune.export.engines import sglang, vllm
from isotune.export.plain import as_csv, as_json
from isotune.export.runners import Runner, runners
from isotune.export.source import Exported, Source, read_source
from isotune.export.tokenweave import tokenweave

TARGETS = {
    "tokenweave": tokenweave,
    "vllm": vllm,
    "sglang": sglang,
    "json": as_json,
    "csv": as_csv,
}

__all__ = ["TARGETS", "Exported", "Runner", "Source", "read_source", "runners"]
