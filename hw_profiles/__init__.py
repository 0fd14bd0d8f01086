"""Bundled hardware profiles: one YAML file per machine, every figure with its source."""

import re
from pathlib import Path

FOLDER = Path(__file__).parent
PRODUCTS = {
    "NVIDIA A10": "a10",
    "NVIDIA A100-SXM4-80GB": "a100",
    "NVIDIA A100 80GB PCIe": "a100-pcie",
    "NVIDIA A40": "a40",
    "NVIDIA A800-SXM4-80GB": "a800",
    "NVIDIA A800 80GB PCIe": "a800-pcie",
    "NVIDIA B200": "b200",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H100 PCIe": "h100-pcie",
    "NVIDIA H20": "h20",
    "NVIDIA H200": "h200",
    "NVIDIA H800": "h800",
    "NVIDIA L20": "l20",
    "NVIDIA L4": "l4",
    "NVIDIA L40S": "l40s",
    "NVIDIA GeForce RTX 3090": "rtx3090",
    "NVIDIA GeForce RTX 4090": "rtx4090",
    "NVIDIA GeForce RTX 5090": "rtx5090",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "rtxpro6000",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "rtxpro6000",
    "AMD Instinct MI300X": "mi300x",
}
"""The profile of a GPU by the name that nvidia-smi (or rocm-smi) prints."""


def names() -> tuple[str, ...]:
    """Names of the bundled profiles, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def find(name: str) -> Path | None:
    """The file of a bundled profile, or None.

    `name` is that of the profile or of the GPU, in any case, with or without the vendor.
    """
    plain = _plain(name)
    known = {_plain(product): profile for product, profile in PRODUCTS.items()}
    profile = known.get(plain, plain)
    return FOLDER / f"{profile}.yaml" if profile in names() else None


def _plain(name: str) -> str:
    """A name without the vendor, the brand, and the form factor that every 8-GPU node has."""
    return re.sub(r"^(nvidia|amd)[ _-]+|geforce[ _-]+|[ _-]sxm[0-9]?$", "", name.strip().lower())
