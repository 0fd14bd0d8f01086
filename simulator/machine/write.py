"""Writing a hardware profile: YAML with human units that `read_profile` reads back exactly."""

from pathlib import Path

import yaml

from isotune.simulator.io import printable, write_text
from isotune.simulator.machine.inherit import INHERITED
from isotune.simulator.machine.profile import HardwareProfile


def profile_text(profile: HardwareProfile, header: str) -> str:
    """The file's text; each line of `header` becomes a comment.

    Sections that a derived profile inherits are left out, to be inherited again when read; of
    collectives that are inherited, algorithms measured here stay.
    """
    data = profile.model_dump(mode="json", exclude_none=True)
    if profile.derived_from is None:
        del data["derived_error_factor"]
    for section in data.values():
        if isinstance(section, dict) and "sets" in section:
            sets = section.pop("sets")
            section.update({"sets": sets} if sets else {})  # after the figures they differ from
    for section in filter(profile.inherits, (*INHERITED, "collectives")):
        own = profile.own_algorithms() if section == "collectives" else ()
        inherited = data.pop(section, None)
        if own:
            algorithms = {name: inherited["algorithms"][name] for name in own}
            data[section] = {"algorithms": algorithms}
        stays = tuple(f"{section}.algorithms.{name}." for name in own)
        data["sources"] = {
            key: text
            for key, text in data["sources"].items()
            if not f"{key}.".startswith(f"{section}.") or f"{key}.".startswith(stays)
        }
    comments = "".join(f"# {printable(line)}".rstrip() + "\n" for line in header.splitlines())
    return comments + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def write_profile(profile: HardwareProfile, path: Path, header: str) -> None:
    """Write a profile.

    Raises:
        InputError: the file cannot be written.
    """
    write_text(path, profile_text(profile, header))
