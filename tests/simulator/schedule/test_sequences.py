"""A batch is groups of sequences; prefill, decode, chunk and mixed are four spellings of it."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import isotune
from isotune.cli import main
from isotune.simulator.architecture import load_model
from isotune.simulator.batch import Timer
from isotune.simulator.errors import InputError
from isotune.simulator.files import PlanFile, read_plan, scenario_of
from isotune.simulator.io import checked
from isotune.simulator.kernels import Cost, attention_cost, grouped_attention_costs
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import GpuMemory, Scenario, predict
from isotune.simulator.schedule import (
    STRATEGIES,
    Chunk,
    Plan,
    Sequences,
    Workload,
    check_plan,
    expand,
)

MODEL, H100 = load_model("llama-2-7b"), read_profile("h100")
MIXED = ("1x2048+0", "32x1+4096", "2x512+1024")


def scenario(*sequences: Any, **fields: Any) -> Scenario:
    workload = Workload(sequences=sequences, **fields) if sequences else Workload(**fields)
    return Scenario(model=MODEL, hardware=H100, workload=workload)


def total(costs: Sequence[Cost]) -> dict[str, float]:
    return {name: float(sum(getattr(one, name) for one in costs)) for name in Cost._fields}


@pytest.mark.parametrize(
    ("made", "sequences", "phase", "sizes"),
    [
        (Workload.prefill(3, 700), ("3x700+0",), "prefill", (3, 700, 0)),
        (Workload.decode(8, 512), ("8x1+512",), "decode", (8, 1, 512)),
        (Workload.chunk(2, 256, 1024), ("2x256+1024",), "chunk", (2, 256, 1024)),
        (Workload.prefill(4, 64), ("1x64", "3x64"), "prefill", (4, 64, 0)),
    ],
)
def test_uniform_batches_have_one_form_whatever_their_spelling(made, sequences, phase, sizes):
    spelled = Workload(sequences=sequences)
    assert spelled == made
    assert (spelled.phase, spelled.batch, spelled.tokens, spelled.context) == (phase, *sizes)


def test_a_mixed_batch_says_what_it_contains_and_has_no_single_length():
    mixed = Workload(sequences=MIXED)
    assert (mixed.phase, mixed.batch, mixed.prompt) == ("mixed", 35, 4097)
    assert mixed.text == "1x2048+0,32x1+4096,2x512+1024"
    with pytest.raises(InputError, match="requests of several lengths"):
        _ = mixed.tokens


def test_what_json_and_yaml_say_of_a_uniform_batch_has_no_new_field():
    fields = {"phase", "batch", "prompt", "tp", "dtype", "weight_dtype", "runtime"}
    assert set(Workload().model_dump()) == fields
    assert set(Workload(sequences=MIXED).model_dump()) == {*fields, "sequences"}


@pytest.mark.parametrize("sequences", [MIXED, ("2x256+1024",), ("4x64+0",)])
def test_a_batch_reads_back_the_same(sequences):
    workload = Workload(sequences=sequences)
    assert checked(Workload, workload.model_dump(mode="json"), "workload") == workload


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sequences": ["32y1"]}, "sequences: '32y1' is not COUNTxNEW"),
        ({"sequences": ["0x1+1"]}, "sequences: Input should be greater than or equal to 1"),
        ({"sequences": MIXED, "prompt": 4096}, "prompt: 4096 contradicts the sequences"),
        ({"sequences": MIXED, "phase": "decode"}, "phase: decode contradicts the sequences"),
        ({"phase": "mixed"}, "mixed needs sequences"),
    ],
)
def test_a_batch_that_contradicts_itself_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        checked(Workload, fields, "workload")


SIZES = st.tuples(st.integers(1, 40), st.sampled_from((1, 1, 2, 130, 700)), st.integers(0, 5000))


@given(size=SIZES, parts=st.lists(st.integers(1, 40), min_size=1, max_size=4))
@pytest.mark.parametrize("hardware", ["h100", "l40s", "a800"])
def test_attention_of_equal_groups_costs_what_all_their_sequences_cost_at_once(
    hardware, size, parts
):
    _, new, context = size
    machine = read_profile(hardware)
    options = {"gpu": machine.gpu, "parameters": machine.attention}
    at_once = attention_cost(sum(parts), new, context + new, 8, 2, 128, **options)
    groups = [(count, new, context + new) for count in parts]
    grouped = total(grouped_attention_costs(groups, 8, 2, 128, **options))
    for name, value in grouped.items():
        assert value == pytest.approx(float(getattr(at_once, name)), rel=1e-12), name


@given(groups=st.lists(SIZES, min_size=1, max_size=5), extra=SIZES)
def test_more_sequences_never_take_less_attention(groups, extra):
    options = {"gpu": H100.gpu, "parameters": H100.attention}
    calls = [
        [(count, new, context + new) for count, new, context in some]
        for some in (groups, [*groups, extra])
    ]
    fewer, more = (total(grouped_attention_costs(call, 8, 2, 128, **options)) for call in calls)
    assert more["flops"] > fewer["flops"]
    assert more["mem_bytes"] > fewer["mem_bytes"]


def held_tokens(chunks):
    """How often each token of each request stands in a chunk."""
    return Counter(
        (request, token)
        for chunk in chunks
        for part in chunk.slices
        for request in range(part.first_request, part.first_request + part.requests)
        for token in range(part.start, part.start + part.tokens)
    )


def batch_tokens(workload):
    """Each new token of each request, once."""
    return held_tokens([Chunk(0, workload.groups)])


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 30), st.integers(0, 20)),
        min_size=2,
        max_size=4,
        unique_by=lambda group: group[1:],
    ),
    st.data(),
)
@settings(deadline=None)
def test_iso_divides_the_tokens_of_a_mixed_batch_in_their_order(groups, data):
    workload = Workload.mixed(*(Sequences(count=c, new_tokens=n, context=k) for c, n, k in groups))
    total = STRATEGIES["iso"].total(workload)
    cuts = data.draw(st.lists(st.integers(1, total - 1), max_size=3, unique=True).map(sorted))
    sizes = [end - begin for begin, end in pairwise([0, *cuts, total])]
    chunks = STRATEGIES["iso"].split(workload, sizes)
    assert [chunk.rows for chunk in chunks] == sizes
    assert held_tokens(chunks) == batch_tokens(workload)
    reached = {}
    for chunk in chunks:
        for part in chunk.slices:
            for request in range(part.first_request, part.first_request + part.requests):
                assert reached.get(request, part.start) == part.start, "on what was before it"
                reached[request] = part.start + part.tokens


def test_iso_hides_communication_of_a_mixed_batch():
    case = scenario("1x4032+4096", "64x1+1500")
    found = predict(case, Plan(strategy="iso", chunks=(2048, 2048)))
    assert found.exposed_comm_s < found.baseline.exposed_comm_s
    assert found.saving > 0
    alone = predict(case, Plan(strategy="iso", chunks=(2048, 2048)), contention=False)
    assert alone.latency_s <= found.latency_s


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_runs_a_mixed_batch_or_says_why_not(name):
    case, how = scenario(*MIXED), STRATEGIES[name]
    if how.refusal(case.workload) is not None:
        assert how.obstacle(case.workload) == how.refusal(case.workload)
        with pytest.raises(InputError, match="mixed batch"):
            check_plan(Plan(strategy=name, chunks=(1, 1)), MODEL, case.workload)
        return
    whole = how.total(case.workload)
    chunks = (whole // 3, whole - whole // 3) if whole else ()
    plan = Plan(strategy=name, chunks=chunks)
    check_plan(plan, MODEL, case.workload)
    assert held_tokens(expand(MODEL, case.workload, plan).chunks) == batch_tokens(case.workload)
    assert predict(case, plan).latency_s > 0


def test_work_of_a_mixed_batch_adds_up():
    mixed, parts = scenario(*MIXED), [scenario(one) for one in MIXED]
    caches = [GpuMemory(case).of(Plan()).kv_cache for case in parts]
    assert GpuMemory(mixed).of(Plan()).kv_cache == pytest.approx(sum(caches), rel=1e-12)
    together, alone = predict(mixed).latency_s, [predict(case).latency_s for case in parts]
    assert max(alone) < together < sum(alone)


def test_a_later_chunk_of_a_prompt_runs_under_every_strategy_and_in_bulk():
    case = scenario("1x1024+2048")
    plan = Plan(strategy="iso", chunks=(512, 512))
    assert Timer(case).latency(plan) == pytest.approx(predict(case, plan).latency_s, rel=1e-9)
    first = scenario(prompt=1024)
    assert predict(case).latency_s > predict(first).latency_s


def test_a_mixed_batch_is_not_searched_and_not_run():
    case = scenario(*MIXED)
    with pytest.raises(InputError, match="can be predicted, not searched"):
        isotune.search(case)
    with pytest.raises(InputError, match="mixed batch"):
        case.with_workload(prompt=100)


def test_a_plan_file_holds_a_mixed_batch_and_the_command_reproduces_it(tmp_path, capsys):
    case = isotune.scenario("llama-2-7b", "h100", sequences=MIXED)
    plan = Plan(strategy="request_overlap", chunks=(3, 32))
    path = tmp_path / "plan.yaml"
    PlanFile.of(predict(case, plan), "h100", "llama-2-7b").write(path)
    assert scenario_of(read_plan(path), tmp_path).workload == case.workload
    for arguments, shown in (
        (["predict", "--plan", path], "mixed, batch 35, 1 x 2048 tokens after 0"),
        (
            ["predict", "--plan", path, "--sequences", "4x64,4x1+9", "--strategy", "serial"],
            "4 x 1 token after 9",
        ),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        assert stopped.value.code == 0
        assert shown in " ".join(capsys.readouterr().out.split())
    for refused in (["validate", path], ["export", path, "--to", "vllm"]):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in refused])
        assert stopped.value.code == 2
        assert "1x2048+0" in capsys.readouterr().err


def test_sequences_are_shown_as_they_are_given():
    assert str(Sequences(count=3, new_tokens=5)) == "3x5+0"
    kinds = [one.kind for one in Workload(sequences=MIXED).contents]
    assert kinds == ["prefill", "decode", "chunk"]
