"""A digest of what results were computed from, so that they are only joined to their like."""

import hashlib
from collections.abc import Iterable

from isotune._version import __version__
from isotune.simulator.architecture import Model
from isotune.simulator.machine import HardwareProfile


def contents_digest(profiles: Iterable[HardwareProfile], models: Iterable[Model]) -> str:
    """Equal where machines, models and isotune's version are, whatever their files are named."""
    digest = hashlib.sha256(__version__.encode())
    for profile in profiles:
        digest.update(profile.model_dump_json().encode())
    for model in models:
        digest.update(repr(model).encode())
    return digest.hexdigest()
