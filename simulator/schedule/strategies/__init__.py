"""Strategies: one module each, and the registry of them all."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import AfterValidator, WithJsonSchema

from isotune.simulator.errors import InputError
from isotune.simulator.schedule.strategies.async_tp import AsyncTp
from isotune.simulator.schedule.strategies.contract import Strategy
from isotune.simulator.schedule.strategies.desync import Desync4
from isotune.simulator.schedule.strategies.drop_mlp_sync import DropMlpSync
from isotune.simulator.schedule.strategies.fused_norm import FusedNorm
from isotune.simulator.schedule.strategies.gemm_overlap import GemmOverlap
from isotune.simulator.schedule.strategies.iso import Iso
from isotune.simulator.schedule.strategies.ladder import Ladder
from isotune.simulator.schedule.strategies.no_comm import NoComm
from isotune.simulator.schedule.strategies.parallel_block import ParallelBlock
from isotune.simulator.schedule.strategies.request_overlap import RequestOverlap
from isotune.simulator.schedule.strategies.sequence_parallel import SequenceParallel
from isotune.simulator.schedule.strategies.serial import Serial
from isotune.simulator.schedule.strategies.spd_all import SpdAll

_ALL: Final[tuple[Strategy, ...]] = (
    Serial(),
    GemmOverlap(),
    RequestOverlap(),
    Iso(),
    FusedNorm(),
    SequenceParallel(),
    AsyncTp(),
    Ladder(),
    ParallelBlock(),
    Desync4(),
    DropMlpSync(),
    SpdAll(),
    NoComm(),
)
STRATEGIES: Final[Mapping[str, Strategy]] = MappingProxyType({one.name: one for one in _ALL})
"""Every strategy by its name."""
SEARCHABLE: Final = tuple(one.name for one in _ALL if one.searchable)
"""Names of the strategies that a search may choose."""
COMPARED: Final = tuple(one for one in _ALL if one.compared)
"""Strategies that a table of techniques shows beside those that a search may choose."""
SPD: Final = "spd"
"""Name of the technique that drops attention all-reduces (SPD, arXiv 2502.20727)."""
TECHNIQUES: Final = (
    *STRATEGIES,
    SPD,
    *(f"{one.name}_{SPD}" for one in _ALL if one.drops and one.chunked),
)
"""Names of what a table of techniques may hold: strategies, and strategies with SPD."""


def strategy_named(name: str) -> Strategy:
    """The strategy of a name.

    Raises:
        InputError: there is none of this name.
    """
    if name not in STRATEGIES:
        raise InputError(f"strategy: unknown {name!r:.40} (allowed: {', '.join(STRATEGIES)})")
    return STRATEGIES[name]


def technique_named(name: str) -> tuple[Strategy, bool]:
    """A technique's strategy, and whether it drops all-reduces as well.

    `spd` drops them under the serial schedule, `iso_spd` under ISO.

    Raises:
        InputError: there is none of this name.
    """
    if name == SPD:
        return STRATEGIES["serial"], True
    base = name.removesuffix(f"_{SPD}")
    if name not in STRATEGIES and (base not in STRATEGIES or not STRATEGIES[base].drops):
        raise InputError(f"unknown technique {name!r:.60} (allowed: {', '.join(TECHNIQUES)})")
    return STRATEGIES[name if name in STRATEGIES else base], name not in STRATEGIES


def technique_label(name: str) -> str:
    """`gemm_overlap` and `iso_spd` as people write them."""
    strategy, drops = technique_named(name)
    if not drops:
        return strategy.label
    return "SPD" if name == SPD else f"{strategy.label} with SPD"


def _known(name: str) -> str:
    if name not in STRATEGIES:
        raise ValueError(f"unknown strategy {name!r:.40} (allowed: {', '.join(STRATEGIES)})")
    return name


StrategyName = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(STRATEGIES)})
]
"""A field that holds the name of a strategy."""


def _known_technique(name: str) -> str:
    try:
        technique_named(name)
    except InputError as error:
        raise ValueError(str(error)) from error
    return name


TechniqueName = Annotated[
    str, AfterValidator(_known_technique), WithJsonSchema({"type": "string", "enum": TECHNIQUES})
]
"""A field that holds the name of a technique."""

__all__ = [
    "COMPARED",
    "SEARCHABLE",
    "SPD",
    "STRATEGIES",
    "TECHNIQUES",
    "Strategy",
    "StrategyName",
    "TechniqueName",
    "strategy_named",
    "technique_label",
    "technique_named",
]
