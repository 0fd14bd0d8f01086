"""`isotune import`: logs and files of other tools, to a table or a profile."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import isotune
from isotune.commands.options import (
    HelpfulGroup,
    NewName,
    OutputOptions,
    base_option,
    command,
    option,
    output_option,
    plain,
    profile_name,
    whole,
)
from isotune.results import Answer, Predicted, read_result
from isotune.simulator.errors import InputError
from isotune.simulator.io import check_writable, write_text


@dataclass(frozen=True, kw_only=True)
class ImportNcclTests(OutputOptions):
    """An nccl-tests log to all-reduce measurements for `isotune calibrate`."""

    log: Annotated[Path, typer.Argument(help="Output of all_reduce_perf on one node.")]
    output: Annotated[Path, output_option("Table to write (.csv).")]
    hw: Annotated[str, plain("--hw", "NAME", "Name of the machine in the table.")] = ""
    in_place: Annotated[bool, typer.Option("--in-place", help="Take the in-place times.")] = False
    ranks: Annotated[
        int | None,
        option(
            "--ranks", whole(2, 1024), "N", "Ranks of every run, if the log does not list them."
        ),
    ] = None

    def run(self) -> None:
        """Write the table."""
        from isotune.validation.importers import read_log, table_text

        check_writable(self.output)
        _check_name(self.hw)
        read = read_log(self.log, in_place=self.in_place, ranks=self.ranks)
        source = " ".join(filter(None, ("nccl-tests", read.nccl, *read.forced)))
        write_text(self.output, table_text(read, hw=self.hw, source=source))
        ranks = sorted({row.ranks for row in read.rows})
        notes = [f"note: left out {rows} rows of {test}" for test, rows in read.left_out.items()]
        if read.forced:
            notes.append(f"note: {', '.join(read.forced)}: not what NCCL would choose by itself")
        self.emit(
            Answer.of(
                "imported_log",
                rows=len(read.rows),
                ranks=ranks,
                table=str(self.output),
                left_out=read.left_out,
                forced=read.forced,
            ),
            *notes,
            f"wrote {self.output}: {len(read.rows)} rows, {', '.join(map(str, ranks))} ranks; "
            f"fit with: isotune calibrate {self.output} --base NAME -o my-node.yaml",
        )


@dataclass(frozen=True, kw_only=True)
class ImportAiconfigurator(OutputOptions):
    """An aiconfigurator system file to a profile that inherits its kernels."""

    system: Annotated[Path, typer.Argument(help="A system file of aiconfigurator, .yaml.")]
    base: Annotated[
        str, base_option("The measured machine that it resembles most: kernels, SMs, L2.")
    ]
    output: Annotated[Path, output_option("Profile to write.")]
    name: NewName = None
    nodes: Annotated[int, option("--nodes", whole(1, 1024), "N", "Nodes of the machine.")] = 1

    def run(self) -> None:
        """Write the profile."""
        from isotune.validation.importers import from_aiconfigurator

        check_writable(self.output)
        name = self.name or profile_name(self.output)
        profile = isotune.read_profile(self.base)
        text = from_aiconfigurator(self.system, name, profile, self.nodes)
        self.emit(
            Answer.of("machine_file", file=str(self.output)), *_write_profile(self.output, text)
        )


@dataclass(frozen=True, kw_only=True)
class ImportTopology(OutputOptions):
    """How the GPUs are joined, PCIe-only pairs first; a profile of it on request."""

    dump: Annotated[Path, typer.Argument(help="Output of nvidia-smi topo -m.")]
    base: Annotated[str | None, base_option("Also write a profile, with this machine's GPUs.")] = (
        None
    )
    output: Annotated[Path | None, output_option("Profile to write; needs --from.")] = None
    name: NewName = None

    def run(self) -> None:
        """Print the topology, and write the profile."""
        from isotune.validation.importers import from_topology, read_topology

        if (self.base is None) != (self.output is None):
            raise InputError("--from and -o go together: a profile needs both")
        topology = read_topology(self.dump)
        written: list[str] = []
        if self.base is not None and self.output is not None:
            check_writable(self.output)
            name = self.name or profile_name(self.output)
            text = from_topology(topology, name, isotune.read_profile(self.base), self.dump.name)
            written = _write_profile(self.output, text)
        self.emit(
            Answer.of("topology", **_topology_dict(topology)), *written, _topology_text(topology)
        )


def _topology_text(topology: Any) -> str:
    from isotune.validation.importers import PCIE

    pairs = topology.pcie_pairs
    if not pairs:
        return f"{topology.gpus} GPUs, every pair with {topology.nvlinks} NVLinks or more."
    shown = ", ".join(f"{i}-{j} ({topology.links[i, j]})" for i, j in pairs[:12])
    more = f" and {len(pairs) - 12} more" if len(pairs) > 12 else ""
    return (
        f"{topology.gpus} GPUs; {len(pairs)} of {len(topology.links)} pairs have PCIe only: "
        f"{shown}{more}. An all-reduce over all GPUs runs at the speed of the slowest, here "
        f"over {PCIE[topology.farthest]}."
    )


def _topology_dict(topology: Any) -> dict[str, Any]:
    return {
        "gpus": topology.gpus,
        "nvlinks": topology.nvlinks,
        "pcie_only_pairs": [list(pair) for pair in topology.pcie_pairs],
        "links": [
            {"first": i, "second": j, "link": link} for (i, j), link in topology.links.items()
        ],
    }


def _write_profile(output: Path, text: str) -> list[str]:
    """Write a draft only if it loads; what there is to say about it."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / output.name
        write_text(draft, text)
        try:
            profile = isotune.read_profile(str(draft))
        except InputError as error:
            raise InputError(str(error).replace(str(draft), str(output))) from error
    write_text(output, text)
    wrote = f"wrote {output}; check it with: isotune hw show {output}"
    return [wrote, *(f"note: {caution}" for caution in profile.cautions())]


@dataclass(frozen=True, kw_only=True)
class ImportTrace(OutputOptions):
    """A torch.profiler trace to a measured timeline: what overlapped, what was exposed."""

    trace: Annotated[Path, typer.Argument(help="Trace of one rank (.json, .json.gz).")]
    pass_: Annotated[
        str | None,
        plain("--pass", "TEXT", "Part of the annotation that encloses a pass.", show_default=False),
    ] = None
    per_block: Annotated[
        int | None,
        option(
            "--per-block", whole(1, 64), "N", "Collectives of a block.", show_default="what repeats"
        ),
    ] = None
    beside: Annotated[
        Path | None,
        plain(
            "--beside", "FILE", "A prediction of the pass: plan.yaml, or what predict --json says."
        ),
    ] = None
    kernels: Annotated[
        Path | None, plain("--kernels", "FILE", "Names of kernels (YAML), before the bundled ones.")
    ] = None
    output: Annotated[
        Path | None,
        output_option("Also write a table of the kernels whose sizes are known (.csv)."),
    ] = None
    hw: Annotated[str, plain("--hw", "NAME", "Name of the machine in the table.")] = ""

    def run(self) -> None:
        """Print the timeline, and write the table."""
        from isotune.results import Traced
        from isotune.validation.traces import (
            bundled_names,
            passes_of,
            read_names,
            read_trace,
            rows_of,
            rows_text,
        )

        if self.output is not None:
            check_writable(self.output)
        _check_name(self.hw)
        names = bundled_names() if self.kernels is None else read_names(self.kernels)
        beside = None if self.beside is None else _predicted(self.beside)
        trace = read_trace(self.trace)
        passes = passes_of(trace, names, self.pass_)
        written: dict[str, Any] = {}
        if self.output is not None:
            found = rows_of(trace, passes)
            write_text(self.output, rows_text(found, hw=self.hw, source=f"trace on {trace.device}"))
            written = {
                "table": str(self.output),
                "table_rows": len(found.rows),
                "table_left_out": found.left_out,
            }
        self.emit(
            Traced.of(
                trace,
                passes,
                per_block=self.per_block,
                beside=beside,
                file=self.trace.name,
                **written,
            )
        )


@dataclass(frozen=True, kw_only=True)
class ImportTables(OutputOptions):
    """Measured kernels of the package aiconfigurator-core to a table for `isotune calibrate`."""

    system: Annotated[str, plain("--system", "NAME", "The package's name of a machine: h200_sxm.")]
    engine: Annotated[
        str, plain("--engine", "NAME", "Whose kernels, newest version; collectives are NCCL's.")
    ]
    ops: Annotated[str, plain("--op", "LIST", "Operations, with commas between: gemm,moe.")]
    output: Annotated[Path, output_option("Table to write (.csv).")]
    hw: Annotated[
        str,
        plain("--hw", "NAME", "Name of the machine in the table.", show_default="the system's"),
    ] = ""
    most: Annotated[
        int,
        option(
            "--most",
            whole(1, 1_000_000),
            "N",
            "Rows of each operation, type and distribution, chosen at random.",
        ),
    ] = 1500

    def run(self) -> None:
        """Write the table."""
        from isotune.validation.importers import kernel_tables

        check_writable(self.output)
        _check_name(self.hw)
        asked = tuple(dict.fromkeys(name.strip() for name in self.ops.split(",")))
        read = kernel_tables(self.system, self.engine, asked, hw=self.hw, most=self.most)
        write_text(self.output, read.text)
        counts = ", ".join(f"{count:,} of {name}" for name, count in read.rows.items())
        self.emit(
            Answer.of(
                "imported_tables",
                table=str(self.output),
                rows=read.rows,
                left_out=read.left_out,
            ),
            f"wrote {self.output}: rows {counts}; "
            f"fit with: isotune calibrate {self.output} --base NAME -o my-node.yaml",
            *(f"left out: {count:,} rows of {why}" for why, count in read.left_out.items()),
        )


def _predicted(path: Path) -> Predicted:
    """The prediction in a file.

    Raises:
        InputError: unreadable, or another kind of result.
    """
    found = read_result(path)
    if not isinstance(found, Predicted):
        raise InputError(
            f"--beside: {path} holds a {found.kind}, not a prediction (allowed: plan.yaml, what "
            "isotune predict or search prints with --json)"
        )
    return found


def _check_name(hw: str) -> None:
    if any(character in hw for character in ',"\n'):
        raise InputError(f"--hw: {hw!r} is not a name")


app = typer.Typer(help="Read what other tools wrote.", cls=HelpfulGroup)
app.command("nccl-tests")(command(ImportNcclTests))
app.command("aiconfigurator")(command(ImportAiconfigurator))
app.command("tables")(command(ImportTables))
app.command("trace")(command(ImportTrace))
app.command("topo")(command(ImportTopology))
