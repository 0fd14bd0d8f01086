"""One kernel where transformers runs several, on GPUs: norms, rotations, joined products, experts.

On a CPU transformers' own ops run. What a module computes is asked of it with a small example, once
for each kind of module: one of another form keeps its own ops.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

FUSED_ON = {"cuda"}
"""Types of devices on which one kernel stands for several ops."""
_PROBE = 6
_CLOSE = 1e-5


def norm_of(module: Any) -> Callable[[Tensor], Tensor]:
    """A norm as one kernel, where it is weight * x / rms(x) and lives on a GPU; else the module."""
    weight: Tensor | None = getattr(module, "weight", None)
    epsilon = getattr(module, "variance_epsilon", None)
    if weight is None or epsilon is None or weight.device.type not in FUSED_ON:
        return module  # type: ignore[no-any-return]
    if not _is_rms_norm(cast("Hashable", type(module))):
        return module  # type: ignore[no-any-return]
    return lambda hidden: functional.rms_norm(hidden, weight.shape, module.weight, epsilon)


@cache
def _is_rms_norm(kind: Hashable) -> bool:
    """Whether a class of norms computes weight * x / rms(x)."""
    example: Any = cast("Any", kind)(_PROBE)
    x = torch.linspace(-2.0, 3.0, _PROBE)
    weight = torch.linspace(0.5, 1.5, _PROBE)
    example.weight = nn.Parameter(weight)
    epsilon: float = example.variance_epsilon
    with torch.no_grad():
        got = example(x)
    want = functional.rms_norm(x, (_PROBE,), weight, epsilon)
    return bool(torch.allclose(got, want, atol=_CLOSE))


def rotates_in_one_kernel(device: torch.device, apply: Callable[..., Any]) -> bool:
    """Whether queries and keys on a device are rotated by one kernel, given a family's function."""
    return device.type in FUSED_ON and find_spec("triton") is not None and _pairs_halves(apply)


def rotate_in_place(query: Tensor, key: Tensor, cosines: Tensor, sines: Tensor) -> None:
    """See `rope_kernel.rotate`."""
    from isotune.validation.executor.rope_kernel import rotate

    rotate(query, key, cosines, sines)


@cache
def _pairs_halves(apply: Callable[..., Any]) -> bool:
    """Whether a rotation pairs the first half of the rotated dimensions with the second."""
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 2, 3, _PROBE, generator=generator) for _ in "qk")
    angles = torch.randn(1, 3, _PROBE // 2, generator=generator).repeat(1, 1, 2)
    cosines, sines = angles.cos(), angles.sin()
    try:
        found = apply(query, key, cosines, sines)
    except RuntimeError:  # it takes other angles, as gpt-oss does
        return False
    return all(
        torch.allclose(got, rotated_halves(part, cosines, sines), atol=_CLOSE)
        for got, part in zip(found, (query, key), strict=True)
    )


def rotated_halves(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Heads [requests, heads, tokens, head_dim] rotated in their first dimensions."""
    rotated = cosines.shape[-1]
    turned, rest = heads[..., :rotated], heads[..., rotated:]
    low, high = turned.chunk(2, -1)
    across = torch.cat((-high, low), -1)
    return torch.cat((turned * cosines[:, None] + across * sines[:, None], rest), -1)


class JoinedProducts:
    """Column-parallel products of one input as one, as engines run them and profiles price them.

    The modules keep their weights as views of the joined one, so that memory holds them once.
    """

    def __init__(self, linears: Sequence[Any]) -> None:
        self._widths = [linear.weight.shape[0] for linear in linears]
        self._weight = torch.cat([linear.weight for linear in linears])
        biases = [linear.bias for linear in linears]
        self._bias = None if None in biases else torch.cat(biases)
        if self._bias is None and any(bias is not None for bias in biases):
            raise TypeError("products of one input: all or none of them have a bias")
        for linear, part in zip(linears, self._weight.split(self._widths), strict=True):
            linear.weight = nn.Parameter(part, requires_grad=False)

    def __call__(self, hidden: Tensor) -> tuple[Tensor, ...]:
        """The products, each a view of the joined one."""
        joined: Tensor = functional.linear(hidden, self._weight, self._bias)
        return tuple(joined.split(self._widths, -1))


def grouped_product(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """Rows [n, k], sorted by expert, times the weights [experts, m, k] of their experts: [n, m].

    `ends` [experts] is where each expert's rows end. On a GPU in bf16 one kernel reads it there;
    elsewhere the host reads it and multiplies expert by expert.
    """
    aligned = all(width * rows.element_size() % 16 == 0 for width in weights.shape[1:])
    fused = rows.device.type in FUSED_ON and rows.dtype == torch.bfloat16 and aligned
    if fused and hasattr(torch, "_grouped_mm"):
        product: Tensor = torch._grouped_mm(rows, weights.transpose(1, 2), ends)
        return product
    whole = rows.new_empty(len(rows), weights.shape[1])
    first = 0
    for expert, end in enumerate(ends.tolist()):
        if end > first:
            whole[first:end] = functional.linear(rows[first:end], weights[expert])
        first = end
    return whole
