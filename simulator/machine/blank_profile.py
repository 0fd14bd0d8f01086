"""A profile to fill in: the specification with a comment on every field, the rest inherited."""

from pydantic import BaseModel

from isotune.simulator.io import checked
from isotune.simulator.machine.inherit import DERIVED_ERROR_FACTOR
from isotune.simulator.machine.profile import HardwareProfile

_HEAD = """\
# {name}: a template. Replace every figure by your machine's, and every source by yours.
# Quantities carry their unit; bandwidths of links are per GPU and one direction.
# What is not here (kernels, collectives, runtime) is inherited from {kernels} and scaled to these
# figures, with wider intervals. With measurements of your own:
#   isotune calibrate TABLE --base {name}.yaml -o {name}-calibrated.yaml
name: {name}
description: {name}, specification to be filled in
"""
_TAIL = """\
# the measured machine whose kernels yours resembles most, and (if its link is of another kind)
# the one whose collectives it resembles most
derived_from: {kernels}
{collectives}
derived_error_factor: {factor:g}  # widens intervals, 1 to 10
# several such nodes:
# inter_node:
#   nodes: 2
#   link_bandwidth: 50 GB/s  # per GPU, one direction (400 Gbit/s InfiniBand)
#   latency: 10 us
sources:
  gpu: assumed - as {base}, to be replaced by the data sheet
  node: assumed - as {base}, to be replaced by the data sheet
"""


def template(name: str, base: HardwareProfile) -> str:
    """YAML text of a profile that starts with the specification of `base`.

    It inherits from `base`, or from the measured machine that `base` itself is derived from.

    Raises:
        InputError: a name that is none.
    """
    checked(HardwareProfile, base.model_dump() | {"name": name}, "NAME")
    sections = "".join(_section(key, getattr(base, key)) for key in ("gpu", "node"))
    links = base.collectives_from
    values = {
        "name": name,
        "base": base.name,
        "kernels": base.derived_from or base.name,
        "collectives": f"collectives_from: {links}" if links else "# collectives_from: l40s",
        "factor": max(DERIVED_ERROR_FACTOR, base.derived_error_factor),
    }
    return _HEAD.format(**values) + sections + _TAIL.format(**values)


def _section(key: str, table: BaseModel) -> str:
    """One section, every field with its description as a comment."""
    lines = [f"{key}:\n"]
    data = table.model_dump(mode="json")
    for name, field in type(table).model_fields.items():
        value = data[name]
        text = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
        lines.append(f"  {name}: {text}  # {field.description}\n")
    return "".join(lines)
