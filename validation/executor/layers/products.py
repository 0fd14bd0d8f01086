"""The column-parallel products of one input."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from isotune.validation.executor.fused_ops import JoinedProducts


class Products:
    """Modules that multiply one input: one by one, or joined where their weights change no more."""

    def __init__(self, *modules: Any) -> None:
        self._modules: Sequence[Any] = modules
        self._joined: JoinedProducts | None = None

    def join(self) -> None:
        """Make one product of them."""
        self._joined = JoinedProducts(self._modules)

    def __call__(self, hidden: Tensor) -> tuple[Tensor, ...]:
        """What each makes of the input."""
        if self._joined is not None:
            return self._joined(hidden)
        return tuple(module(hidden) for module in self._modules)
