"""The hardware profile: one machine as a YAML file, every figure with its source."""

from isotune.simulator.machine.blank_profile import template
from isotune.simulator.machine.detect import Found, architecture_of, this_machine
from isotune.simulator.machine.error_model import CLASSES, Errors
from isotune.simulator.machine.inherit import DERIVED_ERROR_FACTOR
from isotune.simulator.machine.nearest import differences_from, nearest_machine
from isotune.simulator.machine.profile import (
    Calibration,
    HardwareProfile,
    OpError,
    bundled_profiles,
    read_profile,
)
from isotune.simulator.machine.write import write_profile

__all__ = [
    "CLASSES",
    "DERIVED_ERROR_FACTOR",
    "Calibration",
    "Errors",
    "Found",
    "HardwareProfile",
    "OpError",
    "architecture_of",
    "bundled_profiles",
    "differences_from",
    "nearest_machine",
    "read_profile",
    "template",
    "this_machine",
    "write_profile",
]
