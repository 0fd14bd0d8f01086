"""Plans per second: the batch engine and single predictions, beside closed forms.

    python benchmarks/plans_per_second.py [--json] [--quick] [--processor]

With `--processor` a second is one of processor time, so that the figures are per core and hold on
a machine that does other things too. All figures come from one run of one process, so their ratios
mean something whatever the machine. The closed forms know no schedule: they stand for what a
prediction costs elsewhere. `llm-analysis` is measured where it is installed (`pip install
llm-analysis`).
"""

import argparse
import json
import logging
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

import isotune
from isotune.simulator.architecture import Attend, RowParallel
from isotune.simulator.batch import Array, Batch, DropSets, Index, Splits, Timer
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import Plan

TILE = 128


CLOCK = {"now": time.perf_counter}


def rate(work: Callable[[], object], items: int, repeats: int = 3) -> float:
    """Items per second, the median of a few runs after a first."""
    work()
    times = []
    for _ in range(repeats):
        start = CLOCK["now"]()
        work()
        times.append(CLOCK["now"]() - start)
    return items / statistics.median(times)


def batch(scenario: Scenario, plans: int, chunks: int, periodic: bool) -> Batch:
    """ISO plans at random tile-aligned splits, in random order, each with its own drop set."""
    rng = np.random.default_rng(0)
    total, blocks = scenario.workload.tokens, scenario.model.num_hidden_layers
    tiles = np.arange(1, total // TILE)
    edges = [np.sort(rng.choice(tiles, chunks - 1, replace=False)) for _ in range(len(tiles))]
    sizes = np.diff(np.array(edges) * TILE, prepend=0, append=total, axis=1)
    words = 1 if periodic else -(-blocks // 64)
    masks = rng.integers(-(2**63), 2**63, size=(plans, words), dtype=np.int64)
    periods = rng.integers(1, 9, plans) if periodic else np.full(plans, blocks)
    return Batch(
        scenario=scenario,
        plan=Plan(strategy="iso", chunks=(1,) * chunks, comm_sms=8),
        splits=Splits.of(scenario.workload, sizes),
        split_of=rng.integers(0, len(sizes), plans),
        drops=DropSets(masks=masks, periods=periods),
    )


def latencies(scenario: Scenario, plan: Plan, sizes: Index) -> Array:
    """Seconds of a plan split by each row of `sizes`, each priced anew."""
    splits = Splits.of(scenario.workload, sizes)
    return Timer(scenario).run(Batch(scenario=scenario, plan=plan, splits=splits))


def any_sizes(total: int, chunks: int, count: int) -> Index:
    """Random splits at single tokens, so that next to no kernel has a shape of another split's."""
    rng = np.random.default_rng(2)
    edges = [np.sort(rng.choice(total - 1, chunks - 1, replace=False)) + 1 for _ in range(count)]
    return np.diff(np.array(edges), prepend=0, append=total, axis=1)


def random_plans(scenario: Scenario, count: int, grain: int) -> list[Plan]:
    rng = np.random.default_rng(1)
    total, blocks = scenario.workload.tokens, scenario.model.num_hidden_layers
    firsts = rng.integers(1, total // grain, count) * grain
    return [
        Plan(
            strategy="iso",
            chunks=(int(first), int(total - first)),
            comm_sms=int(rng.choice([2, 4, 8])),
            dropped=tuple(np.flatnonzero(rng.random(blocks) < 0.5).tolist()),
        )
        for first in firsts
    ]


def roofline(scenario: Scenario) -> float:
    """Serial seconds the way LLM-Viewer adds them up: max(FLOPs / peak, bytes / bandwidth)."""
    model, work, gpu = scenario.model, scenario.workload, scenario.hardware.gpu
    tokens, hidden, tp = work.tokens, model.hidden_size, work.tp
    ops = model.block(tp).ops
    (attend,) = (op for op in ops if isinstance(op, Attend))
    heads, kv_heads = attend.heads * attend.head_dim, attend.kv_heads * attend.head_dim
    *_, ffn = (op.k for op in ops if isinstance(op, RowParallel))
    total = 0.0
    for n, k in (
        (heads, hidden),
        (kv_heads, hidden),
        (kv_heads, hidden),
        (hidden, heads),
        (ffn, hidden),
        (ffn, hidden),
        (hidden, ffn),
    ):
        flops, moved = 2 * tokens * n * k, 2 * (tokens * k + n * k + tokens * n)
        total += max(flops / gpu.bf16, moved / gpu.memory_bandwidth)
    for flops, moved in (
        (2 * tokens * tokens * heads, 2 * tokens * (heads + kv_heads)),
        (2 * tokens * tokens * heads, 2 * tokens * (heads + kv_heads)),
        (5 * tokens * tokens * heads, 4 * tokens * tokens),
        (7 * tokens * hidden, 4 * tokens * hidden),
        (7 * tokens * hidden, 4 * tokens * hidden),
    ):
        total += max(flops / gpu.bf16, moved / gpu.memory_bandwidth)
    sent = 2 * 2 * (tp - 1) / tp * 2 * tokens * hidden
    return model.num_hidden_layers * (total + sent / scenario.hardware.node.link_bandwidth)


def llm_analysis(scenario: Scenario) -> Callable[[], object] | None:
    """One forward pass of llm-analysis, None where it is not installed."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
    try:
        from llm_analysis.analysis import LLMAnalysis, logger
        from llm_analysis.config import GPUConfig, ModelConfig, ParallelismConfig
    except ImportError:
        return None
    logger.setLevel(logging.ERROR)
    model, gpu = scenario.model, scenario.hardware.gpu
    analysis = LLMAnalysis(
        ModelConfig(
            name=model.name,
            num_layers=model.num_hidden_layers,
            n_head=model.num_attention_heads,
            hidden_dim=model.hidden_size,
            vocab_size=model.vocab_size,
            max_seq_len=131_072,
            num_key_value_heads=model.num_key_value_heads,
            ffn_embed_dim=4 * model.hidden_size,  # it takes whole multiples only
        ),
        GPUConfig(
            name="gpu",
            mem_per_GPU_in_GB=gpu.memory / 1e9,
            hbm_bandwidth_in_GB_per_sec=gpu.memory_bandwidth / 1e9,
            intra_node_bandwidth_in_GB_per_sec=scenario.hardware.node.link_bandwidth / 1e9,
            intra_node_min_message_latency=8e-6,
            peak_fp16_TFLOPS=gpu.bf16 / 1e12,
        ),
        parallelism_config=ParallelismConfig(tp_size=scenario.workload.tp),
    )
    return lambda: analysis.get_latency_fwd(
        batch_size=1, seq_len=scenario.workload.prompt, is_inference=True
    )


def main_figures(scenario: Scenario, plans: int, single: int) -> dict[str, float | None]:
    some = random_plans(scenario, single, TILE)
    timer = Timer(scenario)
    arbitrary = batch(scenario, plans, 2, periodic=False)
    periodic = batch(scenario, plans, 2, periodic=True)
    fresh = random_plans(scenario, 1000, 1)
    new_shapes = np.array([plan.chunks for plan in fresh])
    other = llm_analysis(scenario)
    loops = max(50, single // 100)
    return {
        "batch_plans_per_s": rate(lambda: timer.run(arbitrary), plans),
        "batch_periodic_plans_per_s": rate(lambda: timer.run(periodic), plans),
        "batch_new_shapes_per_s": rate(lambda: latencies(scenario, fresh[0], new_shapes), 1000),
        "single_predictions_per_s": rate(lambda: [timer.latency(plan) for plan in some], len(some)),
        "full_predictions_per_s": rate(lambda: [predict(scenario, p) for p in some[:20]], 20),
        "llm_analysis_per_s": other and rate(lambda: [other() for _ in range(loops)], loops),
        "roofline_per_s": rate(lambda: [roofline(scenario) for _ in range(loops)], loops),
    }


def growth(scenario: Scenario, plans: int) -> list[dict[str, float]]:
    """Nanoseconds per plan and microseconds per priced split, one size varied at a time."""
    rows = []
    for layers, chunks, prompt in (
        *((layers, 2, 4096) for layers in (20, 80, 320)),
        *((80, chunks, 4096) for chunks in (3, 4, 8)),
        *((80, 2, prompt) for prompt in (1024, 16_384, 131_072)),
    ):
        there = Scenario(
            model=replace(scenario.model, num_hidden_layers=layers),
            hardware=scenario.hardware,
            workload=scenario.workload.model_copy(update={"prompt": prompt}),
        )
        both = [batch(there, plans, chunks, periodic) for periodic in (False, True)]
        timer = Timer(there)
        arbitrary, periodic = (1e9 / rate(partial(timer.run, one), plans) for one in both)
        sizes = any_sizes(there.workload.tokens, chunks, 1000)
        priced = 1e6 / rate(lambda: latencies(there, both[0].plan, sizes), 1000)  # noqa: B023
        rows.append(
            {
                "layers": layers,
                "chunks": chunks,
                "prompt": prompt,
                "arbitrary_ns": arbitrary,
                "periodic_ns": periodic,
                "new_shape_us": priced,
            }
        )
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", action="store_true")
    options.add_argument("--quick", action="store_true", help="a tenth of the plans")
    options.add_argument("--processor", action="store_true", help="per second of one core")
    asked = options.parse_args()
    if asked.processor:
        CLOCK["now"] = time.process_time
    scale = 10 if asked.quick else 1
    scenario = isotune.scenario("llama-2-70b", "a800", prompt=4096)
    figures = main_figures(scenario, 2_000_000 // scale, 20_000 // scale)
    rows = growth(scenario, 400_000 // scale)
    if asked.json:
        print(json.dumps(figures | {"growth": rows}, indent=2))
        return
    print(f"llama-2-70b (80 blocks) on 8 GPUs of a800, 4096 tokens; {2_000_000 // scale:,} plans")
    for name, value in figures.items():
        print(f"{name:28} {'not installed' if value is None else f'{value:14,.0f}'}")
    print("\nlayers chunks  prompt  arbitrary  periodic  new shape")
    for row in rows:
        print(
            f"{row['layers']:6} {row['chunks']:6} {row['prompt']:7} {row['arbitrary_ns']:7.0f} ns"
            f" {row['periodic_ns']:6.0f} ns {row['new_shape_us']:7.1f} us"
        )


if __name__ == "__main__":
    main()
