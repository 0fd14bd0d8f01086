"""Tiny random models of every family, and small synthetic tables of what the model predicts."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from simulator.hardware import HardwareProfile, read_profile
from simulator.model import load_model
from simulator.planfile import ModelReference
from validation.end_to_end import run_seconds
from validation.runs import read_runs

# What needs torch is not collected without the extra `validate`; the header says so.
NEED_TORCH = [
    *("emulation", "launch", "loop", "measure", "measured", "numbers", "sharding"),
    *("torchrun", "validate"),
    *("quality", "recover", "sensitivity", "spd", "spd_text"),
]
MISSING = [name for name in ("torch", "transformers", "safetensors") if find_spec(name) is None]
if MISSING:
    collect_ignore = ["runs.py", "learned.py", *(f"test_{name}.py" for name in NEED_TORCH)]


def pytest_report_header() -> str:
    """Say which tests are left out, and why."""
    if not MISSING:
        return "executor tests: collected"
    return f"executor tests: left out, no {', '.join(MISSING)} (extra `validate`)"


SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 131,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
VARIANTS = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": 8, "num_key_value_heads": 2},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 8},
    "qwen3": {"head_dim": 16},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 32, "num_key_value_heads": 8},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48},
    "gemma": {"head_dim": 16, "num_key_value_heads": 1},
    "phi3": {},
}


def write_config(folder: Path, family: str, **changes: object) -> Path:
    """A folder with the config.json of a tiny model."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"model_type": family} | SIZES | VARIANTS[family] | changes
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def model_reference(folder: Path) -> dict[str, object]:
    """How a plan file names the model in a folder."""
    return ModelReference.of(load_model(str(folder)), str(folder)).model_dump()


HEADER = "hw,model,tp,batch,prompt_len,phase,steps,link,runtime,strategy,latency_ms,source"
RunTable = Callable[..., Path]


@pytest.fixture(scope="session")
def h100() -> HardwareProfile:
    return read_profile("h100")


@pytest.fixture
def run_table(tmp_path: Path, h100: HardwareProfile) -> RunTable:
    """A table of whole passes: each row's cells but the latency, which the model predicts.

    `factor` maps a strategy to measured over predicted, 1 unless given.
    """

    def write(*rows: str, factor: dict[str, float] | None = None) -> Path:
        path = tmp_path / "runs.csv"
        cells = [row.split(",") for row in rows]
        path.write_text("\n".join([HEADER, *(",".join([*c[:10], "1", c[10]]) for c in cells)]))
        lines = [HEADER]
        for cell, run in zip(cells, read_runs(path), strict=True):
            seconds = run_seconds(run, h100) * (factor or {}).get(run.strategy, 1.0)
            lines.append(",".join([*cell[:10], repr(seconds * run.steps * 1e3), cell[10]]))
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
