"""Machines nobody measured: kernels and collectives inherited from a measured relative.

A profile with `derived_from: a100` gives its own specification (`gpu`, `node`) and inherits every
section it leaves out. Efficiencies then act on its own figures; what is absolute and grows with
the chip is scaled: L2 bandwidth with the SMs, collective bandwidths with the link. Where the link
is of another kind, `collectives_from` names the machine whose collectives it resembles. A
`collectives` section with `algorithms` alone adds algorithms measured here to those inherited.
"""

from collections.abc import Callable
from typing import Any

from isotune.simulator.errors import InputError
from isotune.simulator.io import BYTES_PER_SECOND, format_quantity, parse_quantity

INHERITED = (
    *("gemm", "attention", "latent_attention", "experts", "elementwise"),
    *("runtime", "errors"),
)
"""Sections that a derived machine takes from its relative, those that the relative has."""
DERIVED_ERROR_FACTOR = 2.0
"""How much wider intervals are without a measurement, unless the profile says otherwise."""

ORIGIN = "inherited from "
"""How the source of an inherited figure begins."""

Data = dict[str, Any]


def resolve(data: Data, where: object, read: Callable[[str], Data]) -> Data:
    """A profile's data with what it inherits filled in.

    Args:
        data: the file's content; unchanged unless it has `derived_from`.
        where: the file, for messages.
        read: the resolved data of another profile, by name or path.

    Raises:
        InputError: a relative that cannot be read, lacks what is inherited, or is itself derived.
    """
    if "derived_from" not in data:
        if "collectives_from" in data:
            raise InputError(f"{where}: collectives_from: needs derived_from beside it")
        return data
    kernels = _relative(data, "derived_from", where, read)
    links = kernels
    if "collectives_from" in data:
        links = _relative(data, "collectives_from", where, read)
    sources = data.get("sources")
    done = data | {"sources": dict(sources) if isinstance(sources, dict) else {}}
    done.setdefault("derived_error_factor", DERIVED_ERROR_FACTOR)
    for section in INHERITED:
        if section not in done and section in kernels:
            _inherit(done, section, kernels)
    own = _own_algorithms(done)
    if own or "collectives" not in done:
        _inherit(done, "collectives", links)
        _scale_collectives(done, links, where)
        inherited = done["collectives"]
        done["collectives"] = inherited | {"algorithms": inherited["algorithms"] | own}
    if data.get("gemm") is None:
        _scale_l2(done, kernels)
    if "calibration" in kernels and "calibration" not in done:
        done["calibration"] = kernels["calibration"]
    return done


def _own_algorithms(data: Data) -> Data:
    """The all-reduce algorithms of a profile that leaves the rest of its collectives out."""
    section = data.get("collectives")
    if not isinstance(section, dict) or set(section) != {"algorithms"}:
        return {}
    own = section["algorithms"]
    return own if isinstance(own, dict) else {}


def _relative(data: Data, field: str, where: object, read: Callable[[str], Data]) -> Data:
    name = data[field]
    if not isinstance(name, str):
        raise InputError(f"{where}: {field}: expected the name of a profile (got {name!r:.40})")
    try:
        relative = read(name)
    except InputError as error:
        raise InputError(f"{where}: {field}: {error}") from error
    if "derived_from" in relative:
        raise InputError(
            f"{where}: {field}: {name} is itself derived from {relative['derived_from']}"
        )
    return relative


def _inherit(data: Data, section: str, relative: Data) -> None:
    data[section] = relative[section]
    origin = f"{ORIGIN}{relative['name']}, not measured here - "
    for key, text in relative["sources"].items():
        if key == section or key.startswith(section + "."):
            data["sources"].setdefault(key, origin + str(text))


def _scale_collectives(data: Data, relative: Data, where: object) -> None:
    """Bandwidths of all lines in proportion to the link; latencies stay."""
    own, other = (_bandwidth(d, "node", "link_bandwidth", where) for d in (data, relative))
    ratio = own / other
    if ratio == 1:
        return
    data["collectives"] = _scaled(data["collectives"], ("bandwidth", "bandwidth_many"), ratio)
    text = f"; bandwidths times {ratio:.3g}, the links' ratio"
    for key in data["sources"]:
        if key == "collectives" or str(key).endswith(".protocols") or ".kinds." in str(key):
            data["sources"][key] += text


def _scale_l2(data: Data, relative: Data) -> None:
    """L2 slices come with the SMs they serve."""
    sms = data.get("gpu", {}).get("sms") if isinstance(data.get("gpu"), dict) else None
    if not isinstance(sms, int) or sms <= 0 or sms == relative["gpu"]["sms"]:
        return
    ratio = sms / relative["gpu"]["sms"]
    data["gemm"] = _scaled(data["gemm"], ("l2_bandwidth",), ratio)
    origin = f"{ORIGIN}{relative['name']}, times {ratio:.3g}, the ratio of the SMs"
    data["sources"]["gemm.l2_bandwidth"] = origin
    for name, stated in data["gemm"].get("sets", {}).items():
        if "l2_bandwidth" in stated:
            data["sources"][f"gemm.sets.{name}.l2_bandwidth"] = origin


def _scaled(value: Any, fields: tuple[str, ...], ratio: float) -> Any:
    """A copy with every quantity of these names multiplied, to three digits."""
    if isinstance(value, list):
        return [_scaled(item, fields, ratio) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _times(item, ratio) if key in fields else _scaled(item, fields, ratio)
        for key, item in value.items()
    }


def _times(text: str, ratio: float) -> str:
    product = parse_quantity(text, BYTES_PER_SECOND) * ratio
    return format_quantity(float(f"{product:.3g}"), BYTES_PER_SECOND)


def _bandwidth(data: Data, section: str, field: str, where: object) -> float:
    try:
        value = parse_quantity(data[section][field], BYTES_PER_SECOND)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: {section}.{field}: {error}") from error
    if value <= 0:
        raise InputError(f"{where}: {section}.{field}: must be above zero")
    return value
