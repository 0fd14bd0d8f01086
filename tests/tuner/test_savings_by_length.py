"""What overlap saves at one prompt length after another."""

from dataclasses import replace

from isotune.simulator.predict import predict
from isotune.simulator.schedule import Plan
from isotune.tuner.savings_by_length import best_iso, by_length
from isotune.tuner.techniques import IsoGains


def test_each_point_is_the_prediction_of_its_plan(make_scenario):
    scenario = make_scenario(prompt=4096)
    points = list(by_length(scenario, best_iso("int8", (1,)), 512, 4096))
    assert [points[0].prompt, points[-1].prompt] == [512, 4096]
    for point in (points[0], points[7], points[-1]):
        assert (point.plan.comm_dtype, point.plan.dropped) == ("int8", (1,))
        found = predict(scenario.with_workload(prompt=point.prompt), point.plan)
        assert point.latency_s == found.latency_s
        assert (point.saving, point.saving_interval) == (found.saving, found.saving_interval)


def test_from_where_overlap_is_said_to_pay_on_no_length_loses(make_scenario):
    scenario = make_scenario(hardware="h100", prompt=4096)
    crossover = IsoGains(scenario).pays_from()
    assert crossover is not None
    points = list(by_length(scenario, best_iso()))
    assert all(point.saving > 0 for point in points if point.prompt >= crossover)


def test_lengths_without_a_plan_or_without_room_are_left_out(make_scenario):
    scenario = make_scenario(prompt=4096)
    assert list(by_length(scenario, lambda _: None)) == []
    small = replace(
        scenario,
        hardware=scenario.hardware.model_copy(
            update={"gpu": scenario.hardware.gpu.model_copy(update={"memory": 4e9})}
        ),
    )
    everywhere = list(by_length(scenario, lambda _: Plan()))
    fitting = list(by_length(small, lambda _: Plan()))
    assert 0 < len(fitting) < len(everywhere)
