"""Which shapes are measured: those that a model's ranks run, over a range of sizes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from isotune.simulator.architecture import Attend, Matmul, Model
from isotune.validation.choices import COLLECTIVES, OPS, Collective, Op

ATTENTION_SIZES = ("batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim")
_SM_BUDGETS = (2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Case:
    """One measurement; `sizes` are the columns of its op, and what a contention case adds."""

    op: Op
    sizes: dict[str, int]

    def __str__(self) -> str:
        return f"{self.op} {', '.join(f'{name}={size}' for name, size in self.sizes.items())}"


@dataclass(frozen=True, kw_only=True)
class Range:
    """What to measure: a model's shapes at `tp`, among `ranks` ranks.

    Kernels work on `least` to `tokens` rows; all-reduces are of as many, but of 1 KiB at least.
    """

    model: Model
    tp: int
    tokens: int
    ranks: int
    least: int = 1
    ops: tuple[Op, ...] = OPS
    cuda: bool = False


def cases(shapes: Range) -> tuple[Case, ...]:
    """The measurements of a range, in the order of `OPS`."""
    makers: dict[Op, Callable[[Range], Iterator[Case]]] = {
        "gemm": _gemms,
        "attention": _attention,
        "rms_norm": _norms,
        **{kind: partial(_collectives, kind=kind) for kind in COLLECTIVES},
        "contention": _contention,
    }
    return tuple(case for op in OPS if op in shapes.ops for case in makers[op](shapes))


def token_counts(shapes: Range) -> list[int]:
    """Powers of two and the points halfway between them, from the fewest rows to the most."""
    least, largest = shapes.least, shapes.tokens
    sizes = {least, largest}
    power = 16
    while power <= largest:
        sizes |= {power, power * 3 // 2} if power >= 64 else {power}
        power *= 2
    return sorted(size for size in sizes if least <= size <= largest)


def _gemms(shapes: Range) -> Iterator[Case]:
    for n, k in projections(shapes):
        for m in token_counts(shapes):
            yield Case("gemm", {"m": m, "n": n, "k": k})


def projections(shapes: Range) -> list[tuple[int, int]]:
    """(outputs, inputs) of the projections of a block, per rank; of one expert in a mixture."""
    ops = shapes.model.block(shapes.tp).ops
    return [(op.n, op.k) for op in ops if isinstance(op, Matmul)]


def _attention(shapes: Range) -> Iterator[Case]:
    counts = [count for count in token_counts(shapes) if count >= 64] or [shapes.tokens]
    for kv_len in counts:
        for q_len in sorted({1, max(kv_len // 4, 1), max(kv_len // 2, 1), kv_len}):
            if q_len >= shapes.least:
                sizes = {"batch": 1, "q_len": q_len, "kv_len": kv_len}
                yield Case("attention", sizes | _heads(shapes))


def _heads(shapes: Range) -> dict[str, int]:
    """The heads of a block's attention, per rank."""
    (op,) = (op for op in shapes.model.block(shapes.tp).ops if isinstance(op, Attend))
    return {"heads": op.heads, "kv_heads": op.kv_heads, "head_dim": op.head_dim}


def head_dim_of(shapes: Range) -> int:
    """The width of a head of the model's attention."""
    return _heads(shapes)["head_dim"]


def _norms(shapes: Range) -> Iterator[Case]:
    for tokens in token_counts(shapes):
        yield Case("rms_norm", {"tokens": tokens, "hidden": shapes.model.hidden_size})


def _collectives(shapes: Range, kind: Collective) -> Iterator[Case]:
    largest = shapes.tokens * shapes.model.hidden_size * 2
    ranks = 2
    while ranks <= shapes.ranks:
        size = max(1024, shapes.least * shapes.model.hidden_size * 2)
        while size < 2 * largest:
            yield Case(kind, {"bytes": min(size, largest), "ranks": ranks})
            size *= 2
        ranks *= 2


def _contention(shapes: Range) -> Iterator[Case]:
    """What half the tokens run in a block, while half the tokens' sums are in flight."""
    if shapes.ranks < 2:
        return
    rows = max(shapes.tokens // 2, 1)
    message = {"bytes": rows * shapes.model.hidden_size * 2, "ranks": shapes.ranks}
    kernels = [{"m": rows, "n": n, "k": k} for n, k in projections(shapes)]
    kernels.append({"batch": 1, "q_len": rows, "kv_len": shapes.tokens, **_heads(shapes)})
    for kernel in kernels:
        for sms in (0, *_SM_BUDGETS) if shapes.cuda else (0,):
            yield Case("contention", {**kernel, **message, "sms": sms})
