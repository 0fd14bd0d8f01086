"""A decoder block as data: what one rank computes, op by op, between its collectives.

An op is a value whose *type* says what it is. What it costs, how uncertain that is, how it runs
on a real rank and how much memory it needs is dispatched on the type; `name` is for people and
decides nothing. An op of a type that a reader does not know is a `TypeError`, never a default.

A block is a chain of *segments*: the compute up to a collective, and the collective. A standard
block has two (attention, MLP). Dropping the collective between them (SPD, arXiv 2502.20727)
merges them into one.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from isotune.simulator.architecture.parallelism import Axis
from isotune.simulator.number_types import Quantised

CollectiveKind = Literal["all_reduce", "reduce_scatter", "all_gather", "all_to_all", "send"]


@dataclass(frozen=True, kw_only=True)
class Op:
    """One kernel's worth of work on the rows of a chunk, on one rank.

    `sublayer` is the part of the model it belongs to: attention, mlp, embed or head.
    `parameters` counts the weight elements that this rank holds for it.
    """

    section: ClassVar[str]
    """The section of a machine profile that has its figures."""
    assumption: ClassVar[str] = ""
    """What is assumed about its cost where no measurement stands behind it."""

    name: str
    sublayer: str
    parameters: int = 0

    def __init_subclass__(cls) -> None:
        if not hasattr(cls, "section"):
            raise TypeError(f"op type {cls.__name__} names no section of a machine profile")

    def __str__(self) -> str:
        return self.name

    @property
    def error_class(self) -> str:
        """The class of operations whose error it shares."""
        return self.section.partition(".")[0]

    @property
    def cache_elements(self) -> int:
        """Cache elements that it keeps of a token."""
        return 0

    @property
    def reach(self) -> int | None:
        """Tokens back to which it looks, itself included; None where it sees all of them."""
        return None

    @property
    def state_bytes(self) -> int:
        """Bytes that it keeps of a request, whatever its length."""
        return 0


@dataclass(frozen=True, kw_only=True)
class Experts:
    """A mixture: `per_token` of `count` experts, each of so many `matrices`, work on a row.

    Where it `routes`, the op that has it also runs the router and brings the rows of each expert
    together. An expert has three matrices if it is gated (SwiGLU), else two. The experts are
    divided over `ep` ranks, and the rows of `gathered` ranks reach them.
    """

    count: int
    per_token: int
    matrices: int = 3
    routes: bool = False
    ep: int = 1
    gathered: int = 1

    @property
    def held(self) -> int:
        """Experts of one rank."""
        return self.count // self.ep


@dataclass(frozen=True, kw_only=True)
class Matmul(Op):
    """y[rows, n] = x[rows, k] @ w[k, n]; with `experts`, one product per expert of n by k.

    `modules` names the modules of a checkpoint that hold w, below their decoder block and in
    every spelling of the families that have it, and `joined` has the columns of each matrix that
    a column-parallel product joins, on one rank. `quantised` is how the checkpoint stores them,
    None where they are not quantised.
    """

    section = "gemm"

    n: int
    k: int
    experts: Experts | None = None

    modules: tuple[str, ...] = ()
    joined: tuple[int, ...] = ()
    quantised: Quantised | None = None

    @property
    def products(self) -> int:
        """Elements of w on this rank: `parameters` less biases, routers and tied tables."""
        count = 1 if self.experts is None else self.experts.held
        return min(self.parameters, count * self.n * self.k)


class ColumnParallel(Matmul):
    """Every rank holds some of the columns of w; x is complete (Megatron-LM, arXiv 1909.08053)."""


class RowParallel(Matmul):
    """Every rank holds some of the rows of w, and its y is a partial sum."""


class Qkv(ColumnParallel):
    """The query, key and value projections of a rank's heads."""


class Replicated(Matmul):
    """Every rank holds all of w."""


class Router(Replicated):
    """The scores of all experts, where they must be known before the rows travel."""


class LatentUp(ColumnParallel):
    """Keys and values of a rank's heads from the latent vectors, or its absorbed form in decode.

    A chunk after earlier context expands the latent vectors of that context again.
    """


class LmHead(ColumnParallel):
    """The projection to the vocabulary."""


@dataclass(frozen=True, kw_only=True)
class Attend(Op):
    """Causal attention of a rank's heads over the KV cache, which it extends.

    `value_dim` is the width of values where it is not that of keys. `window` is the sliding window
    in tokens, None where every query sees all keys before it.
    """

    section = "attention"

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int | None = None
    window: int | None = None

    @property
    def mean_dim(self) -> float:
        """Mean width of a key and a value."""
        return (self.head_dim + (self.value_dim or self.head_dim)) / 2

    @property
    def cache_elements(self) -> int:
        """KV-cache elements of a token."""
        return self.kv_heads * (self.head_dim + (self.value_dim or self.head_dim))

    @property
    def reach(self) -> int | None:
        """The sliding window."""
        return self.window


@dataclass(frozen=True, kw_only=True)
class ContextAttend(Attend):
    """Attention of one of `shares` ranks' queries, which share a prompt, over all keys.

    A rank has a piece of the prompt from its front and one from its end, so that all ranks see as
    many keys (zigzag, as in Megatron-LM and Llama 3, arXiv 2407.21783).
    """

    shares: int


class ChunkedAttend(Attend):
    """Attention whose queries see the keys of their own `window`-sized piece of the sequence."""

    assumption = (
        "chunked attention is priced as attention of separate pieces of a sequence; in decode "
        "half a piece is read."
    )


@dataclass(frozen=True, kw_only=True)
class LatentAttend(Op):
    """Multi-head latent attention of a rank's heads over the cache of latent vectors.

    The sizes are elements of the latent vector, of the key with positions that all heads share,
    and of a head's own keys and values in the expanded form.
    """

    section = "latent_attention"

    heads: int
    latent: int
    rope: int
    nope: int
    value: int

    @property
    def error_class(self) -> str:
        """That of attention."""
        return "attention"

    @property
    def cache_elements(self) -> int:
        """Every rank keeps the whole latent vector."""
        return self.latent + self.rope


@dataclass(frozen=True, kw_only=True)
class SelectedLatentAttend(LatentAttend):
    """Latent attention of every query over the `keys` that an indexer chose, absorbed."""

    assumption = (
        "sparse attention is assumed to work on exactly the keys that its index selects, which the "
        "queries of a prompt find in the L2."
    )

    keys: int


@dataclass(frozen=True, kw_only=True)
class IndexScores(Op):
    """Scores of all keys before a query, summed over a few heads, and the choice of the best."""

    section = "attention"
    assumption = "the index of sparse attention is priced as a bf16 roofline that nobody measured."

    heads: int
    width: int

    @property
    def cache_elements(self) -> int:
        """One key that all index heads share."""
        return self.width


@dataclass(frozen=True, kw_only=True)
class Scan(Op):
    """Linear attention of a rank's heads through a state of `key_dim` by `value_dim` per head.

    `delta` says that the state is corrected by what it already holds of a key (the delta rule).
    """

    section = "attention"
    assumption = (
        "linear attention is priced as a roofline of its chunked form that nobody measured; its "
        "state is float32."
    )

    heads: int
    key_heads: int
    key_dim: int
    value_dim: int
    delta: bool

    @property
    def state_bytes(self) -> int:
        """The state of all heads, in float32."""
        return 4 * self.heads * self.key_dim * self.value_dim


@dataclass(frozen=True, kw_only=True)
class Elementwise(Op):
    """A kernel that reads and writes `elements` activations per row and computes little."""

    section = "elementwise"

    elements: int


class Embed(Elementwise):
    """The rows of the embedding table that the tokens select."""


class Norm(Elementwise):
    """The residual add of what the last collective completed, and the norm of the sum."""


class PostNorm(Norm):
    """The norm of what the last collective completed, before the residual add."""


class FinalNorm(Norm):
    """The norm before the LM head, of the last token of each request."""


class Rope(Elementwise):
    """Rotation of queries and keys by their positions, and their norms where a model has them."""


class LatentNorm(Elementwise):
    """The norms of the compressed queries, keys and values."""


class StateNorm(Elementwise):
    """The gated norm of what a scan returns."""


@dataclass(frozen=True, kw_only=True)
class Convolution(Elementwise):
    """A short causal convolution of `channels` over the last `kernel` tokens."""

    channels: int
    kernel: int

    @property
    def state_bytes(self) -> int:
        """The last inputs, in 16 bits."""
        return 2 * self.channels * (self.kernel - 1)


class ExpertSum(Elementwise):
    """The sum of the routed experts' results and those of the shared expert."""


class Permute(Elementwise):
    """The rows of each expert are brought together."""


class Activation(Elementwise):
    """The nonlinearity of an MLP, times its gate where it has one."""


class ExpertsActivation(Activation):
    """The nonlinearity of the experts that a row visits; measured kernels of experts contain it."""


class PartialAdd(Elementwise):
    """A rank's own partial sum joins those of the next row-parallel product.

    It stands where the collective that would have completed the sum was dropped.
    """


@dataclass(frozen=True, kw_only=True)
class Collective(Op):
    """A collective over the ranks that share `group`; `elements` per row is its message.

    The message is that of one rank before an all-reduce, a reduce-scatter or an all-to-all and
    after an all-gather, so that a reduce-scatter and an all-gather of one message make its
    all-reduce.
    """

    section = "collectives"

    kind: CollectiveKind = "all_reduce"
    elements: int
    group: Axis = "tp"


class Host(Op):
    """The engine's own time per pass, while the GPU waits."""

    section = "runtime.eager_step"


HOST = Host(name="host", sublayer="head")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The sublayers that run between two collectives, and the collective after them, if any.

    In a `sharded` segment each rank works on its own share of the rows. Where a strategy has
    tiles, they cut the last op and the collective; of a `streamed` segment only the collective,
    and the first op of the next segment works on each tile as it arrives.
    """

    sublayers: tuple[tuple[Op, ...], ...]
    collective: Collective | None
    sharded: bool = False
    streamed: bool = False


@dataclass(frozen=True)
class Block:
    """One decoder block of one rank."""

    segments: tuple[Segment, ...]

    @property
    def ops(self) -> tuple[Op, ...]:
        """Its compute, in order."""
        return tuple(op for segment in self.segments for ops in segment.sublayers for op in ops)

    @property
    def droppable(self) -> bool:
        """Whether its first collective can be dropped."""
        return not self.drop_obstacle

    @property
    def drop_obstacle(self) -> str:
        """Why its first collective cannot be dropped, as a sentence's end; empty where it can.

        Another must follow, which completes the sum; a norm of the sum alone needs all of it.
        """
        both = self.segments[:2]
        if len(both) < 2 or any(
            one.collective is None or one.collective.kind != "all_reduce" for one in both
        ):
            return "has no second all-reduce that would complete the sum"
        if isinstance(both[1].sublayers[0][0], PostNorm):
            return "norms what attention returns, which needs the whole sum"
        return ""

    def without_collective(self, index: int = 0) -> "Block":
        """The block whose collective after segment `index` is dropped; unchanged if there is none.

        The partial sums that it would have completed stay with their rank, until they join those
        of the next segment's last product.
        """
        first, *others = self.segments[index:]
        if not others or first.collective is None:
            return self
        second = others[0]
        *before, last = second.sublayers
        *ops, product = last
        add = PartialAdd(
            name="partial_add", sublayer=product.sublayer, elements=3 * first.collective.elements
        )
        merged = Segment(
            sublayers=(*first.sublayers, *before, (*ops, add, product)),
            collective=second.collective,
        )
        return Block((*self.segments[:index], merged, *self.segments[index + 2 :]))
