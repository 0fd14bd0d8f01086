"""`nvidia-smi topo -m`: how every pair of GPUs is joined.

NV<n> is n bonded NVLinks; PIX, PXB, PHB, NODE and SYS are PCIe over ever longer ways (one
switch, several, a host bridge, between host bridges, between sockets), as the tool's own legend
says.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from isotune.simulator.errors import InputError
from isotune.simulator.io import read_text

_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_AMD = re.compile(r"ROCm System Management|Weight between two GPUs|XGMI")
_NVLINK = re.compile(r"NV([1-9][0-9]?)$")
PCIE = {
    "PIX": "one PCIe switch",
    "PXB": "several PCIe switches",
    "PHB": "a PCIe host bridge",
    "NODE": "PCIe host bridges of one socket",
    "SYS": "PCIe and the link between sockets",
}


@dataclass(frozen=True, kw_only=True)
class Topology:
    """What joins each pair (i, j), i < j, of the GPUs: `NV12`, `PHB`, ..."""

    gpus: int
    links: dict[tuple[int, int], str]

    @property
    def pcie_pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs without NVLink."""
        return tuple(pair for pair, link in self.links.items() if link in PCIE)

    @property
    def nvlinks(self) -> int:
        """NVLinks of the pair that has fewest; 0 if some pair has none."""
        counts = [_NVLINK.match(link) for link in self.links.values()]
        return min((int(m.group(1)) if m else 0 for m in counts), default=0)

    @property
    def nvlinks_of_each(self) -> int:
        """NVLinks to all others together, of the GPU that has fewest."""
        totals = [0] * self.gpus
        for pair, link in self.links.items():
            found = _NVLINK.match(link)
            for gpu in pair if found else ():
                totals[gpu] += int(found.group(1)) if found else 0
        return min(totals)

    @property
    def farthest(self) -> str:
        """The longest PCIe way between two GPUs, or empty if all pairs have NVLink."""
        used = [link for link in PCIE if link in self.links.values()]
        return used[-1] if used else ""


def read_topology(path: Path) -> Topology:
    """The GPU matrix of a dump; network cards and affinities are passed over.

    Raises:
        InputError: names the line: no matrix, a GPU's row missing, too short or out of order,
            an unknown kind of link, or a pair that reads differently from its two ends.
    """
    text = _ESCAPE.sub("", read_text(path))  # nvidia-smi underlines the heading
    if _AMD.search(text):
        raise InputError(
            f"{path}: this is rocm-smi's topology, which is not read (allowed: nvidia-smi topo -m)"
        )
    lines = list(enumerate(text.splitlines(), 1))
    start = next((i for i, (_, line) in enumerate(lines) if line.split()[:1] == ["GPU0"]), None)
    if start is None:
        raise InputError(f"{path}: no matrix that starts with GPU0 (nvidia-smi topo -m prints it)")
    names = [word for word in lines[start][1].split() if re.fullmatch(r"GPU\d+", word)]
    if len(names) < 2 or names != [f"GPU{i}" for i in range(len(names))]:
        raise InputError(f"{path}: line {lines[start][0]}: expected columns GPU0 GPU1 ...")
    if len(lines) < start + 1 + len(names):
        raise InputError(f"{path}: the matrix ends before the row of GPU{len(names) - 1}")
    rows = [
        _row(path, number, line, index, len(names))
        for index, (number, line) in enumerate(lines[start + 1 : start + 1 + len(names)])
    ]
    links: dict[tuple[int, int], str] = {}
    for i, row in enumerate(rows):
        for j in range(i + 1, len(rows)):
            if row[j] != rows[j][i]:
                raise InputError(f"{path}: GPU{i} to GPU{j} is {row[j]}, but {rows[j][i]} back")
            links[i, j] = row[j]
    return Topology(gpus=len(names), links=links)


def _row(path: Path, number: int, line: str, index: int, count: int) -> list[str]:
    words = line.split()
    if words[:1] != [f"GPU{index}"] or len(words) < count + 1:
        raise InputError(f"{path}: line {number}: expected the row of GPU{index}, {count} links")
    cells = words[1 : count + 1]
    for place, cell in enumerate(cells):
        known = cell == "X" if place == index else cell in PCIE or _NVLINK.match(cell)
        if not known:
            kinds = "X, NV<n>, " + ", ".join(PCIE)
            raise InputError(
                f"{path}: line {number}: GPU{index} to GPU{place}: unknown link {cell!r} ({kinds})"
            )
    return cells
