"""Attention rows: prefill and decode kernels, each counting half however many rows it has."""

import itertools

import numpy as np

from isotune.simulator.kernels import Array
from isotune.simulator.machine import HardwareProfile
from isotune.validation.calibrate.fits.section import Section, paths_of
from isotune.validation.tables import Rows

_SHARED = ("append_efficiency", "l2_speedup", "l2_resident")
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
    "block_bandwidth",
    "split_keys",
    "max_splits",
    "combine",
    "combine_part",
    "regroup",
    "bandwidth_efficiency",
)
_TILES = (64, 128)


def attention_sections(groups: tuple[Rows, ...], base: HardwareProfile) -> list[Section]:
    """The parameters of `attention`; tile and split are tried, the rest is estimated."""
    paths = (
        paths_of("attention.prefill", _PREFILL)
        + paths_of("attention.decode", _DECODE)
        + paths_of("attention", _SHARED)
    )
    chunked = any((rows.sizes["q_len"] > 1).any() for rows in groups)
    single = any((rows.sizes["q_len"] == 1).any() for rows in groups)
    kernels = base.attention
    tiles = {kernels.prefill.query_tile: None} | (dict.fromkeys(_TILES) if chunked else {})
    splits = {kernels.decode.split_mha: None} | (dict.fromkeys((True, False)) if single else {})
    names = ("attention.prefill.query_tile", "attention.decode.split_mha")
    choices = tuple(
        dict(zip(names, pair, strict=True)) for pair in itertools.product(tiles, splits)
    )
    return [Section(key="attention", groups=groups, paths=paths, choices=choices, weights=balanced)]


def balanced(rows: Rows) -> Array:
    """Prefill and decode count half each."""
    many = rows.sizes["q_len"] > 1
    share = np.where(many, many.mean(), 1 - many.mean())
    return np.asarray(np.sqrt(0.5 / share))
