"""The all-reduce algorithms that engines choose, and where a machine's figures of each are found.

A machine that has no figures of an algorithm gets derived ones: a latency, and a share of its link.
The constants are medians over the machines on which the kernels were measured (a100, h100, h200,
b300: see their profiles), and whoever reads a result is told.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from isotune.simulator.kernels import Algorithm, CollectiveParameters

LIBRARY: Final = "library"
"""What carries a message that no gate takes: the machine's default (NCCL, RCCL)."""
FUSED: Final = "fused_norm"
"""All-reduce, addition of the residual and norm in one kernel."""
DERIVED_ERROR: Final = 0.25
"""Standard error of a derived line: the measured machines' own spread around the constants."""
FUSED_BYTES: Final = 2.0
"""What a fused kernel moves per message byte more than the all-reduce: the residual, in and out."""


@dataclass(frozen=True)
class Derived:
    """A line for machines without a measurement.

    `pair` and `many` are bandwidths as shares of the link's, between two ranks and among many.
    """

    pattern: str
    latency: float
    latency_per_rank: float
    pair: float
    many: float
    sms: int
    traffic: float


@dataclass(frozen=True)
class Form:
    """An algorithm: what people call it, where a profile has it, and how it is derived.

    `places` are names of a profile's algorithms, each with the one protocol to take of it; all of
    them if None.
    """

    label: str
    places: tuple[tuple[str, str | None], ...] = ()
    derived: Derived | None = None


ALGORITHMS: Final[Mapping[str, Form]] = {
    "one_shot": Form(
        "one-shot",
        (("one_shot", None), ("one_shot_two_shot", "one_shot")),
        Derived("one_shot", 4.7e-6, 90e-9, 0.62, 0.64, 36, 3.0),
    ),
    "two_shot": Form(
        "two-shot",
        (("two_shot", None), ("one_shot_two_shot", "two_shot")),
        Derived("ring", 8e-6, 0.4e-6, 0.46, 0.8, 36, 3.0),
    ),
    "multimem": Form(
        "multimem",
        (("multimem", None),),
        Derived("switch", 13e-6, 0.0, 0.51, 0.51, 8, 2.0),
    ),
    "symmetric_two_shot": Form(
        "symmetric two-shot",
        (("symmetric_two_shot", None),),
        Derived("ring", 18e-6, 0.4e-6, 0.42, 0.42, 36, 3.0),
    ),
    FUSED: Form("fused with norm", ((FUSED, None),)),
    LIBRARY: Form("the library's (NCCL)"),
}
"""Every algorithm that a gate may name."""


class Lines(NamedTuple):
    """An algorithm's figures on one machine.

    `path` is where the profile has them, empty if they are derived; `derived` then says how;
    `seconds_per_byte` is what a fused kernel takes longer than the lines of its all-reduce.
    """

    parameters: CollectiveParameters
    path: str
    derived: str
    error: float | None
    seconds_per_byte: float = 0.0


def lines_of(
    name: str, parameters: CollectiveParameters, link_bandwidth: float, memory_bandwidth: float
) -> Lines:
    """The figures of an algorithm on a machine with these collectives; bandwidths in bytes/s."""
    form = ALGORITHMS[name]
    if name == LIBRARY:
        return Lines(parameters, f"collectives.algorithms.{parameters.default}", "", None)
    for place, protocol in form.places:
        if place in parameters.algorithms:
            return _measured(parameters.algorithms[place], place, protocol)
    if form.derived is not None:
        return _derived(name, form.derived, link_bandwidth)
    return _fused(parameters, link_bandwidth, memory_bandwidth)


def _measured(algorithm: Algorithm, place: str, protocol: str | None) -> Lines:
    # The gate says up to which size it is used.
    kept = tuple(
        one.model_copy(update={"largest": None})
        for one in algorithm.protocols
        if protocol in (None, one.name)
    )
    alone = algorithm.model_copy(update={"protocols": kept, "beyond": None})
    path = f"collectives.algorithms.{place}"
    return Lines(_only(place, alone), path, "", algorithm.error)


def _derived(name: str, how: Derived, link_bandwidth: float) -> Lines:
    line = {
        "name": name,
        "pattern": how.pattern,
        "latency": f"{how.latency * 1e6} us",
        "latency_per_rank": f"{how.latency_per_rank * 1e6} us",
        "bandwidth": f"{how.pair * link_bandwidth} B/s",
        "bandwidth_many": f"{how.many * link_bandwidth} B/s",
    }
    algorithm = Algorithm.model_validate(
        {
            "protocols": (line,),
            "sms": how.sms,
            "sm_bandwidth": f"{2 * link_bandwidth / how.sms} B/s",
            "traffic": how.traffic,
            "interference": 1.1,
        }
    )
    text = (
        f"is derived: {how.latency * 1e6:g} us and {how.many:.0%} of the link, medians of the "
        "machines on which the kernel was measured"
    )
    return Lines(_only(name, algorithm), "", text, DERIVED_ERROR)


def _fused(
    parameters: CollectiveParameters, link_bandwidth: float, memory_bandwidth: float
) -> Lines:
    """The faster of one-shot and two-shot, and the residual's bytes through memory."""
    parts = [
        lines_of(name, parameters, link_bandwidth, memory_bandwidth)
        for name in ("one_shot", "two_shot")
    ]
    algorithms = [part.parameters.algorithms[part.parameters.default] for part in parts]
    protocols = tuple(line for one in algorithms for line in one.protocols)
    both = algorithms[0].model_copy(update={"protocols": protocols})
    of = " and ".join(dict.fromkeys(part.path or "derived lines" for part in parts))
    return Lines(
        _only(FUSED, both),
        "",
        f"is derived: the faster of one-shot and two-shot ({of}), and the residual through memory",
        DERIVED_ERROR,
        FUSED_BYTES / memory_bandwidth,
    )


def _only(name: str, algorithm: Algorithm) -> CollectiveParameters:
    return CollectiveParameters(default=name, algorithms={name: algorithm})
