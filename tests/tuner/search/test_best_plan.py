"""The search: repeatable, never worse than the obvious, and never lossy on its own."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from isotune.simulator.errors import DoesNotFitError
from isotune.simulator.predict import GpuMemory, Scenario, predict
from isotune.simulator.schedule import Plan
from isotune.tuner.accuracy import Recovery, Sensitivity
from isotune.tuner.exact import best_split
from isotune.tuner.search import Options, SearchResult, search

MakeScenario = Callable[..., Scenario]
QUICK = Options(trials=25)
TABLE = Sensitivity(model="llama-2-70b", blocks=(0.004, 0.001, 0.02, 0.003))
CASES = [
    ("a800", {"prompt": 4096}),
    ("rtx4090", {"prompt": 1500, "batch": 2}),
    ("a100-lbw", {"prompt": 8192, "tp": 4}),
    ("h100", {"prompt": 130}),
    ("h100", {"phase": "decode", "prompt": 2048, "batch": 16}),
]
cases = pytest.mark.parametrize(("hardware", "workload"), CASES)


def run(
    make: MakeScenario, hardware: str, workload: dict[str, object], options: Options = QUICK
) -> SearchResult:
    return search(make("llama-2-70b", hardware, blocks=4, **workload), options)


@cases
def test_it_is_never_worse_than_serial_or_an_even_split(
    make_scenario: MakeScenario, hardware: str, workload: dict[str, object]
) -> None:
    result = run(make_scenario, hardware, workload)
    scenario, found = result.best.scenario, result.best.latency_s
    assert found <= predict(scenario).latency_s
    tokens = scenario.workload.tokens
    if tokens > 1:
        even = Plan(strategy="iso", chunks=(tokens // 2, tokens - tokens // 2))
        if tokens % 256 == 0 or tokens < 512:
            assert found <= predict(scenario, even).latency_s * (1 + 1e-9)


@cases
def test_it_is_within_half_a_per_cent_of_the_exact_optimum(
    make_scenario: MakeScenario, hardware: str, workload: dict[str, object]
) -> None:
    result = run(make_scenario, hardware, workload)
    exact = best_split(result.best.scenario)
    if exact is None:
        assert result.gap_to_exact is None
    else:
        assert result.best.latency_s <= exact.latency_s * 1.005
        assert result.gap_to_exact is not None
        assert result.gap_to_exact <= 0.005


@cases
def test_no_lossy_plan_is_chosen_without_a_sensitivity_table(
    make_scenario: MakeScenario, hardware: str, workload: dict[str, object]
) -> None:
    result = run(make_scenario, hardware, workload)
    assert not result.best.plan.lossy
    assert result.accuracy_cost is None
    spd = [technique for technique in result.techniques if technique.prediction.plan.dropped]
    assert spd
    assert all(technique.assumed and technique.lossy for technique in spd)


def test_the_same_seed_finds_the_same(make_scenario: MakeScenario) -> None:
    once, again = (run(make_scenario, "rtx4090", {"prompt": 3000}) for _ in range(2))
    assert once.best.plan == again.best.plan
    assert once.best.latency_s == again.best.latency_s
    assert once.trials == again.trials


@pytest.mark.parametrize("budget", [0.0, 0.001, 0.005, 0.01, 1.0])
def test_with_a_table_the_drop_set_keeps_to_the_budget(
    make_scenario: MakeScenario, budget: float
) -> None:
    options = replace(QUICK, recovery=Recovery(table=TABLE), accuracy_budget=budget)
    result = run(make_scenario, "a100-lbw", {"prompt": 2048}, options)
    dropped = result.best.plan.dropped
    assert result.accuracy_cost == TABLE.costs().of_drops(dropped) <= budget
    assert result.best.plan.comm_dtype == "bf16"
    # On a slow link every affordable sync is worth dropping.
    assert dropped == tuple(sorted(TABLE.costs().affordable(budget)[-1]))


def test_dropping_can_be_ruled_out_even_with_a_table(make_scenario: MakeScenario) -> None:
    options = replace(QUICK, recovery=Recovery(table=TABLE), accuracy_budget=1.0, spd=False)
    result = run(make_scenario, "a100-lbw", {"prompt": 2048}, options)
    assert result.best.plan.dropped == ()
    assert not any(technique.prediction.plan.dropped for technique in result.techniques)


def test_a_transfer_type_that_was_asked_for_is_used(make_scenario: MakeScenario) -> None:
    options = replace(QUICK, comm_dtype="int8")
    result = run(make_scenario, "rtx4090", {"prompt": 2048}, options)
    assert result.best.plan.comm_dtype == "int8"
    assert result.baseline.plan == Plan()


@pytest.mark.parametrize("strategy", ["serial", "gemm_overlap", "iso"])
def test_only_strategies_that_are_allowed_are_used(
    make_scenario: MakeScenario, strategy: str
) -> None:
    options = replace(QUICK, strategies=(strategy,))
    result = run(make_scenario, "rtx4090", {"prompt": 2048}, options)
    assert result.best.plan.strategy in {"serial", strategy}


def test_one_gpu_is_served_serially(make_scenario: MakeScenario) -> None:
    result = run(make_scenario, "h100", {"prompt": 1024, "tp": 1})
    assert result.best.plan == Plan()
    assert result.techniques == []
    assert result.iso_pays_from is None


def test_progress_counts_every_trial(make_scenario: MakeScenario) -> None:
    seen: list[tuple[int, int]] = []
    scenario = make_scenario("llama-2-70b", blocks=4)
    result = search(scenario, QUICK, lambda done, total: seen.append((done, total)))
    counts = [done for done, _ in seen]
    assert counts == sorted(set(counts))
    assert counts[-1] == QUICK.trials
    assert {total for _, total in seen} == {QUICK.trials}
    assert len(seen) > 2
    assert (result.trials.run, result.trials.interrupted) == (QUICK.trials, False)


def test_an_interrupt_keeps_what_was_found(make_scenario: MakeScenario) -> None:
    reported: list[int] = []

    def interrupt(done: int, total: int) -> None:
        reported.append(done)
        if 10 <= done < total:
            raise KeyboardInterrupt

    scenario = make_scenario("llama-2-70b", blocks=4)
    result = search(scenario, QUICK, interrupt)
    assert result.trials.interrupted
    assert result.trials.run == reported[-1] < QUICK.trials
    assert result.trials.best is not None
    assert result.best.latency_s <= result.baseline.latency_s


def test_without_any_trial_the_exact_plan_is_left(make_scenario: MakeScenario) -> None:
    scenario = make_scenario("llama-2-70b", blocks=4)
    result = search(scenario, replace(QUICK, trials=0))
    assert result.exact is not None
    assert result.best.plan == result.exact.plan


def test_where_only_smaller_chunks_fit_they_are_found_and_serial_is_said_not_to_fit(
    make_scenario: MakeScenario,
) -> None:
    roomy = make_scenario("llama-2-70b", blocks=4, prompt=4096)
    even = Plan(strategy="iso", chunks=(2048, 2048))
    needed = [GpuMemory(roomy).of(plan).needed for plan in (Plan(), even)]
    assert needed[1] < needed[0]
    gpu = roomy.hardware.gpu.model_copy(update={"memory": sum(needed) / 2})
    hardware = roomy.hardware.model_copy(update={"gpu": gpu})
    result = search(replace(roomy, hardware=hardware), QUICK)
    assert result.best.memory.fits
    assert result.exact is not None
    assert GpuMemory(result.best.scenario).of(result.exact.plan).fits
    assert not result.baseline.memory.fits
    assert result.baseline.latency_s == pytest.approx(predict(roomy).latency_s)
    assert result.trials.pruned > 0


def test_a_model_that_does_not_fit_is_refused(make_scenario: MakeScenario) -> None:
    with pytest.raises(DoesNotFitError):
        search(make_scenario("llama-3.1-405b", blocks=None), QUICK)
