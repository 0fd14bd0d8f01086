"""Recovery wins back what drops cost, step by step, on text that it has not seen."""

import math

import pytest
import torch
from _support.learned import windows
from _support.recovering import DROPPED, FAMILIES, SETTINGS

from isotune.simulator.schedule import STEPS
from isotune.validation.spd.checkpoint import PartialRun
from isotune.validation.spd.model import evaluate, load_network
from isotune.validation.spd.recover import Training, recover, save_block, saved_blocks
from isotune.validation.spd.recover.distil import Lesson, distil
from isotune.validation.spd.recover.paired import Change


@pytest.mark.parametrize("family", FAMILIES)
def test_recovery_wins_back_loss_on_held_back_and_on_unseen_text(recovered, family):
    network, found = recovered[family]
    assert found.recovered.nats < found.zero_shot.nats
    assert found.whole.nats < found.zero_shot.nats
    unseen = windows(64, 3)
    zero_shot = evaluate(network, unseen, dropped=DROPPED)
    assert evaluate(found.network, unseen, dropped=DROPPED).nats < zero_shot.nats


def in_order(found):
    """The results of all blocks, step after step."""
    steps = zip(*(block.steps for block in found.blocks), strict=True)
    return [result for results in steps for result in results]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_is_kept_where_it_lowers_the_loss_of_the_whole_set_by_more_than_noise(
    recovered, family
):
    _, found = recovered[family]
    loss = found.zero_shot.nats / found.zero_shot.tokens
    results = in_order(found)
    assert [result.step for result in results] == [step for step in STEPS for _ in DROPPED]
    for result in results:
        assert result.before == loss
        assert result.kept == (result.before - result.after > result.noise)
        loss = result.after if result.kept else result.before
    assert any(result.kept for result in results)
    assert any(result.noise > 0 for result in results)
    assert loss == found.recovered.nats / found.recovered.tokens


def test_distillation_may_start_from_groupings_that_were_not_kept_by_themselves(recovered):
    started = 0
    for _, found in recovered.values():
        for block in found.blocks:
            steps = {result.step: result for result in block.steps}
            distilled = steps["distil"]
            moved = {
                "heads": block.query_order is not None,
                "neurons": block.neuron_order is not None,
            }
            for name, has_moved in moved.items():
                used = distilled.kept and "from grouped" in distilled.note
                used = used and name in distilled.note.partition("from grouped")[2]
                assert has_moved == (steps[name].kept or used)
                assert not (used and steps[name].kept)
                started += used
    assert started


def test_a_change_within_its_standard_error_is_noise():
    before = (10.0, 20.0, 30.0)
    lower = Change.of(before, (9.0, 18.0, 27.0), 6)
    assert (lower.mean, lower.error) == pytest.approx((-1.0, 0.5 / math.sqrt(3)))
    assert lower.lower
    assert not Change.of(before, (9.0, 18.0, 32.5), 6).lower
    assert not Change.of(before, before, 6).lower
    assert Change.of((10.0,), (9.999,), 6).lower


def test_the_network_after_each_stage_is_that_of_the_steps_so_far_alone(models):
    """So one recovery shows what every further step brings."""
    network, texts, stages = load_network(models["llama"], 4), (windows(48, 1), windows(32, 2)), []

    def told(step, now):
        stages.append((step, evaluate(now, texts[1], dropped=DROPPED, batch=16)))

    recover(network, *texts, DROPPED, STEPS, settings=SETTINGS, on_stage=told)
    assert [step for step, _ in stages] == list(STEPS)
    alone = recover(network, *texts, DROPPED, STEPS[:3], settings=SETTINGS)
    assert alone.recovered == stages[2][1]


@pytest.mark.parametrize("step", STEPS)
def test_each_step_alone_never_raises_the_loss(models, step):
    network = load_network(models["llama"], 4)
    found = recover(network, windows(32, 1), windows(32, 2), DROPPED, (step,), settings=SETTINGS)
    assert found.recovered.nats <= found.zero_shot.nats
    assert [s.step for block in found.blocks for s in block.steps] == [step] * 3
    if step != "distil":
        assert found.synced.nats == pytest.approx(found.whole.nats, rel=1e-6)


def test_zero_shot_changes_nothing_and_the_network_given_stays_as_it_was(models, recovered):
    network = load_network(models["llama"], 4)
    fresh = evaluate(network, windows(8, 3)).nats
    found = recover(network, windows(8, 1), windows(8, 2), (1,), ())
    assert found.recovered.nats == pytest.approx(found.zero_shot.nats, rel=1e-6)
    assert found.blocks[0].steps == ()
    given, _ = recovered["llama"]
    assert evaluate(given, windows(8, 3)).nats == fresh
    assert given.bias_corrections == {}


def test_the_student_learns_what_its_teacher_gives_and_stops_when_it_does_not(models):
    network = load_network(models["llama"], 4)
    block = network.block(0)
    fit = [network.enter(part) for part in windows(48, 1).batches(8)]
    held = [network.enter(windows(32, 2))]
    lesson = Lesson(teacher=block, index=0, calibration=fit, held_back=held)
    found = distil(block, lesson, Training(epochs=4))
    assert found.errors[found.epoch] == min(found.errors) < found.errors[0]
    with torch.no_grad():
        call = held[0].calls[0]
        want = block.layer(held[0].hidden, **call)
        before, after = (
            (student.dropped(held[0].hidden, call) - want).square().mean()
            for student in (block, found.block)
        )
    assert after < before
    hopeless = distil(block, lesson, Training(rate=1e3, retries=0, patience=1))
    assert hopeless.epoch == 0
    assert len(hopeless.errors) == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_an_interrupted_recovery_goes_on_to_the_same_result_bit_for_bit(
    models, recovered, tmp_path, family
):
    network = load_network(models[family], 4)
    partial = PartialRun(folder=tmp_path / "kept", digest="a")
    texts, told = (windows(48, 1), windows(32, 2)), []

    def run(most):
        """Go on for so many blocks, then be interrupted."""
        end = len(told) + most

        def stop(block):
            save_block(partial, block)
            told.append((block.index, len(block.steps)))
            if len(told) == end:
                raise KeyboardInterrupt

        done = saved_blocks(partial, network)
        return recover(network, *texts, DROPPED, STEPS, settings=SETTINGS, done=done, on_block=stop)

    # In the first of the four stages, in the second, after it, and in the last.
    for most in (2, 2, 2, 5):
        with pytest.raises(KeyboardInterrupt):
            run(most)
    again, whole = run(len(DROPPED) * len(STEPS)), recovered[family][1]
    assert told == [(block, step) for step in range(1, 5) for block in DROPPED]
    assert again.recovered == whole.recovered
    assert again.synced == whole.synced
    for one, other in zip(again.blocks, whole.blocks, strict=True):
        # A candidate that was not kept may differ where sums are rounded in another order.
        assert [(s.step, s.kept) for s in one.steps] == [(s.step, s.kept) for s in other.steps]
        after = [step.after for step in other.steps]
        assert [step.after for step in one.steps] == pytest.approx(after, rel=2e-3)
        assert same(one.bias_correction, other.bias_correction)
        assert (one.layer is None) == (other.layer is None)
        if one.layer is not None:
            pairs = zip(one.layer.parameters(), other.layer.parameters(), strict=True)
            assert all(same(*pair) for pair in pairs)
    other = PartialRun(folder=tmp_path / "kept", digest="b")
    assert saved_blocks(other, network) == {}
    partial.remove()
    assert not (tmp_path / "kept").exists()


def same(one, other) -> bool:
    return one is other or torch.equal(one, other)


def test_blocks_with_steps_of_their_own_go_on_after_an_interruption_too(models, tmp_path):
    network = load_network(models["opt"], 4)
    partial = PartialRun(folder=tmp_path / "kept", digest="a")
    steps = {0: ("heads", "distil"), 1: (), 2: ("bias", "distil")}
    texts, told = (windows(48, 1), windows(32, 2)), []

    def stop(block):
        save_block(partial, block)
        told.append((block.index, [step.step for step in block.steps]))
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recover(network, *texts, DROPPED, steps, settings=SETTINGS, on_block=stop)
    done = saved_blocks(partial, network)
    again = recover(network, *texts, DROPPED, steps, settings=SETTINGS, done=done, on_block=stop)
    assert told == [
        (2, ["bias"]),
        (0, ["heads"]),
        (0, ["heads", "distil"]),
        (2, ["bias", "distil"]),
    ]
    whole = recover(network, *texts, DROPPED, steps, settings=SETTINGS)
    assert again.recovered == whole.recovered
    assert again.blocks[1].steps == ()
