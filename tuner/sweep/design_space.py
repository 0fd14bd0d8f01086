"""The design space as a table: hardware x model x tp x batch x length x strategy.

A *part* is one machine, model, tp and weight type: all its batches, lengths and strategies are a
few vectorised calls. Each part is written whole or not at all beside the output, so that a sweep
that was interrupted, however rudely, goes on where it stopped; the parts then become the output.
"""

import fcntl
import hashlib
import math
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from isotune.simulator.architecture import load_model
from isotune.simulator.batch import Array, Batch, Index, Splits, Timer
from isotune.simulator.engines import DEFAULT, EngineName
from isotune.simulator.errors import InputError
from isotune.simulator.io import Schema, checked, heard, read_yaml, remove, validate
from isotune.simulator.machine import read_profile
from isotune.simulator.number_types import loses
from isotune.simulator.predict import GpuMemory, Scenario
from isotune.simulator.schedule import (
    LONGEST,
    MOST_BATCH,
    MOST_TP,
    CommDtype,
    OneGroup,
    PassSizes,
    Phase,
    Plan,
    Strategy,
    TechniqueName,
    WeightDtype,
    Workload,
    technique_named,
)
from isotune.tuner.accuracy import assumed_drops
from isotune.tuner.contents import contents_digest
from isotune.tuner.exact import even_sizes
from isotune.tuner.sweep.table_file import COLUMNS, Columns, check_table, merge, write_part

_Tp = Annotated[int, Field(ge=1, le=MOST_TP)]
_Requests = Annotated[int, Field(ge=1, le=MOST_BATCH)]
_Tokens = Annotated[int, Field(ge=1, le=LONGEST)]
_MOST_ROWS = 100_000_000


class Grid(Schema):
    """The axes of a sweep; every combination is a row."""

    hardware: tuple[str, ...] = Field(min_length=1)
    model: tuple[str, ...] = Field(("llama-2-70b",), min_length=1)
    tp: tuple[_Tp, ...] = Field((8,), min_length=1)
    weight_dtype: tuple[WeightDtype, ...] = Field(("bf16",), min_length=1)
    comm_dtype: tuple[CommDtype, ...] = Field(("bf16",), min_length=1)
    engine: tuple[EngineName, ...] = Field((DEFAULT,), min_length=1)
    phase: tuple[Phase, ...] = Field(("prefill",), min_length=1)
    batch: tuple[_Requests, ...] = Field((1,), min_length=1)
    prompt: tuple[_Tokens, ...] = Field((4096,), min_length=1)
    strategy: tuple[TechniqueName, ...] = Field(("serial", "iso"), min_length=1)

    @model_validator(mode="after")
    def _is_no_larger_than_a_disk(self) -> Self:
        if self.rows > _MOST_ROWS:
            raise ValueError(f"{self.rows} rows (allowed: up to {_MOST_ROWS})")
        return self

    @property
    def rows(self) -> int:
        """Rows if every combination is possible."""
        return math.prod(len(getattr(self, axis)) for axis in Grid.model_fields)


class Part(NamedTuple):
    """What one call computes."""

    hardware: str
    model: str
    tp: int
    weight_dtype: WeightDtype


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """Rows written, parts taken over from an earlier run, and combinations left out with why."""

    rows: int
    parts: int
    resumed: int
    skipped: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False


def read_grid(path: Path) -> Grid:
    """The grid in a YAML file.

    Raises:
        InputError: unreadable or malformed file, or a field of the wrong type or range.
    """
    return validate(Grid, read_yaml(path), path)


def sweep(
    grid: Grid,
    output: Path,
    *,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SweepResult:
    """Write the table of a grid to `output` (.parquet or .csv).

    Raises:
        InputError: unknown hardware or model, an unknown kind of file, another sweep at work on
            the same output, or nothing possible in the grid.
    """
    check_table(output)
    parts, skipped = _possible(grid)
    with _folder(grid, output) as folder:
        return _swept(grid, output, folder, parts, skipped, jobs, progress)


def _swept(
    grid: Grid,
    output: Path,
    folder: Path,
    parts: Sequence[Part],
    skipped: dict[str, int],
    jobs: int | None,
    progress: Callable[[int, int], None] | None,
) -> SweepResult:
    files = [folder / f"{index:06}.npz" for index in range(len(parts))]
    waiting = [(part, file) for part, file in zip(parts, files, strict=True) if not file.exists()]
    kept = len(parts) - len(waiting)
    ready, interrupted = kept, False
    workers = jobs or os.cpu_count() or 1
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker) as pool:
        try:
            running = [pool.submit(_compute, grid, *part_and_file) for part_and_file in waiting]
            for finished in as_completed(running):
                finished.result()
                ready += 1
                if progress:
                    progress(ready, len(parts))
        except KeyboardInterrupt:
            heard()
            interrupted = True
            pool.shutdown(wait=False, cancel_futures=True)
        except BrokenProcessPool as error:
            raise InputError(
                f"sweep: a worker process died (out of memory?); {ready} of {len(parts)} parts are "
                "kept, and the same command goes on from there"
            ) from error
    rows = 0
    if not interrupted:
        rows = merge(files, output)
        remove(folder)
    return SweepResult(
        rows=rows, parts=ready, resumed=kept, skipped=skipped, interrupted=interrupted
    )


def in_memory(grid: Grid) -> tuple[Columns, dict[str, int]]:
    """All rows of a grid as columns, computed here, and the combinations left out with why.

    Raises:
        InputError: unknown hardware or model, or nothing possible in the grid.
    """
    possible, skipped = _possible(grid)
    parts = [rows_of(grid, part) for part in possible]
    return _joined(parts), skipped


def _possible(grid: Grid) -> tuple[list[Part], dict[str, int]]:
    """Parts whose machine has the GPUs and whose model divides, and the rows of others by reason.

    Raises:
        InputError: unknown hardware or model, or no part is possible.
    """
    parts: list[Part] = []
    skipped: Counter[str] = Counter()
    each = grid.rows // (
        len(grid.hardware) * len(grid.model) * len(grid.tp) * len(grid.weight_dtype)
    )
    for part in map(Part._make, product(grid.hardware, grid.model, grid.tp, grid.weight_dtype)):
        profile, model = read_profile(part.hardware), load_model(part.model)
        try:
            workload = Workload(tp=part.tp, weight_dtype=part.weight_dtype)
            Scenario(model=model, hardware=profile, workload=workload)
        except InputError as error:
            skipped[str(error)] += each
        else:
            parts.append(part)
    if not parts:
        raise InputError(f"sweep: no combination is possible: {next(iter(skipped), 'empty grid')}")
    return parts, dict(skipped)


@contextmanager
def _folder(grid: Grid, output: Path) -> Iterator[Path]:
    """The folder of the parts of this grid, named by what they are computed from, and locked.

    Parts of other grids, or of profiles and models that have changed, are removed: the output
    that they would have become is written anew.

    Raises:
        InputError: it cannot be written, or another sweep is at work on the same output.
    """
    profiles = [read_profile(name) for name in grid.hardware]
    models = [load_model(name) for name in grid.model]
    mark = contents_digest(profiles, models) + grid.model_dump_json()
    digest = hashlib.sha256(mark.encode()).hexdigest()[:16]
    folder = output.with_name(f".{output.name}.{digest}.parts")
    try:
        folder.mkdir(exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{folder}: cannot use it ({error.strerror})") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove_others(folder, output)
        yield folder
    except BlockingIOError as error:
        raise InputError(f"{output}: another sweep is writing it (write elsewhere)") from error
    finally:
        os.close(handle)


def _remove_others(folder: Path, output: Path) -> None:
    """Remove the parts and half-written files that sweeps into this output have left."""
    name = re.escape(f".{output.name}.")
    for path in output.parent.iterdir():
        if path == folder or not re.fullmatch(rf"{name}([0-9a-f]{{16}}\.parts(\..*)?)", path.name):
            continue
        handle = os.open(path, os.O_RDONLY)
        try:
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(path)
        finally:
            os.close(handle)


def _start_worker() -> None:
    """In a worker: Ctrl-C is for the process that started it, whose end is the worker's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _compute(grid: Grid, part: Part, path: Path) -> None:
    write_part(rows_of(grid, part), path)


def _weights(scenario: Scenario) -> str:
    """The type of the blocks' weights: the checkpoint's where it is priced as it is stored."""
    work = scenario.workload
    stored = work.checkpoint is not None and work.as_stored
    return scenario.usual_operands.weight_dtype if stored else work.weight_dtype


def rows_of(grid: Grid, part: Part) -> Columns:
    """All rows of a part, as columns."""
    profile, model = read_profile(part.hardware), load_model(part.model)
    batch, prompt = (axis.ravel() for axis in np.meshgrid(grid.batch, grid.prompt, indexing="ij"))
    tables: list[Columns] = []
    for engine, phase, comm_dtype in product(grid.engine, grid.phase, grid.comm_dtype):
        asked = {"engine": engine, "phase": phase, "tp": part.tp, "weight_dtype": part.weight_dtype}
        workload = checked(Workload, asked, "sweep")
        scenario = Scenario(model=model, hardware=profile, workload=workload)
        serial = _latency(scenario, "serial", "bf16", batch, prompt)
        for strategy in grid.strategy:
            latency = _latency(scenario, strategy, comm_dtype, batch, prompt)
            needed = _needed(scenario, strategy, batch, prompt)
            columns = part._asdict() | {
                "weight_dtype": _weights(scenario),
                "engine": engine,
                "phase": phase,
                "comm_dtype": comm_dtype,
                "strategy": strategy,
                "batch": batch,
                "prompt": prompt,
                "latency_s": latency,
                "serial_latency_s": serial,
                "saving": 1.0 - latency / serial,
                "memory_bytes": needed,
                "fits": needed <= GpuMemory(scenario).capacity,
            }
            tables.append({name: np.broadcast_to(columns[name], len(batch)) for name in columns})
    return _joined(tables)


def _joined(tables: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([table[name] for table in tables]) for name in COLUMNS}


@dataclass(frozen=True, kw_only=True)
class _Passes(OneGroup):
    """Sizes of the passes of some rows [rows]; see `schedule.PassSizes`."""

    batch: Index
    tokens: Index
    context: Index


def _passes(scenario: Scenario, batch: Index, prompt: Index) -> _Passes:
    decode = scenario.workload.phase == "decode"
    nothing, one = np.zeros_like(prompt), np.ones_like(prompt)
    return _Passes(
        batch=-(-batch // scenario.workload.dp),
        tokens=one if decode else prompt,
        context=prompt if decode else nothing,
    )


def _even(how: Strategy, work: PassSizes) -> Index:
    """A technique's even split [rows, chunks]; an empty chunk says that there is none."""
    return even_sizes(how, np.asarray(how.total(work)), how.swept_parts)


def _latency(
    scenario: Scenario, name: str, comm_dtype: CommDtype, batch: Index, prompt: Index
) -> Array:
    """Seconds [rows]; NaN where the technique cannot run so, or there is no sync."""
    work = _passes(scenario, batch, prompt)
    how, drops = technique_named(name)
    sizes, dropped = _even(how, work), _dropped(scenario, name)
    able = np.flatnonzero((sizes > 0).all(axis=1))
    tp = scenario.workload.tp
    nothing = (tp == 1 and name != "serial") or (drops and not dropped)
    unsuited = how.unsuited(scenario.model, scenario.workload.parallelism) is not None
    if nothing or unsuited or (loses(comm_dtype) and not how.quantised):
        able = able[:0]
    latency = np.full(len(prompt), np.nan)
    if len(able):
        plan = Plan(strategy=how.name, comm_dtype=comm_dtype, dropped=dropped)
        splits = Splits(
            batch=work.batch[able],
            tokens=work.tokens[able],
            context=work.context[able],
            sizes=sizes[able],
        )
        latency[able] = Timer(scenario).run(Batch(scenario=scenario, plan=plan, splits=splits))
    return latency


def _dropped(scenario: Scenario, name: str) -> tuple[int, ...]:
    drops = technique_named(name)[1]
    return assumed_drops(scenario.model, scenario.workload.parallelism) if drops else ()


def swept_plan(scenario: Scenario, name: str, comm_dtype: CommDtype) -> Plan:
    """The plan that stands for a swept strategy in one scenario."""
    work = scenario.workload
    how, _ = technique_named(name)
    sizes = _even(how, _passes(scenario, np.array([work.batch]), np.array([work.prompt])))
    return Plan(
        strategy=how.name,
        chunks=tuple(sizes[0].tolist()),
        comm_dtype=comm_dtype,
        dropped=_dropped(scenario, name),
    )


def _needed(scenario: Scenario, name: str, batch: Index, prompt: Index) -> Array:
    """Bytes one GPU needs [rows]."""
    work = _passes(scenario, batch, prompt)
    how, _ = technique_named(name)
    return GpuMemory(scenario).needed(how, work, _even(how, work))
