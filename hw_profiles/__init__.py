"""Bundled hardware profiles: one YAML file per machine, every figure with its source."""

from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """Names of the bundled profiles, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def find(name: str) -> Path | None:
    """The file of a bundled profile, or None."""
    return FOLDER / f"{name}.yaml" if name in names() else None
