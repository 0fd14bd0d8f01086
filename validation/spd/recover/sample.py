"""A block's activations on a sample of calibration tokens, as the grouping needs them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from isotune.validation.spd.model import Block, Stream
from isotune.validation.spd.recover.permute import HeadOrder, expanded


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Some tokens of a block: its input x [tokens, hidden] and its heads' outputs
    [tokens, heads x head_dim]; `mean` is that of the heads' outputs over all tokens."""

    x: Tensor
    mixed: Tensor
    mean: Tensor

    def permuted(self, order: HeadOrder) -> "Sample":
        """The sample of the layer after its heads were put in an order."""
        columns = expanded(order.query, self.mixed.shape[1])
        return Sample(x=self.x, mixed=self.mixed[:, columns], mean=self.mean[columns])


def take_sample(
    block: Block, streams: Sequence[Stream], index: int, size: int, seed: int
) -> Sample:
    """`size` tokens of the streams at a block, drawn by `seed`, and the mean over all of them."""
    windows = sum(len(stream.windows) for stream in streams)
    context = streams[0].hidden.shape[1]
    generator = torch.Generator().manual_seed(seed + index)
    chosen = torch.randperm(windows * context, generator=generator)[:size].sort().values
    xs, heads, total, start = [], [], None, 0
    for stream in streams:
        with torch.no_grad():
            mixed = block.mixed(stream.hidden, stream.calls[index]).flatten(0, 1)
        own = chosen[(chosen >= start) & (chosen < start + len(mixed))] - start
        start += len(mixed)
        xs.append(stream.hidden.flatten(0, 1)[own])
        heads.append(mixed[own])
        added = mixed.double().sum(0)
        total = added if total is None else total + added
    assert total is not None
    mean = (total / start).to(xs[0].dtype)
    return Sample(x=torch.cat(xs), mixed=torch.cat(heads), mean=mean)


def mean_correction(block: Block, mean: Tensor) -> Tensor:
    """Bias correction [tp, hidden]: the mean attention output that each rank does not see.

    `mean` [heads x head_dim] is that of the heads' outputs on calibration text.
    """
    with torch.no_grad():
        parts = torch.stack(block.projected(mean))
        return parts.sum(0) - parts
