"""What a block keeps of the tokens before: keys and values, or a state."""

from collections.abc import Sequence

import torch
from torch import Tensor

from isotune.simulator.schedule import Chunk


class TokenCache:
    """Tensors with an entry per token, each [requests, heads, tokens, width].

    A chunk writes its own positions, so a program may run again over what it wrote before.
    """

    def __init__(
        self, widths: Sequence[tuple[int, int]], requests: int, tokens: int, like: Tensor
    ) -> None:
        """Room for (heads, width) of each tensor, in the type and on the device of `like`."""
        self._kept = [like.new_zeros(requests, heads, tokens, width) for heads, width in widths]

    def extend(self, chunk: Chunk, *new: Tensor) -> tuple[Tensor, ...]:
        """Add a chunk's own entries; returns those that its queries may see."""
        requests, end = _requests(chunk), chunk.start + chunk.tokens
        seen = []
        for kept, own in zip(self._kept, new, strict=True):
            entries = kept[requests]
            entries[:, :, chunk.start : end] = own
            seen.append(entries[:, :, :end])
        return tuple(seen)


class StateCache:
    """States after so many tokens, each [requests, ...]: those before and after the last chunk.

    The state before the first token is None, and so is one that nothing computed.
    """

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self._after: dict[int, tuple[Tensor, ...]] = {}

    def before(self, chunk: Chunk) -> tuple[Tensor, ...] | None:
        """The states that the tokens before a chunk have left."""
        if chunk.start == 0 or chunk.start not in self._after:
            return None
        return tuple(state[_requests(chunk)] for state in self._after[chunk.start])

    def keep(self, chunk: Chunk, *states: Tensor) -> None:
        """Keep the states after a chunk; those before the chunk stay, so that it may run again."""
        for at in [at for at in self._after if at < chunk.start]:
            del self._after[at]
        end = chunk.start + chunk.tokens
        if end not in self._after:
            self._after[end] = tuple(
                torch.zeros(
                    self._requests, *state.shape[1:], dtype=state.dtype, device=state.device
                )
                for state in states
            )
        for kept, own in zip(self._after[end], states, strict=True):
            kept[_requests(chunk)] = own


def _requests(chunk: Chunk) -> slice:
    return slice(chunk.first_request, chunk.first_request + chunk.requests)
