"""Linear attention with a recurrent state: gated delta net, Mamba 2, lightning attention."""

from dataclasses import dataclass

from isotune.simulator.architecture.block import (
    ColumnParallel,
    Convolution,
    Op,
    RowParallel,
    Scan,
    StateNorm,
)
from isotune.simulator.architecture.parts import indivisible, uneven

IN = (
    "linear_attn.in_proj_qkv",
    "linear_attn.in_proj_qkvz",
    "linear_attn.in_proj_z",
    "mixer.in_proj",
    "mamba.in_proj",
    "self_attn.qkv_proj",
)
OUT = ("linear_attn.out_proj", "mixer.out_proj", "mamba.out_proj", "self_attn.out_proj")
"""Modules of checkpoints that hold the projections, in every family's spelling."""


@dataclass(frozen=True, kw_only=True)
class GatedDeltaNet:
    """The delta rule with a gate (arXiv 2412.06464), as Qwen3-Next has it.

    `heads` value heads share `key_heads` key and query heads; each has a state of `key_dim` by
    `value_dim` elements. Queries, keys and values pass a convolution over `kernel` tokens.
    """

    heads: int
    key_heads: int
    key_dim: int
    value_dim: int
    kernel: int

    def ops(self, hidden: int, tp: int) -> tuple[Op, ...]:
        """Projections, convolution, scan, gated norm and output projection of a rank's heads."""
        heads, keys = self.heads // tp, max(1, self.key_heads // tp) * self.key_dim
        values = heads * self.value_dim
        mixed = 2 * keys + values
        columns = mixed + values + 2 * heads
        return (
            ColumnParallel(
                name="scan_in",
                sublayer="attention",
                n=columns,
                k=hidden,
                modules=IN,
                parameters=columns * hidden,
            ),
            Convolution(
                name="convolution",
                sublayer="attention",
                elements=2 * mixed,
                channels=mixed,
                kernel=self.kernel,
                parameters=mixed * self.kernel,
            ),
            Scan(
                name="scan",
                sublayer="attention",
                heads=heads,
                key_heads=max(1, self.key_heads // tp),
                key_dim=self.key_dim,
                value_dim=self.value_dim,
                delta=True,
                parameters=2 * heads,
            ),
            StateNorm(
                name="scan_norm",
                sublayer="attention",
                elements=3 * values,
                parameters=self.value_dim,
            ),
            RowParallel(
                name="attention_out",
                sublayer="attention",
                n=hidden,
                k=values,
                modules=OUT,
                parameters=hidden * values,
            ),
        )

    def obstacle(self, tp: int) -> str:
        """Value heads are shared; key heads are shared or copied."""
        return indivisible(self.heads, "linear_num_value_heads", tp) or uneven(
            self.key_heads, "linear_num_key_heads", tp
        )

    def widest(self, tp: int) -> float:
        """Queries, keys, values, gate and what the scan returns."""
        return (2 * self.key_heads * self.key_dim + 3 * self.heads * self.value_dim) / tp

    @property
    def text(self) -> str:
        """In a few words, for people."""
        return f"gated delta net {self.heads} x {self.key_dim} x {self.value_dim}"


@dataclass(frozen=True, kw_only=True)
class Mamba2:
    """Mamba 2 (arXiv 2405.21060): `heads` of `head_dim` with `state` elements, in `groups`."""

    heads: int
    head_dim: int
    state: int
    groups: int
    kernel: int
    bias: bool = False
    conv_bias: bool = True

    def ops(self, hidden: int, tp: int) -> tuple[Op, ...]:
        """Projections, convolution, scan, gated norm and output projection of a rank's heads."""
        heads, groups = self.heads // tp, max(1, self.groups // tp)
        inner = heads * self.head_dim
        mixed = inner + 2 * groups * self.state
        columns = inner + mixed + heads
        return (
            ColumnParallel(
                name="scan_in",
                sublayer="attention",
                n=columns,
                k=hidden,
                modules=IN,
                parameters=columns * (hidden + self.bias),
            ),
            Convolution(
                name="convolution",
                sublayer="attention",
                elements=2 * mixed,
                channels=mixed,
                kernel=self.kernel,
                parameters=mixed * (self.kernel + self.conv_bias),
            ),
            Scan(
                name="scan",
                sublayer="attention",
                heads=heads,
                key_heads=groups,
                key_dim=self.state,
                value_dim=self.head_dim,
                delta=False,
                parameters=3 * heads,
            ),
            StateNorm(name="scan_norm", sublayer="attention", elements=3 * inner, parameters=inner),
            RowParallel(
                name="attention_out",
                sublayer="attention",
                n=hidden,
                k=inner,
                modules=OUT,
                parameters=hidden * (inner + self.bias),
            ),
        )

    def obstacle(self, tp: int) -> str:
        """Heads are shared; groups are shared or copied."""
        return indivisible(self.heads, "mamba_num_heads", tp) or uneven(self.groups, "n_groups", tp)

    def widest(self, tp: int) -> float:
        """What the first projection returns, and what the scan returns."""
        inner = self.heads * self.head_dim
        return (3 * inner + 2 * self.groups * self.state) / tp

    @property
    def text(self) -> str:
        """In a few words, for people."""
        return f"Mamba 2 {self.heads} x {self.head_dim}, state {self.state}"


@dataclass(frozen=True, kw_only=True)
class Lightning:
    """Lightning attention (arXiv 2401.04658), as MiniMax-01 has it: linear, with a decay."""

    heads: int
    head_dim: int

    def ops(self, hidden: int, tp: int) -> tuple[Op, ...]:
        """Projections, scan, norm, gate and output projection of a rank's heads."""
        heads = self.heads // tp
        mixed = heads * self.head_dim
        return (
            ColumnParallel(
                name="scan_in",
                sublayer="attention",
                n=4 * mixed,
                k=hidden,
                modules=IN,
                parameters=4 * mixed * hidden,
            ),
            Scan(
                name="scan",
                sublayer="attention",
                heads=heads,
                key_heads=heads,
                key_dim=self.head_dim,
                value_dim=self.head_dim,
                delta=False,
            ),
            StateNorm(name="scan_norm", sublayer="attention", elements=3 * mixed, parameters=mixed),
            RowParallel(
                name="attention_out",
                sublayer="attention",
                n=hidden,
                k=mixed,
                modules=OUT,
                parameters=hidden * mixed,
            ),
        )

    def obstacle(self, tp: int) -> str:
        """Heads are shared."""
        return indivisible(self.heads, "num_attention_heads", tp)

    def widest(self, tp: int) -> float:
        """Queries, keys, values, gate and what the scan returns."""
        return 5 * self.heads * self.head_dim / tp

    @property
    def text(self) -> str:
        """In a few words, for people."""
        return f"lightning attention {self.heads} x {self.head_dim}"
