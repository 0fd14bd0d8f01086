"""What holds of the cost of every type of op; a type without a case fails."""

import inspect
from collections.abc import Callable

import numpy as np
import pytest

from isotune.simulator import architecture
from isotune.simulator.architecture import (
    Activation,
    Attend,
    ChunkedAttend,
    Collective,
    ColumnParallel,
    ContextAttend,
    Convolution,
    Elementwise,
    Embed,
    Experts,
    ExpertsActivation,
    ExpertSum,
    FinalNorm,
    Host,
    IndexScores,
    LatentAttend,
    LatentNorm,
    LatentUp,
    LmHead,
    Matmul,
    Norm,
    Op,
    PartialAdd,
    Permute,
    PostNorm,
    Qkv,
    Replicated,
    Rope,
    Router,
    RowParallel,
    Scan,
    SelectedLatentAttend,
    StateNorm,
)
from isotune.simulator.kernels import KINDS
from isotune.simulator.predict import CostModel, Rows, Scenario, StepCost

MakeScenario = Callable[..., Scenario]
MIXTURE = Experts(count=8, per_token=2)
ROUTED = Experts(count=64, per_token=6, routes=True)


def product(kind: type[Matmul], n: int, k: int, experts: Experts | None = None) -> Matmul:
    return kind(name="product", sublayer="mlp", n=n, k=k, experts=experts)


def mover(kind: type[Elementwise], elements: int = 8192) -> Elementwise:
    return kind(name="bytes", sublayer="mlp", elements=elements)


def attention(kv_heads: int, window: int | None = None) -> Attend:
    sizes = {"heads": 8, "kv_heads": kv_heads, "head_dim": 128}
    return Attend(name="attention", sublayer="attention", window=window, **sizes)


def latent(kind: type[LatentAttend], **more: int) -> LatentAttend:
    sizes = {"heads": 16, "latent": 512, "rope": 64, "nope": 128, "value": 128}
    return kind(name="attention", sublayer="attention", **sizes, **more)


def scan(delta: bool) -> Scan:
    sizes = {"heads": 8, "key_heads": 4, "key_dim": 128, "value_dim": 128}
    return Scan(name="scan", sublayer="attention", delta=delta, **sizes)


CASES: dict[type[Op], tuple[Op, ...]] = {
    Activation: (mover(Activation),),
    Attend: (attention(1), attention(8), attention(2, window=300)),
    Collective: tuple(
        Collective(name=kind, sublayer="mlp", kind=kind, elements=4096) for kind in KINDS
    ),
    ContextAttend: (
        ContextAttend(
            name="attention",
            sublayer="attention",
            heads=8,
            kv_heads=2,
            head_dim=128,
            shares=2,
        ),
    ),
    ChunkedAttend: (
        ChunkedAttend(
            name="attention", sublayer="attention", heads=8, kv_heads=2, head_dim=128, window=300
        ),
    ),
    Convolution: (
        Convolution(
            name="convolution", sublayer="attention", elements=4096, channels=2048, kernel=4
        ),
    ),
    ExpertSum: (mover(ExpertSum),),
    ExpertsActivation: (mover(ExpertsActivation),),
    IndexScores: (IndexScores(name="scores", sublayer="attention", heads=64, width=128),),
    LatentAttend: (latent(LatentAttend),),
    LatentNorm: (mover(LatentNorm),),
    LatentUp: (product(LatentUp, 4096, 512),),
    Router: (product(Router, 256, 7168),),
    Replicated: (product(Replicated, 2112, 7168),),
    Scan: (scan(delta=True), scan(delta=False)),
    SelectedLatentAttend: (latent(SelectedLatentAttend, keys=2048),),
    StateNorm: (mover(StateNorm),),
    ColumnParallel: (product(ColumnParallel, 7168, 8192, ROUTED),),
    Elementwise: (mover(Elementwise, 1), mover(Elementwise, 60_000)),
    Embed: (mover(Embed),),
    FinalNorm: (mover(FinalNorm),),
    Host: (product(LmHead, 4000, 8192),),  # the host's time stands beside an eager LM head
    LmHead: (product(LmHead, 4000, 8192),),
    Matmul: (product(Matmul, 1280, 8192), product(Matmul, 96, 40)),
    Norm: (mover(Norm),),
    PostNorm: (mover(PostNorm),),
    PartialAdd: (mover(PartialAdd),),
    Permute: (mover(Permute),),
    Qkv: (product(Qkv, 1280, 8192),),
    Rope: (mover(Rope),),
    RowParallel: (product(RowParallel, 8192, 1024), product(RowParallel, 4096, 1792, MIXTURE)),
}
"""Ops of each type, of every shape that has a formula of its own."""

SCENARIOS = {
    "graph": {"tp": 8},
    "eager": {"tp": 4, "runtime": "eager"},
    "fp8": {"tp": 8, "hardware": "h100", "dtype": "fp8", "weight_dtype": "fp8"},
    "int4 weights": {"tp": 2, "hardware": "rtx4090", "weight_dtype": "int4"},
}


def shapes(count: int = 48) -> Rows:
    """Chunks of many sizes [count]: prompts, later chunks and decodes."""
    rng = np.random.default_rng(0)
    requests = rng.integers(1, 5, count)
    tokens = rng.choice([1, 1, 2, 127, 128, 129, 1000, 4096, 10_000], count)
    start = rng.choice([0, 0, 1, 500, 8000], count)
    return Rows(requests * tokens, requests, tokens, start)


def alone(shape: Rows, index: int) -> Rows:
    """One of the chunks, by plain integers."""
    return Rows(*(int(sizes[index]) for sizes in shape[:4]))


def figures(cost: StepCost) -> dict[str, np.ndarray]:
    """Every figure of a step's cost, those of its ops included."""
    own = {name: getattr(cost, name) for name in ("seconds", "sms", "mem_rate", "interference")}
    for number, (op, part) in enumerate(cost.parts):
        own |= {f"{number} {op}: {name}": value for name, value in part._asdict().items()}
    return {name: np.asarray(value, dtype=float) for name, value in own.items()}


def assert_as_one_by_one(model: CostModel, op: Op, shape: Rows) -> None:
    many = figures(model.step((op,), shape))
    for index in range(len(shape.rows)):
        for name, value in figures(model.step((op,), alone(shape, index))).items():
            column = np.broadcast_to(many[name], shape.rows.shape)
            assert column[index] == pytest.approx(value, rel=1e-12, abs=0), (name, index)


def op_types() -> set[type[Op]]:
    """The types of op that a model may have."""
    public = (getattr(architecture, name) for name in architecture.__all__)
    return {kind for kind in public if inspect.isclass(kind) and issubclass(kind, Op)} - {Op}


def test_every_type_of_op_has_a_case():
    assert set(CASES) == op_types()
    below = {kind for parent in op_types() for kind in parent.__subclasses__()}
    assert {kind for kind in below if kind.__module__.startswith("isotune")} <= set(CASES)


@pytest.mark.parametrize("workload", SCENARIOS.values(), ids=SCENARIOS)
@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
class TestEveryTypeOfOp:
    def test_an_array_of_sizes_costs_what_each_size_costs_alone(
        self, kind: type[Op], workload: dict[str, object], make_scenario: MakeScenario
    ) -> None:
        model = CostModel(make_scenario("llama-2-70b", prompt=64, **workload))
        for op in CASES[kind]:
            assert_as_one_by_one(model, op, shapes())

    def test_repeated_sizes_cost_the_same_each_time(
        self, kind: type[Op], workload: dict[str, object], make_scenario: MakeScenario
    ) -> None:
        model = CostModel(make_scenario("llama-2-70b", prompt=64, **workload))
        few = shapes(40)
        repeated = Rows(*(np.tile(sizes, 30) for sizes in few[:4]))
        for op in CASES[kind]:
            expected = figures(model.step((op,), few))
            for name, value in figures(model.step((op,), repeated)).items():
                once = np.broadcast_to(expected[name], few.rows.shape)
                each = np.broadcast_to(value, repeated.rows.shape)
                assert each == pytest.approx(np.tile(once, 30), rel=1e-12, abs=0), name


@pytest.mark.parametrize("options", [{"comm_sms": 4}, {"comm_dtype": "int8"}])
def test_transfer_types_and_sm_budgets_keep_it(options, make_scenario):
    model = CostModel(make_scenario("llama-2-70b", prompt=64, tp=8), **options)
    all_reduce = Collective(name="sync", sublayer="mlp", elements=8192)
    assert_as_one_by_one(model, all_reduce, shapes())


def test_slowdowns_of_arrays_are_those_of_their_elements(make_scenario):
    model = CostModel(make_scenario("llama-2-70b", prompt=64, tp=8))
    compute = (product(Qkv, 1280, 8192), attention(1), mover(Norm))
    sync = (Collective(name="sync", sublayer="mlp", elements=8192),)
    shape = shapes()
    many = model.slowdowns(model.step(compute, shape), model.step(sync, shape))
    for index in range(len(shape.rows)):
        steps = (model.step(ops, alone(shape, index)) for ops in (compute, sync))
        for column, value in zip(many, model.slowdowns(*steps), strict=True):
            assert column[index] == pytest.approx(float(value), rel=1e-12)
