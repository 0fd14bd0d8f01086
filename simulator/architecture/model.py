"""Transformer architectures, read from a Hugging Face config.json."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from isotune.simulator.architecture import decoder
from isotune.simulator.architecture.attention import GroupedQuery
from isotune.simulator.architecture.block import Block, Matmul, Op, RowParallel
from isotune.simulator.architecture.families import FAMILIES, UNKNOWN, WRAPPERS, family
from isotune.simulator.architecture.hf_config import Config
from isotune.simulator.architecture.kind import BlockKind
from isotune.simulator.architecture.latent import LatentAttention
from isotune.simulator.architecture.mlp import Mixture
from isotune.simulator.architecture.names import model_config_file, name_of, split_name
from isotune.simulator.architecture.parallelism import Parallelism, Ranks
from isotune.simulator.architecture.parts import NormKind, Part
from isotune.simulator.architecture.pattern_text import picture
from isotune.simulator.architecture.quantisation import Kinds, Quantisation, stored_tail
from isotune.simulator.architecture.quantisation_config import read_quantisation
from isotune.simulator.errors import InputError
from isotune.simulator.io import read_json, validate
from isotune.simulator.number_types import Quantised

MAX_TP = 1024
_INNER = ("text_config", "llm_config", "language_config")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A decoder-only transformer: sizes in elements, and blocks of one kind or several.

    `layout` has the kind of each block, an index into `kinds`; a layout shorter than the model
    repeats. `left_out_parts` names what the checkpoint has and the blocks do not.

    Per-GPU figures are for tensor parallelism as vLLM shards it: heads, MLP columns (of each
    expert) and vocabulary split over `tp` GPUs; norms, routers, row-parallel biases and learned
    positions replicated; KV heads replicated where there are fewer than GPUs. They need a `tp`
    that `check_tp` accepts. Where a `Parallelism` is given instead, its experts are divided too.
    """

    name: str
    architecture: str
    num_hidden_layers: int
    hidden_size: int
    vocab_size: int
    max_position_embeddings: int
    kinds: tuple[BlockKind, ...]
    layout: tuple[int, ...] = (0,)
    head_rows: int | None = None
    """Outputs of the head where it does not score words."""
    head_bias: bool = False
    norm: NormKind = "rms_norm"
    final_norm: bool = True
    learned_positions: int = 0
    embedding_size: int
    tie_word_embeddings: bool = False
    dtype: str = "bfloat16"
    left_out_parts: tuple[str, ...] = ()
    quantisation: Quantisation | None = None
    read_as: str = ""
    """Says that the config is of another family than the blocks: `own read as family`."""
    note: str = ""
    source: str = ""

    @property
    def parameters(self) -> int:
        """Parameters of the whole model, a tied head counted once."""
        return self.weight_elements(1)

    def left_out(self, how: Ranks) -> tuple[str, ...]:
        """What a prediction for these ranks does not contain, and what it assumes."""
        tp = Parallelism.of(how).tp
        parts = (f"{self.name}: {part} is left out." for part in self.left_out_parts)
        projection = any(
            part.qk_norm == "projection" for part in self._parts if isinstance(part, GroupedQuery)
        )
        separate = (
            f"{self.name} norms queries and keys over all heads: the small collective that "
            f"{tp} ranks need for it is left out.",
        )
        assumed = {op.assumption: 0 for block in self.blocks(how) for op in block.ops}
        guess = (f"{self.name}: {self.read_as}: its blocks may be others.",) if self.read_as else ()
        return (
            *guess,
            *parts,
            *(separate if projection and tp > 1 else ()),
            *filter(None, assumed),
        )

    @property
    def pattern(self) -> tuple[int, ...]:
        """The kind of each block, an index into `blocks`."""
        return self._layers if self._stored is None else self._stored.pattern

    @cached_property
    def _layers(self) -> tuple[int, ...]:
        """The kind of each block, an index into `kinds`."""
        repeats = -(-self.num_hidden_layers // len(self.layout))
        return (self.layout * repeats)[: self.num_hidden_layers]

    @property
    def picture(self) -> str:
        """The pattern in letters, A for the first of `kinds`: `(AAB) x 10, A x 2`."""
        return picture(self._layers)

    def blocks(self, tp: Ranks) -> tuple[Block, ...]:
        """A block of each kind, of one rank; see `pattern`.

        Blocks of one of `kinds` that the checkpoint stores differently are of several kinds.
        """
        known, how = self._blocks, Parallelism.of(tp)
        if how not in known:
            trained = self._trained(how)
            known[how] = trained if self._stored is None else self._stored.blocks(trained)
        return known[how]

    def _trained(self, tp: Ranks) -> tuple[Block, ...]:
        """A block of each of `kinds`, not quantised."""
        return tuple(kind.block(self.hidden_size, tp) for kind in self.kinds)

    @cached_property
    def _stored(self) -> Kinds | None:
        """How the checkpoint stores each block; None: as trained."""
        if self.quantisation is None:
            return None
        return Kinds(self.quantisation, self._trained(1), self._layers)

    @cached_property
    def _blocks(self) -> dict[Parallelism, tuple[Block, ...]]:
        return {}

    def block(self, tp: Ranks) -> Block:
        """One decoder block of one rank, of the first kind."""
        return self.blocks(tp)[0]

    def only_sums(self, tp: Ranks) -> bool:
        """Whether all-reduces are the only collectives of its blocks."""
        found = (segment.collective for block in self.blocks(tp) for segment in block.segments)
        return all(one is None or one.kind == "all_reduce" for one in found)

    def droppable(self, tp: Ranks) -> tuple[int, ...]:
        """Blocks whose first collective can be dropped (SPD), on these ranks."""
        kinds = self.blocks(tp)
        return tuple(at for at, kind in enumerate(self.pattern) if kinds[kind].droppable)

    def head(self, tp: int) -> tuple[Op, ...]:
        """What a rank runs before the first block: the embedding."""
        return decoder.head(self, tp)

    def tail(self, tp: int) -> tuple[Op, ...]:
        """What a rank runs after the last block: final norm and LM head."""
        ops = decoder.tail(self, tp)
        return ops if self.quantisation is None else stored_tail(self.quantisation, ops)

    @property
    def _parts(self) -> tuple[Part, ...]:
        """The sublayers of all kinds of blocks."""
        return tuple(part for kind in self.kinds for part in kind.parts)

    @property
    def _grouped(self) -> GroupedQuery | None:
        return next((part for part in self._parts if isinstance(part, GroupedQuery)), None)

    @property
    def num_attention_heads(self) -> int:
        """Attention heads of the first kind of block that has some."""
        attends = (GroupedQuery, LatentAttention)
        found = [part for part in self._parts if isinstance(part, attends)]
        return next((part.heads for part in (*found, *self._parts) if part.heads), 1)

    @property
    def num_key_value_heads(self) -> int:
        """Key/value heads of the first kind of block that has some."""
        return self._grouped.kv_heads if self._grouped else self.num_attention_heads

    @property
    def num_experts(self) -> int:
        """Most experts of a block's MLP; 1 where no block has experts."""
        return max((p.experts for p in self._parts if isinstance(p, Mixture)), default=1)

    def widest(self, tp: Ranks) -> float:
        """Elements per row of the widest intermediates in a block, per GPU."""
        return max(kind.widest(Parallelism.of(tp)) for kind in self.kinds)

    def kv_elements_by_reach(self, tp: Ranks) -> dict[int | None, int]:
        """KV-cache elements of one token in all blocks, per GPU, by the tokens that they keep.

        None is all tokens; see `Op.reach`.
        """
        found: dict[int | None, int] = {}
        for kind, block in enumerate(self.blocks(tp)):
            for op in block.ops:
                if op.cache_elements:
                    found[op.reach] = found.get(op.reach, 0) + self.counts[kind] * op.cache_elements
        return found

    def state_bytes(self, tp: Ranks) -> int:
        """Bytes of the recurrent states of one request in all blocks, per GPU."""
        blocks = self.blocks(tp)
        return self._in_all_blocks(sum(op.state_bytes for op in block.ops) for block in blocks)

    def weight_elements(self, tp: int) -> int:
        """Weight elements of the whole model, per GPU."""
        return self.block_weight_elements(tp) + self.embedding_weight_elements(tp)

    def block_weight_elements(self, tp: Ranks) -> int:
        """Weight elements of all decoder blocks, per GPU."""
        return self._in_all_blocks(
            sum(op.parameters for op in block.ops) for block in self.blocks(tp)
        )

    def _in_all_blocks(self, by_kind: Iterable[int]) -> int:
        """A sum over all blocks of what a block of each kind has."""
        return sum(self.counts[kind] * each for kind, each in enumerate(by_kind))

    @cached_property
    def counts(self) -> Counter[int]:
        """Blocks of each kind; see `pattern`."""
        return Counter(self.pattern)

    def embedding_weight_elements(self, tp: int) -> int:
        """Weight elements outside the blocks, per GPU."""
        return sum(op.parameters for op in (*self.head(tp), *self.tail(tp)))


def architectures() -> tuple[str, ...]:
    """The supported values of `model_type`."""
    return tuple(FAMILIES)


def load_model(name_or_path: str) -> Model:
    """A bundled model by its name in any case or its Hugging Face id, else the model at a path.

    `NAME as FAMILY` reads the config as one of another family; see `read_model`.

    Raises:
        InputError: neither a bundled name nor a path (the nearest names are given), or a
            config that `read_model` refuses.
    """
    return read_model(model_config_file(name_or_path), split_name(name_or_path)[1])


def read_model(path: Path, read_as: str | None = None) -> Model:
    """The model of a Hugging Face folder, or of the config.json inside it.

    With `read_as`, a decoder of an unknown family is read as one of this one, and says so.

    Raises:
        InputError: unreadable file, malformed JSON (with its line), an architecture that is
            not supported, a missing field, or a size that is not a positive integer.
    """
    file = path / "config.json" if path.is_dir() else path
    whole = read_json(file, infinities=True)
    data, outside = _language_model(whole)
    own = data.get("model_type")
    architecture = own if read_as is None else read_as
    if not isinstance(architecture, str) or architecture not in FAMILIES:
        raise InputError(f"{file}: model_type: {_refusal(architecture)}")
    name = name_of(file)
    config = validate(family(architecture), data, file)
    if config.contradiction:
        raise InputError(f"{file}: {config.contradiction}")
    model = _model(config, name, architecture, file)
    return replace(
        model,
        left_out_parts=(*outside, *model.left_out_parts),
        quantisation=read_quantisation(whole, file),
        read_as="" if architecture == own else f"{own or 'model'} read as {architecture}",
    )


def _language_model(data: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The language model's part of a config, and what the config has beside it."""
    wrapper = data.get("model_type")
    inside = next((data[key] for key in _INNER if isinstance(data.get(key), dict)), None)
    if inside is None and not (isinstance(wrapper, str) and wrapper in WRAPPERS):
        return data, ()
    known = {"model_type": WRAPPERS.get(str(wrapper)), "architectures": data.get("architectures")}
    shared = ("tie_word_embeddings", "note", "source")
    known |= {key: data[key] for key in shared if key in data}
    named = {key: value for key, value in (inside or data).items() if value is not None}
    if inside is None:
        named["model_type"] = known["model_type"]
    kinds = [kind for kind in ("vision", "audio") if f"{kind}_config" in data] or ["vision"]
    return known | named, tuple(f"the {kind} part" for kind in kinds)


def _refusal(architecture: object) -> str:
    """Why an architecture is not supported."""
    if not architecture:
        return f"missing (allowed: {', '.join(FAMILIES)})"
    part = UNKNOWN.get(str(architecture))
    why = f"is not supported: {part}" if part else "is not supported"
    return f"{architecture!r:.60} {why} (allowed: {', '.join(FAMILIES)})"


def _model(config: Config, name: str, architecture: str, file: Path) -> Model:
    kinds: dict[BlockKind, int] = {}
    layout = tuple(
        kinds.setdefault(config.block(index), len(kinds)) for index in range(config.blocks_run)
    )
    for part in (part for kind in kinds for part in kind.parts):
        if isinstance(part, Mixture) and part.per_token > part.experts:
            raise InputError(
                f"{file}: num_experts_per_tok: {part.per_token} is more than the "
                f"{part.experts} experts"
            )
    return Model(
        name=name,
        architecture=architecture,
        num_hidden_layers=config.blocks_run,
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        max_position_embeddings=config.max_position_embeddings,
        kinds=tuple(kinds),
        layout=layout if len(kinds) > 1 else (0,),
        head_rows=None if config.head_rows == config.vocab_size else config.head_rows,
        head_bias=config.head_bias,
        norm=config.norm,
        final_norm=config.final_norm,
        learned_positions=config.learned_positions,
        embedding_size=config.embedding_size,
        tie_word_embeddings=config.tie_word_embeddings,
        dtype=config.dtype or config.torch_dtype or "bfloat16",
        left_out_parts=config.left_out,
        note=config.note,
        source=config.source,
    )


def check_tp(model: Model, tp: Ranks) -> None:
    """Refuse ranks over which the model cannot be sharded.

    Raises:
        InputError: the size, the reason, and the sizes that are possible; or what of a parallelism
            cannot be combined.
    """
    how = Parallelism.of(tp)
    _check_parallelism(model, how)
    reason = _tp_obstacle(model, how)
    if reason:
        sizes = range(1, min(model.num_attention_heads, MAX_TP) + 1)
        possible = ", ".join(str(size) for size in sizes if not _tp_obstacle(model, size))
        raise InputError(f"tp: {how.tp} does not suit {model.name}: {reason} (allowed: {possible})")


HowQuantised = Callable[[Matmul], Quantised | None]


def check_divides(model: Model, ranks: Ranks, quantised: HowQuantised) -> None:
    """Refuse a tensor-parallel size that cuts through blocks of quantised weights, as vLLM does.

    Every matrix that a column-parallel product joins keeps whole blocks of columns on a rank, and
    a row-parallel one whole groups of rows (vLLM's `create_weights`).

    Raises:
        InputError: the size, the product, and the sizes that are possible.
    """
    tp, reason = Parallelism.of(ranks).tp, quantised_obstacle(model, ranks, quantised)
    if reason:
        sizes = range(1, min(model.num_attention_heads, MAX_TP) + 1)
        possible = ", ".join(
            str(size)
            for size in sizes
            if not (_tp_obstacle(model, size) or quantised_obstacle(model, size, quantised))
        )
        raise InputError(
            f"tp: {tp} does not suit the quantised weights of {model.name}: {reason} "
            f"(allowed: {possible or 'none'})"
        )


def quantised_obstacle(model: Model, ranks: Ranks, quantised: HowQuantised) -> str:
    """Why a rank would hold part of a block of weights that share a scale; empty if none would."""
    tp = Parallelism.of(ranks).tp
    products = (op for block in model.blocks(ranks) for op in block.ops if isinstance(op, Matmul))
    reasons = (_cut(op, how, tp) for op in products if (how := quantised(op)) is not None)
    return next(filter(None, reasons), "")


def _cut(op: Matmul, how: Quantised, tp: int) -> str:
    weights = how.scheme.weight_dtype
    for columns in op.joined:
        if columns % how.columns:
            return f"{op.name} has {columns} columns on a rank, {weights} blocks have {how.columns}"
    cut = isinstance(op, RowParallel) and tp > 1 and op.k % how.rows
    if cut and not (how.cuts_experts and op.experts is not None):
        return f"{op.name} has {op.k} rows on a rank, {weights} groups have {how.rows}"
    return ""


def _check_parallelism(model: Model, how: Parallelism) -> None:
    """Refuse what cannot be combined, or what the model has nothing to divide by."""
    if how.contradiction:
        raise InputError(how.contradiction)
    if how.ep > 1 and model.num_experts == 1:
        raise InputError(f"ep: {model.name} has no experts to divide (allowed: 1)")
    if how.ep > 1 and model.num_experts % how.ep:
        raise InputError(
            f"ep: {how.ep} ranks do not divide the {model.num_experts} experts of {model.name}"
        )
    if how.cp > 1 and not all(kind.shares_prompts for kind in model.kinds):
        raise InputError(
            f"cp: {model.name} has attention without heads of keys and values to gather, or MLPs "
            "beside it: context parallelism has no form of such blocks (allowed: 1)"
        )
    if how.dispatches and any(kind.sums_once for kind in model.kinds):
        raise InputError(
            f"ep: attention and experts of {model.name} share one all-reduce: its rows cannot "
            "travel between them (allowed with dp and cp: 1)"
        )


def _tp_obstacle(model: Model, tp: Ranks) -> str:
    how = Parallelism.of(tp)
    if how.tp <= 0:
        return "it must be positive"
    return next(filter(None, (kind.obstacle(how) for kind in model.kinds)), "")
