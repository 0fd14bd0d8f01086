"""Which GPUs this machine has, as their driver names them."""

import re
import subprocess
from collections import Counter
from dataclasses import dataclass

from isotune.simulator.errors import InputError

AUTO = "auto"
"""The name that stands for this machine."""
_WAIT_S = 30.0
_NVLINK = re.compile(r"^(?:\x1b\[[0-9;]*m)*GPU\d+\b.*\bNV[1-9]", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Found:
    """The GPUs of a machine; None is what the driver does not say.

    `memory` is in bytes per GPU, `architecture` is spelled like a profile's (`sm90`), `link` is
    `nvlink` or `pcie`.
    """

    name: str
    count: int
    memory: float | None = None
    architecture: str | None = None
    link: str | None = None


def this_machine() -> Found:
    """The GPUs of this machine, by nvidia-smi: name, number, memory, architecture and link.

    Raises:
        InputError: nvidia-smi is missing or fails, or the machine has no GPU or several kinds.
    """
    try:
        listed = _gpus()
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(
            f"hardware {AUTO!r}: nvidia-smi found no GPU here ({type(error).__name__}); "
            "name the machine (isotune hw list)"
        ) from error
    lines = [line.strip() for line in listed.splitlines() if line.strip()]
    kinds = Counter(line.split(", ")[0] for line in lines)
    if len(kinds) != 1:
        found = ", ".join(f"{count} x {name}" for name, count in kinds.items()) or "no GPU"
        raise InputError(f"hardware {AUTO!r}: needs GPUs of one kind, found {found}")
    name, *more = lines[0].split(", ")
    memory, capability = (*more, "", "")[:2]
    return Found(
        name=name,
        count=len(lines),
        memory=float(memory) * 2**20 if memory.isdigit() else None,
        architecture=architecture_of(capability),
        link=_link() if len(lines) > 1 else None,
    )


def architecture_of(capability: str) -> str | None:
    """`9.0` as a profile spells it, `sm90`; None for what is no compute capability."""
    return f"sm{capability.replace('.', '')}" if re.fullmatch(r"\d+\.\d", capability) else None


def _gpus() -> str:
    try:
        return _printed(
            "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"
        )
    except subprocess.CalledProcessError:  # a driver that does not know compute_cap
        return _printed("--query-gpu=name", "--format=csv,noheader")


def _link() -> str | None:
    try:
        topology = _printed("topo", "-m")
    except (OSError, subprocess.SubprocessError):
        return None
    if _NVLINK.search(topology):
        return "nvlink"
    return "pcie" if "GPU1" in topology else None


def _printed(*arguments: str) -> str:
    return subprocess.run(  # noqa: S603 (fixed commands)
        ["nvidia-smi", *arguments],  # noqa: S607 (wherever the driver put it)
        capture_output=True,
        text=True,
        timeout=_WAIT_S,
        check=True,
    ).stdout
