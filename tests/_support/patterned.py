"""A model whose blocks come in three kinds: one with a window, one with another MLP."""

from dataclasses import dataclass, fields, replace

from isotune.simulator.architecture import Block, Model


@dataclass(frozen=True, kw_only=True)
class Patterned(Model):
    """A model with blocks of the kinds 0, 1 and 2 in the order of `kinds`."""

    kinds: tuple[int, ...]

    @property
    def pattern(self) -> tuple[int, ...]:
        return self.kinds

    def blocks(self, tp: int) -> tuple[Block, ...]:
        plain = Model(**{field.name: getattr(self, field.name) for field in fields(Model)})
        windowed = replace(plain, sliding_window=1024)
        wide = replace(plain, intermediate_size=2 * plain.intermediate_size)
        return tuple(model.block(tp) for model in (plain, windowed, wide))


def patterned(model: Model, kinds: tuple[int, ...]) -> Patterned:
    """The model with blocks of these kinds."""
    known = {field.name: getattr(model, field.name) for field in fields(Model)}
    return Patterned(**known | {"num_hidden_layers": len(kinds)}, kinds=kinds)
