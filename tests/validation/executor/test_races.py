"""The GPU path without a GPU: what streams, events and the host order, and what is launched.

The executor, its streams and its collectives run as they are; torch.cuda's streams, and the
kernels that only a GPU has, are stood in for (`_support.streams`).
"""

import inspect
import textwrap
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from _support.strategy_contract import plan_of
from _support.streams import Machine
from _support.tiny_models import VARIANTS, write_config
from torch.nn import functional
from torch.testing._internal.distributed.fake_pg import FakeStore

from isotune.simulator.architecture import read_model
from isotune.simulator.errors import InputError
from isotune.simulator.schedule import COMPUTE, STRATEGIES, Plan, Workload
from isotune.validation.executor import (
    Session,
    causal_attention,
    fused_ops,
    load_shard,
    session,
    streams,
)
from isotune.validation.executor.layers import grouped
from isotune.validation.weights import RandomWeights, load_config

TP, BATCH, PROMPT, BLOCKS = 2, 3, 21, 3
WORKLOAD = Workload(prompt=PROMPT, batch=BATCH, tp=TP)
ISO = Plan(strategy="iso", chunks=(13, 8))
PLANS = (
    *(plan_of(how, WORKLOAD) for how in STRATEGIES.values() if how.executable),
    ISO.model_copy(update={"comm_dtype": "int8"}),
    ISO.model_copy(update={"comm_dtype": "fp8"}),
    ISO.model_copy(update={"dropped": (1,)}),
    Plan(strategy="iso", chunks=(7, 9, 5)),
    Plan(dropped=(0, 1), comm_dtype="int8"),
    Plan(strategy="gemm_overlap", chunks=(20, 22, 21), dropped=(0,)),
    Plan(strategy="request_overlap", chunks=(1, 2), dropped=(0, 1)),
)
BUDGET = 25
"""Launches per block and chunk of a Llama."""


@pytest.fixture(scope="module", autouse=True)
def two_ranks():
    dist.init_process_group("fake", rank=0, world_size=TP, store=FakeStore())
    yield
    dist.destroy_process_group()


class Played:
    """Passes of one model, watched: a prefill by a plan twice, then a token of decode."""

    def __init__(self, monkeypatch, tmp_path, family="llama", streams_kind=None, **changes):
        self._patch, self._kind = monkeypatch, streams_kind or streams.CudaStreams
        sizes = {"num_hidden_layers": BLOCKS} | changes
        folder = write_config(tmp_path / family, family, **sizes)
        self.machine = Machine()
        monkeypatch.setattr(session, "GROUPS", session.Groups())
        monkeypatch.setattr(fused_ops, "FUSED_ON", {"cpu"})
        self.model = read_model(folder)
        config = load_config(folder, self.model.num_hidden_layers)
        weights = RandomWeights(torch.bfloat16, torch.device("cpu"))
        self.shard = load_shard(config, weights, rank=0, tp=TP)
        self.ids = torch.randint(3, 131, (BATCH, PROMPT))

    def __call__(self, plan, passes=2, decode=True):
        with self.machine.installed(self._patch) as watch, self._patch.context() as patch:
            _stand_in(patch, watch)
            patch.setattr(session, "streams_on", lambda device, _: self._kind(device))
            opened = Session(self.shard, self.model)
            cache = opened.cache(BATCH, PROMPT + 4)
            for _ in range(passes):
                done = opened.forward(plan, self.ids, cache)
            opened.executor(plan).logits(done.hidden)
            if decode:
                one = plan.model_copy(update={"strategy": "serial", "chunks": ()})
                opened.forward(one, self.ids[:, :1], cache, PROMPT)
            del done, cache
        return self.machine


def _stand_in(patch, watch):
    """Each kernel that only a GPU has, as one launch of what it computes."""
    reference = causal_attention._by_tiles

    def attention(heads, scaling, window):
        mixed = heads.query.new_empty(heads.query.transpose(1, 2).shape)
        with watch.one_launch("flash", heads, [mixed]):
            mixed.copy_(reference(heads, scaling, window).transpose(1, 2))
        return mixed.transpose(1, 2)

    def rms_norm(hidden, shape, weight, epsilon):
        out = torch.empty_like(hidden)
        with watch.one_launch("rms_norm", [hidden, weight], [out]):
            out.copy_(functional.rms_norm(hidden, shape, weight, epsilon))
        return out

    def rotate(query, key, cosines, sines):
        with watch.one_launch("rope", [query, key, cosines, sines], [query, key]):
            for part in (query, key):
                part.copy_(fused_ops.rotated_halves(part, cosines, sines))

    def one_kernel(_, apply):
        with watch.unwatched():
            return fused_ops._pairs_halves(apply)

    kernel = causal_attention.AttentionKernel("flash", attention)
    patch.setattr(causal_attention, "attention_on", lambda *_: kernel)
    patch.setattr(
        fused_ops, "functional", SimpleNamespace(rms_norm=rms_norm, linear=functional.linear)
    )
    patch.setattr(grouped, "rotate_in_place", rotate)
    patch.setattr(grouped, "rotates_in_one_kernel", one_kernel)


@pytest.mark.parametrize("family", VARIANTS)
def test_no_plan_has_a_race_and_no_kernel_makes_the_host_wait(monkeypatch, tmp_path, family):
    play = Played(monkeypatch, tmp_path, family)
    for plan in PLANS:
        machine = play(plan)
        assert not machine.faults, (plan, machine.faults)
        assert not machine.host_waits, (plan, machine.host_waits)
        assert machine.launches["rms_norm"] or family in {"opt", "gemma"}
        assert machine.launches["flash"]


def test_all_reduces_of_a_pass_run_on_the_urgent_stream(monkeypatch, tmp_path):
    machine = Played(monkeypatch, tmp_path)(ISO, passes=1, decode=False)
    reduces = {stream: count for (stream, op), count in machine.on.items() if "allreduce" in op}
    urgent = {name for name in reduces if name.endswith("(priority -1)")}
    # Two chunks of two all-reduces a block; that of the embedding is not part of the pass.
    assert sum(reduces[name] for name in urgent) == 2 * 2 * BLOCKS
    assert sum(reduces.values()) == 2 * 2 * BLOCKS + 1


def test_a_graph_is_captured_once_without_a_race_and_replayed(monkeypatch, tmp_path):
    play = Played(monkeypatch, tmp_path, streams_kind=streams.GraphStreams)
    with play.machine.installed(monkeypatch) as watch, monkeypatch.context() as patch:
        _stand_in(patch, watch)
        patch.setattr(session, "streams_on", lambda *_: streams.GraphStreams(torch.device("cpu")))
        opened = Session(play.shard, play.model, launch="graph")
        cache = opened.cache(BATCH, PROMPT)
        program = opened.program(ISO, WORKLOAD)
        executor = opened.executor(ISO)
        embedded = executor.embed(play.ids)
        outcomes = [executor.run(program, embedded, cache) for _ in range(3)]
        captured = opened._streams._captured[id(program)]
        opened.close()
        assert not opened._streams._captured, "graphs go before the process group does"
    assert not play.machine.faults, play.machine.faults
    assert captured.graph.replays == 3
    # Twice one by one and once into the graph, whatever number of runs: two all-reduces of each
    # block and chunk, beside that of the embedding.
    assert play.machine.launches["c10d::allreduce_"] == 3 * 2 * 2 * BLOCKS + 1
    for outcome in outcomes[1:]:
        assert torch.equal(outcome.hidden, outcomes[0].hidden)
        assert outcome.logits.data_ptr() == outcomes[0].logits.data_ptr()
    assert len(outcomes[0].times.ends) == len(program.steps)


def test_what_cannot_be_captured_is_refused_in_one_line(monkeypatch, tmp_path):
    play = Played(monkeypatch, tmp_path, streams_kind=streams.GraphStreams)

    def old_torch(*_, **__):
        raise TypeError("Event.__new__() got an unexpected keyword argument 'external'")

    monkeypatch.setattr(streams, "_graph_clock", old_torch)
    with pytest.raises(InputError, match=r"external.*\(allowed: --launch eager\)"):
        play(Plan(), passes=1, decode=False)


FAULTS = {
    "no stream waits": ("stream.wait_event(ends[awaited])", "pass"),
    "they wait for starts": ("wait_event(ends[awaited])", "wait_event(starts[awaited])"),
    "they wait for the first dependency only": ("in step.depends_on:", "in step.depends_on[:1]:"),
    "only communication waits": (
        "if program.steps[awaited].lane != step.lane:",
        "if step.lane == COMM and program.steps[awaited].lane != step.lane:",
    ),
    "only compute waits": (
        "if program.steps[awaited].lane != step.lane:",
        "if step.lane != COMM and program.steps[awaited].lane != step.lane:",
    ),
    "an end is recorded before the work": (
        "perform(index)\n            ends[index].record(stream)",
        "ends[index].record(stream)\n            perform(index)",
    ),
    "ends are recorded on the other stream": (
        "ends[index].record(stream)",
        "ends[index].record(self._streams[COMPUTE if stream is self._streams[COMM] else COMM])",
    ),
    "a pass does not wait for what was before": ("torch.cuda.synchronize(self._device)", "pass", 1),
}
GRAPH_FAULTS = {
    "no edge between the streams": ("stream.wait_event(done[awaited])", "pass"),
    "edges begin before the work": (
        "perform(index)\n            ends[index].record(stream)\n            done",
        "done[index].record(stream)\n            perform(index)\n            _ = lambda: done",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(monkeypatch, tmp_path, name):
    old, new, *often = FAULTS[name]
    source = textwrap.dedent(inspect.getsource(streams.CudaStreams.play))
    assert old in source, "the planted fault has no place any more"
    faulty = vars(streams) | {}
    exec(source.replace(old, new, *often), faulty)
    kind = type("Faulty", (streams.CudaStreams,), {"play": faulty["play"]})
    groups = Plan(strategy="request_overlap", chunks=(1, 2))
    faults = Counter()
    for plan in (ISO, groups):
        faults += Played(monkeypatch, tmp_path, streams_kind=kind)(plan).faults
    assert faults


def test_memory_that_communication_still_uses_is_not_given_away(monkeypatch, tmp_path):
    compute = []

    class Noting(streams.CudaStreams):
        def __init__(self, device):
            super().__init__(device)
            compute.append(self._streams[COMPUTE])

    def careless(partial):
        with torch.cuda.stream(compute[-1]):
            copy = partial + 0
        dist.all_reduce(copy)  # and the copy is dropped here

    monkeypatch.setattr(session, "collectives_of", lambda *_: {"all_reduce": careless})
    machine = Played(monkeypatch, tmp_path, streams_kind=Noting)(ISO)
    assert any(kind == "reuse" for kind, _ in machine.faults)


@pytest.mark.parametrize("plan", [Plan(), ISO, Plan(strategy="iso", chunks=(7, 9, 5))])
def test_a_block_of_a_llama_keeps_the_launch_budget(monkeypatch, tmp_path, plan):
    counts = []
    for blocks in (2, 3):
        sizes = {"num_hidden_layers": blocks, "attention_bias": False, "mlp_bias": False}
        play = Played(monkeypatch, tmp_path / str(blocks), **sizes)
        counts.append(play(plan, passes=1, decode=False).launches)
    of_a_block = counts[1] - counts[0]
    per_chunk = of_a_block.total() / max(1, len(plan.chunks))
    assert 0 < per_chunk <= BUDGET, of_a_block
