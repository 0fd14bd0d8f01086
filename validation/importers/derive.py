"""A derived profile from what another tool knows of a machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import AliasChoices, Field

from isotune import hw_profiles
from isotune.simulator.errors import InputError
from isotune.simulator.io import (
    BYTES,
    BYTES_PER_SECOND,
    FLOPS,
    SECONDS,
    Schema,
    checked,
    format_quantity,
    printable,
    read_yaml,
)
from isotune.simulator.machine import DERIVED_ERROR_FACTOR, HardwareProfile, read_profile
from isotune.validation.importers.topo import PCIE, Topology

NVLINK_RATE = 25e9
"""Bytes per second of one NVLink 2, 3 or 4, one direction (NVIDIA's data sheets)."""
NVLINK_5_RATE = 50e9
"""The same of NVLink 5."""
_NVLINKS = 18
"""The most NVLinks that a GPU has; more bandwidth than these have is NVLink 5."""

PCIE_4 = 31.5e9
PCIE_5 = 63e9
NVLINK_OVER_PCIE = 1.5
"""An intra-node bandwidth this many times PCIe's is NVLink."""

PCIE_RELATIVE = "l40s"
"""Measured machine whose collectives run over PCIe with peer-to-peer."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """What joins the GPUs: count, kind of link, bandwidth per GPU and direction, and says who."""

    gpus: int
    link: str
    bandwidth: float
    peer_to_peer: bool
    source: str


class _AicGpu(Schema):
    """`gpu` of an aiconfigurator system file, SI units."""

    mem_bw: float = Field(gt=0)
    mem_capacity: float = Field(gt=0)
    bfloat16_tc_flops: float = Field(
        gt=0, validation_alias=AliasChoices("bfloat16_tc_flops", "float16_tc_flops")
    )
    fp8_tc_flops: float | None = Field(default=None, ge=0)
    int8_tc_flops: float | None = Field(default=None, ge=0)
    fp4_tc_flops: float | None = Field(default=None, ge=0)


class _AicNode(Schema):
    """`node` of an aiconfigurator system file, SI units, one direction per GPU."""

    num_gpus_per_node: int = Field(ge=1, le=1024)
    intra_node_bw: float = Field(gt=0)
    inter_node_bw: float | None = Field(default=None, gt=0)
    pcie_bw: float | None = Field(default=None, gt=0)
    p2p_latency: float | None = Field(default=None, gt=0, le=1e-3)


def from_aiconfigurator(path: Path, name: str, base: HardwareProfile, nodes: int = 1) -> str:
    """YAML text of a profile with the specification of an aiconfigurator system file.

    The file has no SM count and no cache size: those are `base`'s, marked as assumed.

    Raises:
        InputError: not such a file, a field that is missing or no positive number, or several
            nodes without `inter_node_bw`.
    """
    data = read_yaml(path)
    gpu = _part(_AicGpu, data, "gpu", path)
    node = _part(_AicNode, data, "node", path)
    origin = f"aiconfigurator system file {path.name}"
    fast = node.intra_node_bw > NVLINK_OVER_PCIE * (node.pcie_bw or PCIE_4)
    joined = Node(
        gpus=node.num_gpus_per_node,
        link="nvlink" if fast else "pcie",
        bandwidth=node.intra_node_bw,
        peer_to_peer=base.node.peer_to_peer,
        source=origin,
    )
    spec = {
        "sms": base.gpu.sms,
        "bf16": format_quantity(gpu.bfloat16_tc_flops, FLOPS),
        **{
            name: format_quantity(rate, FLOPS)
            for name in ("fp8", "int8", "fp4")
            if (rate := getattr(gpu, f"{name}_tc_flops"))
        },
        "memory": format_quantity(gpu.mem_capacity, BYTES),
        "memory_bandwidth": format_quantity(gpu.mem_bw, BYTES_PER_SECOND),
        "l2": format_quantity(base.gpu.l2, BYTES),
    }
    assumed = f"assumed - as {base.name}; the aiconfigurator file does not say"
    sources = {"gpu": origin, "gpu.sms": assumed, "gpu.l2": assumed}
    inter = None
    if nodes > 1:
        if node.inter_node_bw is None:
            raise InputError(f"{path}: node.inter_node_bw is missing, and --nodes is {nodes}")
        inter = {
            "nodes": nodes,
            "link_bandwidth": format_quantity(node.inter_node_bw, BYTES_PER_SECOND),
            "latency": format_quantity(node.p2p_latency or 1e-5, SECONDS),
        }
        sources["inter_node"] = origin
    return _text(name, f"imported from {path.name}", base, spec, joined, sources, inter)


def from_topology(topology: Topology, name: str, base: HardwareProfile, file: str) -> str:
    """YAML text of a profile of `base`'s GPUs joined as a `nvidia-smi topo -m` dump says.

    Without a switch the NVLinks to all others count: a ring over them uses every one.
    """
    pcie = topology.pcie_pairs
    if pcie:
        rate, why = _pcie(base)
        source = (
            f"{file}, nvidia-smi topo -m - {len(pcie)} of {len(topology.links)} pairs have PCIe "
            f"only, the farthest over {PCIE[topology.farthest]}; bandwidth assumed - {why}"
        )
    else:
        each = _nvlink_rate(base)
        links, how = topology.nvlinks, "to each other GPU, over a switch"
        if topology.nvlinks_of_each * each <= base.node.link_bandwidth:
            links, how = topology.nvlinks_of_each, "to all other GPUs together, without a switch"
        rate = links * each
        source = (
            f"{file}, nvidia-smi topo -m - {links} NVLinks {how}, {each / 1e9:g} GB/s each, as "
            f"{base.name} has"
        )
    joined = Node(
        gpus=topology.gpus,
        link="pcie" if pcie else "nvlink",
        bandwidth=rate,
        peer_to_peer=base.node.peer_to_peer,
        source=source,
    )
    spec = base.model_dump(mode="json", exclude_none=True)["gpu"]
    sources = {"gpu": base.source_of("gpu") or f"as {base.name}"}
    return _text(name, f"{base.name}'s GPUs, joined as in {file}", base, spec, joined, sources)


def _nvlink_rate(base: HardwareProfile) -> float:
    """Bytes per second of one of `base`'s NVLinks, one direction."""
    return NVLINK_5_RATE if base.node.link_bandwidth > _NVLINKS * NVLINK_RATE else NVLINK_RATE


def _pcie(base: HardwareProfile) -> tuple[float, str]:
    """Bytes per second of the PCIe of `base`'s GPUs, one direction, and who says so."""
    if base.node.link == "pcie":
        return base.node.link_bandwidth, base.name
    measured = base.derived_from or base.name
    for name in hw_profiles.names():
        other = read_profile(name)
        if other.derived_from == measured and other.node.link == "pcie":
            return other.node.link_bandwidth, f"as {other.name}, the same chip on PCIe"
    if base.gpu.fp8 is not None:
        return PCIE_5, "PCI Express 5.0 x16, which NVLink machines with fp8 have"
    return PCIE_4, "PCI Express 4.0 x16"


def _part(table: type[Any], data: dict[str, Any], key: str, path: Path) -> Any:
    """The fields of one section that we use; the file has more, of no concern here."""
    section = data.get(key)
    if not isinstance(section, dict):
        raise InputError(f"{path}: no {key!r} section (is it an aiconfigurator system file?)")
    known = {key: section[key] for key in _keys(table) if key in section}
    return checked(table, known, f"{path}: {key}")


def _keys(table: type[Any]) -> Iterator[str]:
    """The keys of a section that we use, those of earlier years too."""
    for name, field in table.model_fields.items():
        alias = field.validation_alias
        yield from map(str, alias.choices) if isinstance(alias, AliasChoices) else (name,)


def _text(
    name: str,
    description: str,
    base: HardwareProfile,
    gpu: dict[str, Any],
    node: Node,
    sources: dict[str, str],
    inter_node: dict[str, Any] | None = None,
) -> str:
    if node.link == "nvlink" and base.node.link != "nvlink":
        raise InputError(
            f"{description}: {node.bandwidth / 1e9:g} GB/s between GPUs is NVLink, which "
            f"{base.name} has not (take a relative with NVLink, or correct the figure)"
        )
    relative = base.collectives_from if node.link == base.node.link else PCIE_RELATIVE
    other_link = {} if relative is None else {"collectives_from": relative}
    data = {
        "name": name,
        "description": description,
        "gpu": gpu,
        "node": {
            "gpus": node.gpus,
            "link": node.link,
            "link_bandwidth": format_quantity(node.bandwidth, BYTES_PER_SECOND),
            "peer_to_peer": node.peer_to_peer,
        },
        **({"inter_node": inter_node} if inter_node else {}),
        "derived_from": base.derived_from or base.name,
        **other_link,
        "derived_error_factor": DERIVED_ERROR_FACTOR,
        "sources": sources | {"node": node.source},
    }
    return f"# {printable(description)}: a draft to check, figure by figure.\n" + yaml.safe_dump(
        data, sort_keys=False, allow_unicode=True, width=100
    )
