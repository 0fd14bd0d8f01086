"""How a checkpoint is quantised: the types of each product's operands, and of the KV cache.

Read from `quantization_config` of a config.json, or from the hf_quant_config.json beside it. Every
method says which modules it left as they were; the modules of our ops are matched with them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import translate
from functools import lru_cache

from isotune.simulator.architecture.block import Block, LmHead, Matmul, Op, Router
from isotune.simulator.number_types import Quantised

_BLOCK_PREFIXES = (
    "model.layers",
    "model.language_model.layers",
    "language_model.model.layers",
    "model.decoder.layers",
    "backbone.layers",
    "layers",
)
"""Where checkpoints keep their decoder blocks."""
_TAIL_PREFIXES = ("", "model.", "language_model.")


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names of modules as checkpoints give them.

    A name is that of a module, of one that contains it, or of its last components; with * and ?
    it is a glob of the whole name, and after `re:` a regular expression of its beginning.
    """

    plain: frozenset[str]
    globs: tuple[str, ...] = ()
    expressions: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str]) -> "Names":
        """From a list of a checkpoint.

        Raises:
            ValueError: a regular expression that is none.
        """
        plain, globs, expressions = [], [], []
        for name in names:
            if name.startswith("re:"):
                expressions.append(name.removeprefix("re:"))
            elif "*" in name or "?" in name:
                globs.append(name)
            else:
                plain.append(name)
        found = cls(plain=frozenset(plain), globs=tuple(globs), expressions=tuple(expressions))
        try:
            _pattern(found.globs, found.expressions)
        except re.error as error:
            raise ValueError(f"a regular expression that is none: {error}") from error
        return found

    def have(self, module: str) -> bool:
        """Whether a module, given by its whole name, is among them."""
        parts = module.split(".")
        spans = (
            ".".join(parts[start:end])
            for start in range(len(parts))
            for end in range(start + 1, len(parts) + 1)
        )
        if not self.plain.isdisjoint(spans):
            return True
        return _pattern(self.globs, self.expressions).match(module) is not None


@lru_cache(maxsize=256)
def _pattern(globs: tuple[str, ...], expressions: tuple[str, ...]) -> re.Pattern[str]:
    parts = [*map(translate, globs), *(f"(?:{expression})" for expression in expressions)]
    return re.compile("|".join(parts) if parts else r"(?!)")


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """What a checkpoint says of its number types.

    Modules `left_out` are not quantised; of the others, the first of `rules` that names one says
    how it is, else `usual`. The LM head is quantised only where a rule names it, and with
    `experts_only` so is all but the experts. `kv_cache` is the type of the KV cache, None where
    it is that of the activations.
    """

    method: str
    usual: Quantised | None
    left_out: Names
    rules: tuple[tuple[Names, Quantised], ...] = ()
    experts_only: bool = False
    kv_cache: str | None = None
    note: str = ""

    def __hash__(self) -> int:
        """Of a few fields: those of the whole lists would be computed at every look-up."""
        return hash((self.method, self.usual, len(self.rules), self.kv_cache))

    @property
    def schemes(self) -> tuple[str, ...]:
        """Names of the schemes of its products, the usual one first."""
        every = (self.usual, *(how for _, how in self.rules))
        return tuple(dict.fromkeys(how.scheme.name for how in every if how is not None))

    def __str__(self) -> str:
        cache = f", {self.kv_cache} KV cache" if self.kv_cache else ""
        return f"{' and '.join(self.schemes) or 'no product'} ({self.method}){cache}"

    def of(self, op: Matmul, layer: int | None) -> Quantised | None:
        """How a product of a decoder block (of the tail: None) is quantised.

        Raises:
            TypeError: an op that does not say which modules it is.
        """
        if not op.modules:
            raise TypeError(f"{op.name} names no modules of a checkpoint")
        names = tuple(f"{prefix}{module}" for prefix in _prefixes(layer) for module in op.modules)
        if any(map(self.left_out.have, names)):
            return None
        for named, how in self.rules:
            if any(map(named.have, names)):
                return how
        plain = isinstance(op, LmHead) or (self.experts_only and op.experts is None)
        return None if plain else self.usual


def _prefixes(layer: int | None) -> tuple[str, ...]:
    if layer is None:
        return _TAIL_PREFIXES
    return tuple(f"{prefix}.{layer}." for prefix in _BLOCK_PREFIXES)


class Kinds:
    """The kinds of blocks of a quantised model: a kind of its ops, and how these are stored.

    Args:
        quantisation: of the checkpoint.
        blocks: a block of each kind that the model has before it is quantised.
        pattern: the kind of each block.
    """

    def __init__(
        self, quantisation: Quantisation, blocks: tuple[Block, ...], pattern: tuple[int, ...]
    ) -> None:
        found: dict[tuple[int, tuple[tuple[str, Quantised | None], ...]], int] = {}
        places = []
        for layer, kind in enumerate(pattern):
            products = _products(blocks[kind].ops)
            how = tuple((op.name, quantisation.of(op, layer)) for op in products)
            places.append(found.setdefault((kind, how), len(found)))
        self.pattern = tuple(places)
        self._kinds = tuple(found)

    def blocks(self, plain: tuple[Block, ...]) -> tuple[Block, ...]:
        """A block of each kind, from those before they are quantised (shared in any way)."""
        return tuple(_stored(plain[kind], how) for kind, how in self._kinds)


def _products(ops: Iterable[Op]) -> tuple[Matmul, ...]:
    return tuple(op for op in ops if isinstance(op, Matmul))


def _stored(block: Block, how: tuple[tuple[str, Quantised | None], ...]) -> Block:
    """A block whose products are stored so, each by its name."""
    known = dict(how)

    def stored(op: Op) -> Op:
        if isinstance(op, Matmul) and not isinstance(op, Router):
            return replace(op, quantised=known[op.name])
        return op

    return Block(
        tuple(
            replace(
                segment,
                sublayers=tuple(tuple(map(stored, ops)) for ops in segment.sublayers),
            )
            for segment in block.segments
        )
    )


def stored_tail(quantisation: Quantisation, ops: tuple[Op, ...]) -> tuple[Op, ...]:
    """The ops outside the blocks, each as the checkpoint stores it."""
    return tuple(
        replace(op, quantised=quantisation.of(op, None)) if isinstance(op, Matmul) else op
        for op in ops
    )
