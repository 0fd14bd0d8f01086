"""Transformer architectures, read from a Hugging Face config.json."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from isotune.simulator.architecture import decoder
from isotune.simulator.architecture.block import Attend, Block, Op
from isotune.simulator.architecture.hf_config import ARCHITECTURES, Config, QkNorm
from isotune.simulator.errors import InputError
from isotune.simulator.io import did_you_mean, read_json, validate

Norm = Literal["rms_norm", "layer_norm"]
MAX_TP = 1024
_BUNDLED = Path(__file__).with_name("bundled")
_MIXED_WINDOWS = "only some blocks have a sliding window; every block is priced without one"


@dataclass(frozen=True, kw_only=True)
class Model:
    """A decoder-only transformer: sizes in elements, and blocks of one kind or several.

    `intermediate_size` is that of one expert. `attention_bias` is the bias of the query, key
    and value projections, `out_bias` that of the output projection, `mlp_bias` that of every
    MLP projection. `sliding_window` (tokens) is set only where every block has it.

    Per-GPU figures are for tensor parallelism as vLLM shards it: heads, MLP columns (of each
    expert) and vocabulary split over `tp` GPUs; norms, routers, row-parallel biases and learned
    positions replicated; KV heads replicated where there are fewer than GPUs. They need a `tp`
    that `check_tp` accepts.
    """

    name: str
    architecture: str
    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    gated_mlp: bool = True
    norm: Norm = "rms_norm"
    norms_per_block: int = 2
    final_norm: bool = True
    attention_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: QkNorm = False
    rotary: bool = True
    learned_positions: int = 0
    embedding_size: int
    tie_word_embeddings: bool = False
    sliding_window: int | None = None
    num_experts: int = 1
    num_experts_per_token: int = 1
    note: str = ""
    source: str = ""

    @property
    def parameters(self) -> int:
        """Parameters of the whole model, a tied head counted once."""
        return self.weight_elements(1)

    def left_out(self, tp: int) -> tuple[str, ...]:
        """What a prediction for `tp` ranks does not contain."""
        if self.qk_norm != "projection" or tp == 1:
            return ()
        return (
            f"{self.name} norms queries and keys over all heads: the small collective that "
            f"{tp} ranks need for it is left out.",
        )

    @property
    def pattern(self) -> tuple[int, ...]:
        """The kind of each block, an index into `blocks`."""
        return (0,) * self.num_hidden_layers

    def blocks(self, tp: int) -> tuple[Block, ...]:
        """A block of each kind, of one of `tp` ranks; see `pattern`."""
        return (decoder.block(self, tp),)

    def block(self, tp: int) -> Block:
        """One decoder block of one of `tp` ranks, of the first kind."""
        return self.blocks(tp)[0]

    def head(self, tp: int) -> tuple[Op, ...]:
        """What a rank runs before the first block: the embedding."""
        return decoder.head(self, tp)

    def tail(self, tp: int) -> tuple[Op, ...]:
        """What a rank runs after the last block: final norm and LM head."""
        return decoder.tail(self, tp)

    def heads_per_gpu(self, tp: int) -> int:
        """Attention heads one of `tp` GPUs holds."""
        return self.num_attention_heads // tp

    def kv_heads_per_gpu(self, tp: int) -> int:
        """Key/value heads one of `tp` GPUs holds, at least one."""
        return max(1, self.num_key_value_heads // tp)

    def kv_elements_per_token(self, tp: int) -> int:
        """KV-cache elements of one token in all blocks, per GPU."""
        return self._in_all_blocks(self.kv_elements_by_kind(tp))

    def kv_elements_by_kind(self, tp: int) -> tuple[int, ...]:
        """KV-cache elements of one token in a block of each kind, per GPU."""
        return tuple(
            sum(op.cache_elements for op in block.ops if isinstance(op, Attend))
            for block in self.blocks(tp)
        )

    def weight_elements(self, tp: int) -> int:
        """Weight elements of the whole model, per GPU."""
        return self.block_weight_elements(tp) + self.embedding_weight_elements(tp)

    def block_weight_elements(self, tp: int) -> int:
        """Weight elements of all decoder blocks, per GPU."""
        return self._in_all_blocks(
            sum(op.parameters for op in block.ops) for block in self.blocks(tp)
        )

    def _in_all_blocks(self, by_kind: Iterable[int]) -> int:
        """A sum over all blocks of what a block of each kind has."""
        each = tuple(by_kind)
        return sum(each[kind] for kind in self.pattern)

    def embedding_weight_elements(self, tp: int) -> int:
        """Weight elements outside the blocks, per GPU."""
        return sum(op.parameters for op in (*self.head(tp), *self.tail(tp)))


def architectures() -> tuple[str, ...]:
    """The supported values of `model_type`."""
    return tuple(ARCHITECTURES)


def bundled_models() -> tuple[str, ...]:
    """Names of the models that come with isotune, sorted."""
    return tuple(sorted(path.stem for path in _BUNDLED.glob("*.json")))


def load_model(name_or_path: str) -> Model:
    """A bundled model by its name in any case, else the model at a path.

    Raises:
        InputError: neither a bundled name nor a path (the nearest names are given), or a
            config that `read_model` refuses.
    """
    return read_model(model_config_file(name_or_path))


def model_config_file(name_or_path: str) -> Path:
    """The config.json of a bundled model, of a folder, or at a path.

    Raises:
        InputError: neither a bundled name nor a path (the nearest names are given).
    """
    known = bundled_models()
    if name_or_path.lower() in known:
        return _BUNDLED / f"{name_or_path.lower()}.json"
    # Unlike Path.exists this is false, not an OSError, for an overlong name.
    if os.path.exists(name_or_path):  # noqa: PTH110
        path = Path(name_or_path)
        return path / "config.json" if path.is_dir() else path
    wanted = name_or_path.lower().rsplit("/", 1)[-1].removesuffix("-hf")
    raise InputError(
        f"model: {name_or_path!r} is neither a bundled model nor a path "
        f"({did_you_mean(wanted, known)}bundled: {', '.join(known)})"
    )


def read_model(path: Path) -> Model:
    """The model of a Hugging Face folder, or of the config.json inside it.

    Raises:
        InputError: unreadable file, malformed JSON (with its line), an architecture that is
            not supported, a missing field, or a size that is not a positive integer.
    """
    file = path / "config.json" if path.is_dir() else path
    data = read_json(file)
    if "text_config" in data:
        raise InputError(
            f"{file}: text_config: a multimodal wrapper is not supported "
            "(allowed: the language model's own config.json)"
        )
    architecture = data.get("model_type")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        found = f"{architecture!r:.60} is not supported" if architecture else "missing"
        raise InputError(f"{file}: model_type: {found} (allowed: {', '.join(ARCHITECTURES)})")
    # Only the folder is resolved: in a Hugging Face cache the file is a link to a nameless blob.
    name = file.parent.resolve().name if file.name == "config.json" else file.stem
    config = validate(ARCHITECTURES[architecture], data, file)
    if config.contradiction:
        raise InputError(f"{file}: {config.contradiction}")
    return _model(config, name, architecture)


def _model(config: Config, name: str, architecture: str) -> Model:
    experts, experts_per_token = config.experts
    window, everywhere = config.windows
    notes = (config.note, "" if everywhere or window is None else _MIXED_WINDOWS)
    return Model(
        name=name,
        architecture=architecture,
        num_hidden_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads or config.num_attention_heads,
        head_dim=config.head_dim or config.hidden_size // config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        vocab_size=config.vocab_size,
        max_position_embeddings=config.max_position_embeddings,
        gated_mlp=config.gated_mlp,
        norm=config.norm,
        norms_per_block=config.norms_per_block,
        final_norm=config.final_norm,
        attention_bias=config.biases.attention,
        out_bias=config.biases.out,
        mlp_bias=config.biases.mlp,
        qk_norm=config.qk_norm,
        rotary=config.rotary,
        learned_positions=config.learned_positions,
        embedding_size=config.embedding_size,
        tie_word_embeddings=config.tie_word_embeddings,
        sliding_window=window if everywhere else None,
        num_experts=experts,
        num_experts_per_token=experts_per_token,
        note="; ".join(filter(None, notes)),
        source=config.source,
    )


def check_tp(model: Model, tp: int) -> None:
    """Refuse a tensor-parallel size over which the model cannot be sharded.

    Raises:
        InputError: the size, the reason, and the sizes that are possible.
    """
    reason = _tp_obstacle(model, tp)
    if reason:
        sizes = range(1, min(model.num_attention_heads, MAX_TP) + 1)
        possible = ", ".join(str(size) for size in sizes if not _tp_obstacle(model, size))
        raise InputError(f"tp: {tp} does not suit {model.name}: {reason} (allowed: {possible})")


def _tp_obstacle(model: Model, tp: int) -> str:
    kv_heads = model.num_key_value_heads
    if tp <= 0:
        return "it must be positive"
    if model.num_attention_heads % tp:
        return f"it does not divide num_attention_heads {model.num_attention_heads}"
    if kv_heads % tp and tp % kv_heads:
        return f"it neither divides num_key_value_heads {kv_heads} nor is a multiple of it"
    if model.intermediate_size % tp:
        return f"it does not divide intermediate_size {model.intermediate_size}"
    return ""
