"""`isotune doctor`: what this machine has, which profile fits it, and what to do next."""

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from isotune import hw_profiles
from isotune._version import __version__
from isotune.commands.options import OutputOptions, application, command
from isotune.present import doctor_section, section_view
from isotune.results import Answer
from isotune.simulator.errors import InputError
from isotune.simulator.machine import (
    Found,
    architecture_of,
    bundled_profiles,
    differences_from,
    nearest_machine,
    this_machine,
)

EXTRAS = {
    "validate": (
        ("torch", "transformers", "safetensors"),
        "measure, validate, sensitivity, recover and remeasure: real runs",
    ),
    "report": (("plotly", "jinja2"), "report: one HTML page of saved results"),
    "sweep": (("pyarrow",), "sweep: tables as Parquet"),
    "distributed": (("psycopg",), "search: several workers share a PostgreSQL study"),
    "tables": (("aiconfigurator_core", "pyarrow"), "import tables: measured rows of other GPUs"),
}
"""The extras of the package for users: what each installs, and which commands it serves."""


@dataclass(frozen=True, kw_only=True)
class Doctor(OutputOptions):
    """What is here (GPUs, links, NCCL, extras), which profile fits, and what to do next.

    Example: isotune doctor --json
    """

    def run(self) -> None:
        """Print what was found; nothing that is missing is an error."""
        torch = _torch()
        found, trouble = _gpus(torch)
        extras = _extras()
        profile = _profile(found)
        steps = _next(found, profile, extras)
        facts: dict[str, Any] = {
            "isotune": __version__,
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "gpus": asdict(found) if found else None,
            "gpus_trouble": trouble,
            "torch": torch,
            "extras": extras,
            "profile": profile,
            "missing": [extra["name"] for extra in extras if extra["missing"]],
            "next": steps,
        }
        self.emit(Answer.of("doctor", **facts), section_view(doctor_section(facts)))


def _torch() -> dict[str, Any] | None:
    """Versions of torch, CUDA and NCCL, and the GPUs that torch sees; None without torch."""
    if find_spec("torch") is None:
        return None
    try:
        import torch
    except (ImportError, OSError) as error:  # a library of CUDA that does not load
        return {"version": version("torch"), "trouble": str(error)}
    cuda = torch.cuda.is_available()
    kinds = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda else None,
        "gpus": [
            {
                "name": kind.name,
                "memory": float(kind.total_memory),
                "architecture": kind.gcnArchName.split(":")[0]
                if torch.version.hip
                else architecture_of(f"{kind.major}.{kind.minor}"),
            }
            for kind in kinds
        ],
    }


def _gpus(torch: dict[str, Any] | None) -> tuple[Found | None, str | None]:
    """The GPUs by nvidia-smi, or else by torch, or why there are none."""
    try:
        return this_machine(), None
    except InputError as error:
        seen = (torch or {}).get("gpus") or []
        if len({gpu["name"] for gpu in seen}) == 1:
            return Found(count=len(seen), **seen[0]), None
        return None, str(error).removeprefix("hardware 'auto': ")


def _extras() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "missing": [package for package in packages if find_spec(package) is None],
            "brings": brings,
        }
        for name, (packages, brings) in EXTRAS.items()
    ]


def _profile(found: Found | None) -> dict[str, Any] | None:
    """The profile of these GPUs or of the machine most like them, and in what it differs."""
    if found is None:
        return None
    profiles = bundled_profiles()
    own = hw_profiles.find(found.name)
    if own is not None:
        profile = next(one for one in profiles if one.name == own.stem)
    else:
        resembles = nearest_machine(found, profiles)
        if resembles is None:
            return None
        profile = resembles
    return {
        "name": profile.name,
        "of_this_gpu": own is not None,
        "measured": not profile.inherits("gemm"),
        "differs": differences_from(found, profile),
    }


def _next(
    found: Found | None, profile: dict[str, Any] | None, extras: list[dict[str, Any]]
) -> list[str]:
    """The commands that bring most from here."""
    if found is None:
        return ["isotune search --hw a800 --model llama-2-7b --prompt 2k"]
    base = profile["name"] if profile else "NAME"
    steps = [] if profile else ["isotune hw list"]
    if profile and profile["of_this_gpu"]:
        few = found.count < 2
        steps.append(f"isotune search --hw {base}" + f" --tp {found.count}" * (not few))
    installed = not next(extra for extra in extras if extra["name"] == "validate")["missing"]
    if not installed:
        steps.append("pip install 'isotune[validate]'")
    ranks = f"--nproc {found.count}" if found.count > 1 else "--nproc 1 --tp 8"
    steps.append(f"isotune measure -o here.csv --name here {ranks}")
    steps.append(f"isotune calibrate here.csv --base {base} -o here.yaml")
    return steps


app = application(command(Doctor))
