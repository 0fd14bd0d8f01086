"""The measured kernels and collectives of the package aiconfigurator-core, as rows of our tables.

The package holds Parquet files of latencies in milliseconds by system, operation, engine and
version: `systems/data/h200_sxm/gemm/vllm/0.24.0/gemm_perf.parquet`. Sizes of messages are counted
in elements there, keys of a decode are `isl + step`, and heads are those of one GPU.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isotune.simulator.errors import InputError
from isotune.simulator.io import csv_text, did_you_mean
from isotune.simulator.number_types import bytes_of

PACKAGE = "aiconfigurator_core"
COLLECTIVES = "nccl"
"""Whose collectives are read, whatever the engine: engines call NCCL."""
_NAMES = {"rtx_pro_6000_server": "rtxpro6000"}
"""Machines that are called otherwise here; of the others `_sxm` falls away."""
_TYPES = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "w4a16_mxfp4": "mxfp4_wo",
    "w4a8_mxfp4_mxfp8": "mxfp4_mxfp8",
}
"""Number types that are called otherwise here."""
Record = Mapping[str, Any]
Row = dict[str, object]


class _Source(NamedTuple):
    """A kind of file: its folder and name, and one row of it as one of ours.

    `row` says in words why it cannot express one; an empty text is a row of another operation.
    """

    folder: str
    file: str
    row: Callable[[Record], Row | str]


def _gemm(at: Record) -> Row:
    return {"dtype": _type(at["gemm_dtype"]), **{name: at[name] for name in "mnk"}}


def _attention(at: Record) -> Row | str:
    if at["window_size"] or at["beam_width"] != 1:
        return "a window, or several beams"
    if at["kv_cache_dtype"] != at["attn_dtype"]:
        return "a KV cache in another type than the activations"
    sizes = {"batch": at["batch_size"], "q_len": at["isl"], "kv_len": at["isl"] + at["step"]}
    heads, kv_heads = at["num_heads"], at["num_key_value_heads"]
    shape = {"heads": heads, "kv_heads": kv_heads, "head_dim": at["head_dim"]}
    return {"dtype": _type(at["attn_dtype"]), **sizes, **shape}


def _latent(at: Record) -> Row:
    return {
        "dtype": _type(at["kv_cache_dtype"]),
        "batch": at["batch_size"],
        "q_len": at["isl"],
        "kv_len": at["isl"] + at["step"],
        "heads": at["num_heads"],
    }


def _moe(at: Record) -> Row:
    return {
        "dtype": _type(at["moe_dtype"]),
        "tokens": at["num_tokens"],
        "hidden": at["hidden_size"],
        "intermediate": at["inter_size"],
        "experts": at["num_experts"],
        "top_k": at["topk"],
        "expert_tp": at["moe_tp_size"],
        "expert_ep": at["moe_ep_size"],
        "distribution": at["distribution"],
    }


def _quantise(at: Record) -> Row:
    return {"dtype": _type(at["quant_dtype"]), "tokens": at["m"], "hidden": at["k"]}


def _collective(name: str) -> Callable[[Record], Row | str]:
    def row(at: Record) -> Row | str:
        if at["op_name"] != name:
            return ""
        dtype = _type(at["nccl_dtype"])
        size = round(at["message_size"] * bytes_of(dtype))
        return {"dtype": dtype, "bytes": size, "ranks": at["num_gpus"], "algorithm": COLLECTIVES}

    return row


_SOURCES: Mapping[str, tuple[_Source, ...]] = {
    "gemm": (_Source("gemm", "gemm_perf", _gemm),),
    "attention": (
        _Source("attention", "context_attention_perf", _attention),
        _Source("attention", "generation_attention_perf", _attention),
    ),
    "mla_attention": (
        _Source("mla", "context_mla_perf", _latent),
        _Source("mla", "generation_mla_perf", _latent),
    ),
    "moe": (_Source("moe", "moe_perf", _moe),),
    "quantize": (_Source("quantize", "scale_matrix_perf", _quantise),),
    **{
        kind: (_Source("comm", "nccl_perf", _collective(name)),)
        for kind, name in (
            ("all_reduce", "all_reduce"),
            ("reduce_scatter", "reduce_scatter"),
            ("all_gather", "all_gather"),
            ("all_to_all", "alltoall"),
        )
    },
}
OPERATIONS = tuple(_SOURCES)
"""The operations that can be read."""


class KernelTables(NamedTuple):
    """What was read: the rows as CSV text, how many of each operation, and what was left out."""

    text: str
    rows: dict[str, int]
    left_out: dict[str, int]


def kernel_tables(
    system: str, engine: str, operations: tuple[str, ...], *, hw: str = "", most: int = 1500
) -> KernelTables:
    """Measured rows of a system, at most so many of each operation and number type.

    Args:
        system: the package's name of a machine, such as `h200_sxm`.
        engine: whose kernels; its newest version. Collectives are NCCL's.
        operations: of `OPERATIONS`.
        hw: the machine's name in the table; by default the system's without `_sxm`.
        most: rows kept of each operation, phase, type and distribution, chosen at random (seed 0).

    Raises:
        InputError: the package is missing, or has no such system, engine or operation.
    """
    folder = _folder(system)
    name = hw or _NAMES.get(system, system.removesuffix("_sxm"))
    rows: list[Row] = []
    counts: dict[str, int] = {}
    left_out: Counter[str] = Counter()
    for operation in operations:
        if operation not in _SOURCES:
            raise InputError(
                f"--op: {operation!r:.40} ({did_you_mean(operation, OPERATIONS)}allowed: "
                f"{', '.join(OPERATIONS)})"
            )
        found: list[Row] = []
        for source in _SOURCES[operation]:
            found += _thinned(list(_rows(folder, source, engine, left_out)), most)
        counts[operation] = len(found)
        rows += [{"op": operation, "hw": name, **row} for row in found]
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    return KernelTables(csv_text(columns, rows), counts, dict(left_out))


def _rows(folder: Path, source: _Source, engine: str, left_out: Counter[str]) -> Iterator[Row]:
    owner = COLLECTIVES if source.folder == "comm" else engine
    version, path = _newest(folder / source.folder, owner, source.file)
    for record in _arrow().read_table(path).to_pylist():
        row = source.row(record)
        if isinstance(row, str):
            left_out.update([f"{source.file}: {row}"] if row else [])
            continue
        yield row | {
            "latency_us": 1e3 * record["latency"],
            "source": f"aiconfigurator {owner} {version}",
        }


def _thinned(rows: list[Row], most: int) -> list[Row]:
    """At most so many rows of each type and distribution, in their order."""
    kinds: dict[tuple[object, object], list[int]] = {}
    for place, row in enumerate(rows):
        kinds.setdefault((row["dtype"], row.get("distribution")), []).append(place)
    rng = np.random.default_rng(0)
    chosen = [rng.permutation(places)[:most] for places in kinds.values()]
    return [rows[place] for place in np.sort(np.concatenate(chosen))] if chosen else []


def _type(name: str) -> str:
    return _TYPES.get(name, name)


def _folder(system: str) -> Path:
    """The package's files of a system."""
    spec = find_spec(PACKAGE)
    places = (spec.submodule_search_locations if spec else None) or []
    if not places:
        raise InputError("tables need aiconfigurator-core: pip install 'isotune[tables]'")
    data = Path(places[0]) / "systems" / "data"
    systems = sorted(path.name for path in data.iterdir() if any(path.glob("*/*/*/*.parquet")))
    if system not in systems:
        near = did_you_mean(system, systems)
        raise InputError(f"--system: {system!r:.40} ({near}allowed: {', '.join(systems)})")
    return data / system


def _newest(folder: Path, owner: str, file: str) -> tuple[str, Path]:
    """The newest version of an engine that has a file, and the file."""
    found = {path.parent.name: path for path in folder.glob(f"{owner}/*/{file}.parquet")}
    if not found:
        owners = sorted({path.parent.parent.name for path in folder.glob(f"*/*/{file}.parquet")})
        raise InputError(
            f"--engine: no {file} of {owner!r:.40} for {folder.parent.name} "
            f"(there are: {', '.join(owners) or 'none'})"
        )
    newest = max(found, key=lambda text: [int(part) for part in re.findall(r"\d+", text)])
    return newest, found[newest]


def _arrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("tables need pyarrow: pip install 'isotune[tables]'") from error
    return pyarrow.parquet
