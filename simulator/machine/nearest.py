"""Which bundled machine resembles one that has no profile."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isotune.simulator.machine.detect import Found
    from isotune.simulator.machine.profile import HardwareProfile


def nearest_machine(found: Found, profiles: Iterable[HardwareProfile]) -> HardwareProfile | None:
    """The machine most like those GPUs, or None where the driver said too little to tell.

    By the generation of the GPU first (its kernels), then its product (H100), the link, whether
    the machine was measured, the memory, and the number of GPUs.
    """
    if _capability(found.architecture) is None:
        return None
    return min(profiles, key=lambda profile: _distance(found, profile))


def differences_from(found: Found, profile: HardwareProfile) -> list[str]:
    """In what a profile differs from the GPUs found: `24 GB of memory, not 80`, ..."""
    gpu, node = profile.gpu, profile.node
    said = []
    if found.architecture and found.architecture != gpu.architecture:
        said.append(f"GPUs of {gpu.architecture}, not {found.architecture}")
    if found.memory and abs(found.memory / gpu.memory - 1) > 0.1:
        said.append(f"{gpu.memory / 1e9:.0f} GB of memory, not {found.memory / 1e9:.0f}")
    if found.link and found.link != node.link:
        said.append(f"joined by {node.link}, not {found.link}")
    if found.count != node.gpus:
        said.append(f"{node.gpus} GPUs, not {found.count}")
    return said


def _distance(found: Found, profile: HardwareProfile) -> tuple[float, ...]:
    gpu, node = profile.gpu, profile.node
    ours, theirs = _capability(found.architecture), _capability(gpu.architecture)
    return (
        math.inf if ours is None or theirs is None else abs(ours - theirs),
        not _same_product(found.name, profile.name),
        bool(found.link) and found.link != node.link,
        profile.inherits("gemm"),
        abs(math.log(found.memory / gpu.memory)) if found.memory else 0.0,
        abs(math.log(found.count / node.gpus)),
    )


def _same_product(name: str, profile: str) -> bool:
    """Whether a GPU's name has the product of a profile: `NVIDIA H100 NVL` that of `h100-pcie`."""
    product = re.sub(r"(?<=[a-z])(?=[0-9])", "[ -]?", profile.split("-", maxsplit=1)[0])
    return bool(re.search(rf"(?<![a-z0-9]){product}(?![a-z0-9])", name.lower()))


def _capability(architecture: str | None) -> int | None:
    """`sm90` as 90: generations are ten apart."""
    match = re.fullmatch(r"sm(\d+)", architecture or "")
    return int(match[1]) if match else None
