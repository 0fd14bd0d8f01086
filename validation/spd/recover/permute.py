"""Function-preserving permutations of a decoder layer: heads and MLP neurons over ranks.

Rank i holds the i-th equal share of the heads and of the neurons in their order, so that a new
order is a new assignment. Rows of the column-parallel projections and columns of the
row-parallel ones move together, which leaves the block's function as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_QUERY, _KEY = "query", "key"
_HEAD_PARTS = {
    "q_proj": (_QUERY,),
    "k_proj": (_KEY,),
    "v_proj": (_KEY,),
    "qkv_proj": (_QUERY, _KEY, _KEY),
}
_OUT = ("o_proj", "out_proj")
_UP = {"gate_proj": 1, "up_proj": 1, "fc1": 1, "gate_up_proj": 2}
_DOWN = ("down_proj", "fc2")


@dataclass(frozen=True, kw_only=True)
class HeadOrder:
    """A new order: old numbers of the query heads and of the KV heads, place by place."""

    query: Tensor
    key: Tensor


@dataclass(frozen=True, kw_only=True)
class HeadUnits:
    """What head grouping may move between ranks.

    Whole KV groups where every rank holds at least one; where a KV head is held by several
    ranks, query heads among the ranks of their group. `allowed` [units, ranks] says which rank
    may hold a unit, `share` how many each holds, `heads` a unit's query heads.
    """

    allowed: Tensor
    share: int
    heads: tuple[tuple[int, ...], ...]
    kv_heads: int

    @classmethod
    def of(cls, config: Any, tp: int) -> "HeadUnits":
        """The units of a model sharded over `tp` ranks."""
        heads = config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        per_group = heads // kv_heads
        if tp <= kv_heads:
            return cls(
                allowed=torch.ones(kv_heads, tp, dtype=torch.bool),
                share=kv_heads // tp,
                heads=tuple(
                    tuple(range(group * per_group, (group + 1) * per_group))
                    for group in range(kv_heads)
                ),
                kv_heads=kv_heads,
            )
        group_of_head = torch.arange(heads) // per_group
        group_of_rank = torch.arange(tp) // (tp // kv_heads)
        return cls(
            allowed=group_of_head[:, None] == group_of_rank[None],
            share=heads // tp,
            heads=tuple((head,) for head in range(heads)),
            kv_heads=kv_heads,
        )

    @property
    def now(self) -> Tensor:
        """The rank of each unit as the layer stands [units]."""
        return torch.arange(len(self.heads)) // self.share

    @property
    def free(self) -> bool:
        """Whether there is anything to choose."""
        return bool((self.allowed.sum(1) > 1).any())

    def order(self, rank: Tensor) -> HeadOrder:
        """The order that puts each unit on its rank [units]; within a rank as before."""
        units = torch.argsort(rank, stable=True)
        query = torch.tensor([head for unit in units.tolist() for head in self.heads[unit]])
        moved = len(self.heads) == self.kv_heads
        return HeadOrder(query=query, key=units if moved else torch.arange(self.kv_heads))


def permute_heads(layer: nn.Module, order: HeadOrder) -> None:
    """Put a layer's heads in another order, in place."""
    rows = {_QUERY: order.query, _KEY: order.key}
    for name, parameter in _attention_parameters(layer):
        projection, _, kind = name.rpartition(".")
        projection = projection.rpartition(".")[2]
        if projection in _OUT and kind == "weight":
            parameter.data = parameter.data[:, expanded(order.query, parameter.shape[1])]
        elif projection in _HEAD_PARTS:
            parts = [rows[part] for part in _HEAD_PARTS[projection]]
            width = parameter.shape[0] // sum(map(len, parts))
            parameter.data = parameter.data[_joined(parts, width)]


def permute_neurons(layer: nn.Module, order: Tensor) -> None:
    """Put the neurons of a layer's MLP in another order [neurons], in place.

    Not for experts, each of which has neurons of its own.
    """
    for name, parameter in layer.named_parameters():
        projection, _, kind = name.rpartition(".")
        projection = projection.rpartition(".")[2]
        if projection in _DOWN and kind == "weight":
            parameter.data = parameter.data[:, order.to(parameter.device)]
        elif projection in _UP:
            parts = [order.to(parameter.device)] * _UP[projection]
            parameter.data = parameter.data[_joined(parts, 1)]


def _attention_parameters(layer: Any) -> Iterator[tuple[str, Any]]:
    return layer.self_attn.named_parameters()  # type: ignore[no-any-return]


def expanded(order: Tensor, width: int) -> Tensor:
    """Numbers of the elements of heads in an order, where all heads have `width` elements."""
    size = width // len(order)
    return (order[:, None] * size + torch.arange(size)).flatten()


def _joined(parts: list[Tensor], width: int) -> Tensor:
    """Elements of several parts beside each other, each in its order."""
    found, start = [], 0
    for part in parts:
        found.append(start + expanded(part, len(part) * width))
        start += len(part) * width
    return torch.cat(found)
