"""`isotune import`: logs and files of other tools, to a table or a profile."""

from pathlib import Path
from typing import Annotated, Any

import typer

import isotune
from isotune.commands.group import HelpfulGroup
from isotune.commands.options import Json
from isotune.commands.output import print_json, show
from isotune.simulator.errors import InputError
from isotune.simulator.io import check_writable, write_text

app = typer.Typer(help="Read what other tools wrote.", cls=HelpfulGroup)

Base = Annotated[
    str, typer.Option("--from", help="The measured machine it resembles most: kernels, SMs, L2.")
]
Name = Annotated[str | None, typer.Option("--name", show_default="the output file's")]


@app.command("nccl-tests")
def nccl_tests(
    log: Annotated[Path, typer.Argument(help="Output of all_reduce_perf on one node.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Measurements, .csv.")],
    hw: Annotated[str, typer.Option("--hw", help="The machine's name.")] = "",
    in_place: Annotated[bool, typer.Option("--in-place", help="Take the in-place times.")] = False,
    as_json: Json = False,
) -> None:
    """An nccl-tests log to all-reduce measurements for `isotune calibrate`."""
    from isotune.validation.importers import read_log, table_text

    check_writable(output)
    if any(character in hw for character in ',"\n'):
        raise InputError(f"--hw: {hw!r} is not a name")
    read = read_log(log, in_place=in_place)
    source = f"nccl-tests {read.nccl}".strip()
    write_text(output, table_text(read, hw=hw, source=source))
    ranks = sorted({row.ranks for row in read.rows})
    if as_json:
        print_json({"rows": len(read.rows), "ranks": ranks, "table": str(output)})
        return
    show(
        f"wrote {output}: {len(read.rows)} rows, {ranks[0]} ranks; "
        f"fit with: isotune calibrate {output} --base NAME -o my-node.yaml"
    )


@app.command("aiconfigurator")
def aiconfigurator(
    system: Annotated[Path, typer.Argument(help="A system file of aiconfigurator, .yaml.")],
    base: Base,
    output: Annotated[Path, typer.Option("-o", "--output", help="The new profile.")],
    name: Name = None,
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=1024, help="Nodes.")] = 1,
) -> None:
    """An aiconfigurator system file to a profile that inherits its kernels."""
    from isotune.validation.importers import from_aiconfigurator

    check_writable(output)
    text = from_aiconfigurator(system, _name(name, output), isotune.read_profile(base), nodes)
    _write_profile(output, text)


@app.command("topo")
def topo(
    dump: Annotated[Path, typer.Argument(help="Output of nvidia-smi topo -m.")],
    base: Annotated[
        str | None, typer.Option("--from", help="Also write a profile of this machine's GPUs.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The profile; needs --from.")
    ] = None,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """How the GPUs are joined, PCIe-only pairs first; a profile of it on request."""
    from isotune.validation.importers import PCIE, from_topology, read_topology

    if (base is None) != (output is None):
        raise InputError("--from and -o go together: a profile needs both")
    topology = read_topology(dump)
    pairs = topology.pcie_pairs
    if base is not None and output is not None:
        check_writable(output)
        profile = isotune.read_profile(base)
        text = from_topology(topology, _name(name, output), profile, dump.name)
        _write_profile(output, text, quiet=as_json)
    if as_json:
        print_json(_as_dict(topology))
    elif not pairs:
        show(f"{topology.gpus} GPUs, every pair with {topology.nvlinks} NVLinks or more.")
    else:
        shown = ", ".join(f"{i}-{j} ({topology.links[i, j]})" for i, j in pairs[:12])
        more = f" and {len(pairs) - 12} more" if len(pairs) > 12 else ""
        show(
            f"{topology.gpus} GPUs; {len(pairs)} of {len(topology.links)} pairs have PCIe only: "
            f"{shown}{more}. An all-reduce over all GPUs runs at the speed of the slowest, here "
            f"over {PCIE[topology.farthest]}."
        )


def _as_dict(topology: Any) -> dict[str, Any]:
    return {
        "gpus": topology.gpus,
        "nvlinks": topology.nvlinks,
        "pcie_only_pairs": [list(pair) for pair in topology.pcie_pairs],
        "links": [
            {"first": i, "second": j, "link": link} for (i, j), link in topology.links.items()
        ],
    }


def _name(name: str | None, output: Path) -> str:
    return name or output.name.removesuffix(".yaml").removesuffix(".yml")


def _write_profile(output: Path, text: str, quiet: bool = False) -> None:
    """Write a draft only if it loads."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / output.name
        write_text(draft, text)
        try:
            profile = isotune.read_profile(str(draft))
        except InputError as error:
            raise InputError(str(error).replace(str(draft), str(output))) from error
    write_text(output, text)
    if not quiet:
        show(f"wrote {output}; check it with: isotune hw show {output}")
        for caution in profile.cautions():
            show(f"note: {caution}")
