"""Latent attention rows: prefill and decode kernels, each counting half; a set for each cache."""

import itertools

from isotune.simulator.machine import HardwareProfile
from isotune.validation.calibrate.fits.attention_fit import balanced
from isotune.validation.calibrate.fits.section import Section, by_type, paths_of
from isotune.validation.tables import Rows

_PREFILL = (
    "launch",
    "block_overhead",
    "max_splits",
    "tensor_efficiency",
    "solo_rate",
    "tail",
    "bandwidth_efficiency",
)
_DECODE = (
    "launch",
    "block_overhead",
    "split_keys",
    "max_splits",
    "block_bandwidth",
    "tensor_efficiency",
    "combine",
    "bandwidth_efficiency",
)
_QUERY_TILES, _HEAD_TILES = (64, 128), (16, 64, 128)


def latent_sections(groups: tuple[Rows, ...], base: HardwareProfile) -> list[Section]:
    """The parameters of `latent_attention`; tiles are tried, the rest is estimated."""
    paths = (
        paths_of("latent_attention.prefill", _PREFILL)
        + paths_of("latent_attention.decode", _DECODE)
        + ("latent_attention.l2_speedup",)
    )
    kernels = base.latent_kernels().parameters
    queries = dict.fromkeys((kernels.prefill.query_tile, *_QUERY_TILES))
    heads = dict.fromkeys((kernels.decode.head_tile, *_HEAD_TILES))
    names = ("latent_attention.prefill.query_tile", "latent_attention.decode.head_tile")
    tiles = tuple(itertools.product(queries, heads))
    return [
        Section(
            key="latent_attention",
            groups=of_type,
            paths=paths,
            choices=tuple(dict(zip(names, pair, strict=True)) for pair in tiles),
            weights=balanced,
            set_name=name,
        )
        for name, of_type in by_type(groups)
    ]
