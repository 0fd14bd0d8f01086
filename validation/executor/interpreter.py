"""Runs a program for real: the interpreter of the steps that the simulator times.

No strategy anywhere: ISO, SPD, request and GEMM overlap differ only in the steps. What stands
between two norms is the sublayers' own business; here are the norms, the sums and the residual
stream. A chunk carries that stream and the partial sum of the last row-parallel op. A norm reads
their sum. Once an all-reduce has completed the partial sum, it is folded into the residual; where
it was dropped the sum stays local and joins the next one:

    standard:  h   = x + sum_i a_i + b_o          y = h + sum_i mlp_i(norm(h)) + b_d
    SPD:       h_i = x + a_i + b_o  (local)       y = x + b_o + b_d + sum_i [a_i + mlp_i(norm(h_i))]

A recovered model may add a correction c_i to h_i, in the norm's input only. Where attention and
MLP stand beside each other, both partial sums join before one all-reduce.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatchmethod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from isotune.simulator.architecture import (
    Collective,
    Embed,
    FinalNorm,
    LmHead,
    Norm,
    Op,
    PartialAdd,
    PostNorm,
    RowParallel,
)
from isotune.simulator.errors import InputError
from isotune.simulator.schedule import Chunk, Program, Step, StepTimes
from isotune.validation.executor.collective_ops import Collectives
from isotune.validation.executor.kv_cache import KvCache
from isotune.validation.executor.layers import DecoderLayer, Place, Rotations
from isotune.validation.executor.shard import Shard
from isotune.validation.executor.streams import OnStep, Streams
from isotune.validation.weights import vocabulary_range


@dataclass(slots=True)
class ChunkState:
    """What a chunk carries from step to step; activations are [rows, hidden].

    `partial` is the rank's output of the last row-parallel op, whole after its sync; `carried`
    the one before it when its sync was dropped, until it becomes the partial sum that the next
    row-parallel op `accumulates` onto; `work` is what one op leaves for the next, `normed` what
    the MLP of a parallel block takes; `norm_after` the norm of the partial sum before it joins the
    residual stream, if any.
    """

    residual: Tensor
    rotations: Rotations
    partial: Tensor | None = None
    carried: Tensor | None = None
    accumulates: bool = False
    synced: bool = False
    norm_after: Callable[[Tensor], Tensor] | None = None
    work: Any = None
    normed: Tensor | None = None

    def enter_norm(self, bias_correction: Tensor | None = None) -> Tensor:
        """The input of a norm: the residual stream, with what this rank knows of the rest.

        `bias_correction` [hidden] stands in for the other ranks' share of a partial sum.
        """
        partial, self.partial = self.partial, None
        if partial is None:
            return self.residual
        if self.synced:
            if self.norm_after is not None:
                partial = self.norm_after(partial)
            self.residual, self.synced = self.residual + partial, False
            return self.residual
        if self.norm_after is not None:
            raise InputError("dropped: a norm after attention needs its all-reduce (allowed: [])")
        self.carried = partial
        known = self.residual + partial
        return known if bias_correction is None else known + bias_correction


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: hidden states [requests, tokens, hidden] before the final norm, this
    rank's slice of the last tokens' logits [requests, words], and when each step ran."""

    hidden: Tensor
    logits: Tensor
    times: StepTimes


class Executor:
    """Drives one rank's shard through programs. All ranks run the same programs in step."""

    def __init__(
        self,
        shard: Shard,
        streams: Streams,
        collectives: Collectives,
        on_step: OnStep = int,
        mean_over_ranks: Callable[[Tensor], Tensor] = lambda one: one,
    ) -> None:
        self._shard, self._streams, self._collectives = shard, streams, collectives
        self._on_step, self._mean_over_ranks = on_step, mean_over_ranks
        self._program: Program
        self._end = 0
        self._chunks: dict[int, ChunkState] = {}
        self._embedded = self._logits = torch.empty(0)
        self._left: dict[int, tuple[Program, dict[int, ChunkState], Tensor]] = {}
        self._cache: KvCache

    def embed(self, ids: Tensor, start: int = 0) -> Tensor:
        """Embeddings [requests, tokens, hidden] of ids at positions from `start` on.

        The embedding is sharded by words, so this takes an all-reduce; it runs before the
        clock does, and the program's own embed op copies a chunk of the result.
        """
        with torch.inference_mode():
            words = self._shard.embed(ids)
            if self._shard.tp > 1:
                dist.all_reduce(words)
            return self._shard.enter(words, start)

    def run(self, program: Program, embedded: Tensor, cache: KvCache) -> Outcome:
        """Run a program on embeddings; keys and values are added to the cache."""
        self._program, self._chunks = program, {}
        self._end = max(chunk.start + chunk.tokens for chunk in program.chunks)
        self._embedded, self._cache = embedded, cache
        with torch.inference_mode():
            times = self._streams.play(program, self._perform, self._on_step)
            if self._streams.replays:  # a replay performs nothing, and leaves its results in place
                left = program, self._chunks, self._logits
                _, self._chunks, self._logits = self._left.setdefault(id(program), left)
            hidden = [self._hidden(chunk) for chunk in program.chunks]
        self._chunks = {}  # an executor may outlive many runs, activations need not
        by_requests = program.chunks[-1].first_request > 0
        return Outcome(torch.cat(hidden, 0 if by_requests else 1), self._logits, times)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., vocab_size] of hidden states before the final norm, on every rank."""
        with torch.inference_mode():
            return self.gather(self._head(self._shard.final_norm(hidden)))

    def gather(self, logits: Tensor) -> Tensor:
        """All ranks' slices of the logits, side by side."""
        words, tp = self._shard.config.vocab_size, self._shard.tp
        if tp == 1:
            return logits
        share = vocabulary_range(words, tp, 0)[1]
        padded = functional.pad(logits, (0, share - logits.shape[-1])).contiguous()
        slices = [torch.empty_like(padded) for _ in range(tp)]
        dist.all_gather(slices, padded)
        return torch.cat(slices, -1)[..., :words]

    def _perform(self, index: int) -> None:
        step = self._program.steps[index]
        with torch.inference_mode():  # which is a property of the thread
            for op in step.ops:
                self._run(op, step)

    @singledispatchmethod
    def _run(self, op: Op, step: Step) -> None:
        """Run an op on the rows of a step: by its type here, or in its sublayer."""
        state, layer = self._at(step)
        run = layer.sublayers[op.sublayer].ops.get(type(op))
        if run is None:
            raise TypeError(
                f"block {step.block}: the executor cannot run an op of type {type(op).__name__}"
            )
        state.work = run(op, state.work, self._place(step, state))

    def _place(self, step: Step, state: ChunkState) -> Place:
        cache = self._cache[step.block]
        return Place(step.chunk, cache, state.rotations, self._mean_over_ranks)

    @_run.register
    def _embed(self, _op: Embed, step: Step) -> None:
        chunk = step.chunk
        requests = slice(chunk.first_request, chunk.first_request + chunk.requests)
        first = chunk.start - self._program.chunks[0].start
        hidden = self._embedded[requests, first : first + chunk.tokens]
        self._chunks[chunk.index] = ChunkState(
            residual=hidden.reshape(chunk.rows, -1).clone(),
            rotations=self._shard.rotations(hidden, chunk.start, chunk.tokens, self._end),
        )

    @_run.register
    def _norm(self, op: Norm, step: Step) -> None:
        state, layer = self._at(step)
        correction = self._shard.bias_corrections.get(step.block) if op.sublayer == "mlp" else None
        state.work = layer.norms[op.sublayer](state.enter_norm(correction))
        state.normed = state.work if layer.parallel else None

    @_run.register
    def _post_norm(self, _op: PostNorm, step: Step) -> None:
        state, _ = self._at(step)
        state.work = state.enter_norm()

    @_run.register
    def _row_parallel(self, op: RowParallel, step: Step) -> None:
        state, layer = self._at(step)
        sublayer = layer.sublayers[op.sublayer]
        if not sublayer.is_last(op):
            state.work = sublayer.ops[RowParallel](op, state.work, self._place(step, state))
            return
        state.norm_after = layer.norms_after.get(op.sublayer)
        self._add_partial(step, sublayer.product(state.work, _rows(step)), sublayer.bias)
        if state.normed is not None and op.sublayer == "attention":
            state.work = state.normed

    @_run.register
    def _partial_add(self, _op: PartialAdd, step: Step) -> None:
        state, _ = self._at(step)
        if state.carried is not None:  # in a parallel block no norm has taken it up
            state.partial, state.carried = state.carried, None
        state.accumulates = True

    def _at(self, step: Step) -> tuple[ChunkState, DecoderLayer]:
        return self._chunks[step.chunk.index], self._shard.layers[step.block]

    def _add_partial(self, step: Step, tile: Tensor, bias: Tensor | None) -> None:
        """Keep a row-parallel op's output; its bias joins the residual stream, once.

        Where a norm stands after the sum, the bias joins the whole sum before it.
        """
        state, rows = self._chunks[step.chunk.index], _rows(step)
        if state.accumulates:
            assert state.partial is not None
            state.partial[rows] += tile
        elif step.tile is None:
            state.partial = tile
        else:
            if state.partial is None:
                state.partial = torch.empty_like(state.residual)
            state.partial[rows] = tile
        if rows.stop == step.chunk.rows:
            state.accumulates = False
            # One rank's sums are whole without a sync.
            state.synced = self._shard.tp == 1
            norm = state.norm_after
            if bias is not None and norm is not None:
                state.norm_after = lambda whole: norm(whole + bias)
            elif bias is not None:
                state.residual = state.residual + bias

    @_run.register
    def _collective(self, op: Collective, step: Step) -> None:
        state = self._chunks[step.chunk.index]
        if op.kind not in self._collectives:
            raise TypeError(f"the executor has no {op.kind} for this plan")
        assert state.partial is not None
        self._collectives[op.kind](state.partial[_rows(step)])
        state.synced = True

    def _hidden(self, chunk: Chunk) -> Tensor:
        hidden = self._chunks[chunk.index].enter_norm()
        return hidden.view(chunk.requests, chunk.tokens, -1)

    @_run.register
    def _final_norm(self, _op: FinalNorm, step: Step) -> None:
        last: dict[int, Tensor] = {}
        for chunk in self._program.chunks:
            last[chunk.first_request] = self._hidden(chunk)[:, -1]
        state = ChunkState(residual=torch.empty(0), rotations={})
        state.work = self._shard.final_norm(torch.cat([last[first] for first in sorted(last)]))
        self._chunks[step.chunk.index] = state

    @_run.register
    def _lm_head(self, _op: LmHead, step: Step) -> None:
        self._logits = self._head(self._chunks[step.chunk.index].work)

    def _head(self, normed: Tensor) -> Tensor:
        return self._shard.scored(functional.linear(normed, self._shard.head))


def _rows(step: Step) -> slice:
    return slice(step.first_row, step.first_row + step.rows)
