"""`isotune sensitivity`: every drop costs what a whole evaluation says, in far fewer passes."""

import csv
import json

import pytest
from _support.learned import CONTEXT, save_learned_model, windows

from isotune.simulator.architecture import read_model
from isotune.tuner.accuracy import read_sensitivity
from isotune.validation.spd.checkpoint import PartialRun
from isotune.validation.spd.model import evaluate, load_network, scan
from isotune.validation.spd.model import sensitivity_scan as scanning

BLOCKS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("sensitivity") / "tiny"
    return save_learned_model(place, "llama", blocks=BLOCKS, steps=30)


@pytest.fixture
def command(tmp_path, folder, words_text):
    """The command, but for what a test adds."""
    return (
        *("sensitivity", "--model", folder, "--tokenizer", words_text.parent),
        *("--text", words_text, "--tp", "2", "--context", CONTEXT, "--windows", "6"),
        *("--batch", "2", "-o", tmp_path / "out.json", "--json"),
    )


@pytest.fixture
def words_text(tmp_path):
    """A text, beside the tokenizer whose words are the model's 131 tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({f"w{n}": n for n in range(131)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast"}'
    )
    path = tmp_path / "text.txt"
    ids = windows(20, seed=4).ids.flatten().tolist()
    path.write_text(" ".join(f"w{number}" for number in ids))
    return path


def test_both_scans_are_whole_evaluations_for_fewer_block_passes(folder):
    network, text = load_network(folder, 4), windows(6, seed=1)
    found = scan(network, text, batch=4)
    assert found.passes == 2 * (BLOCKS + BLOCKS**2)
    assert found.whole_passes == 2 * (2 * BLOCKS + 1) * BLOCKS
    assert found.perplexity == pytest.approx(evaluate(network, text).perplexity)
    for block in range(BLOCKS):
        alone = evaluate(network, text, dropped=(block,)).perplexity
        after = evaluate(network, text, dropped=range(block, BLOCKS)).perplexity
        assert found.single[block] == pytest.approx(alone, rel=1e-6)
        assert found.cumulative[block] == pytest.approx(after, rel=1e-6)
        assert found.growth("single")[block] == pytest.approx(alone / found.perplexity - 1)
    whole = found.cumulative[0] / found.perplexity - 1
    assert sum(found.growth("cumulative")) == pytest.approx(whole)


def test_an_interrupted_scan_goes_on_to_the_same_numbers(folder, tmp_path):
    network, text = load_network(folder, 2), windows(6, seed=1)
    partial = PartialRun(folder=tmp_path / "partial", digest="a")

    def stop(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(network, text, batch=2, kept=partial, on_progress=stop)
    assert len(list((tmp_path / "partial").iterdir())) == 1
    resumed, whole = scan(network, text, batch=2, kept=partial), scan(network, text, batch=2)
    assert resumed.nats == whole.nats
    assert resumed.passes < whole.passes
    other = PartialRun(folder=tmp_path / "partial", digest="b")
    assert other.read("batch-0") is None
    assert partial.read("batch-0") is not None


def test_the_command_writes_a_table_that_search_reads_and_the_same_one_again(
    isotune, command, folder, tmp_path
):
    code, out, err = isotune(*command)
    assert code == 0, err
    told, file = json.loads(out), (tmp_path / "out.json").read_bytes()
    table = read_sensitivity(tmp_path / "out.json", read_model(folder))
    assert told["block_passes"] == 3 * (BLOCKS + BLOCKS**2)
    assert list(table.blocks) == told["blocks"]
    assert table.classes.count("ISB") == round(0.6 * BLOCKS)
    assert table.measured is not None
    assert table.measured.tp == 2
    assert isotune(*command)[0] == 0
    assert (tmp_path / "out.json").read_bytes() == file
    assert not list(tmp_path.glob(".out.json*"))
    with (tmp_path / "out-blocks.csv").open() as tidy:
        rows = list(csv.DictReader(tidy))
    assert [row["dropped"] for row in rows] == ["alone", "all after", "summed"] * BLOCKS
    assert {row["tp"] for row in rows} == {"2"}
    for block, (alone, after, summed) in enumerate(zip(*[iter(rows)] * 3, strict=True)):
        assert {row["block"] for row in (alone, after, summed)} == {str(block)}
        assert float(alone["perplexity"]) == table.measured.single[block]
        assert float(after["perplexity"]) == table.measured.cumulative[block]
        growth = table.measured.single[block] / table.measured.perplexity - 1
        assert float(alone["growth"]) == pytest.approx(growth)
        assert float(summed["growth"]) == table.blocks[block]
    code, out, _ = isotune(*command, "--tau", "0%,100%", "--scan", "cumulative")
    assert code == 0
    other = json.loads(out)
    kinds = ["ISB" if cost <= 0 else "SB" if cost <= 1 else "ESB" for cost in other["blocks"]]
    assert other["classes"] == kinds
    assert other["blocks"] != told["blocks"]


def test_an_interrupted_command_says_so_and_goes_on(isotune, command, monkeypatch, tmp_path):
    assert isotune(*command)[0] == 0
    whole = (tmp_path / "out.json").read_bytes()
    (tmp_path / "out.json").unlink()
    ran, run = [], scanning._scan

    def stop_at_third(*arguments):
        ran.append(1)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return run(*arguments)

    monkeypatch.setattr(scanning, "_scan", stop_at_third)
    code, _, err = isotune(*command)
    assert code == 130
    assert "the same command goes on from here" in err
    assert not (tmp_path / "out.json").exists()
    code, out, _ = isotune(*command)
    assert code == 0
    assert json.loads(out)["block_passes"] == BLOCKS + BLOCKS**2
    assert (tmp_path / "out.json").read_bytes() == whole


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--tp", "3"), "tp: 3 does not suit tiny"),
        (("--context", "4000"), "beyond the model's 128 positions"),
        (("--context", "100", "--text", "/dev/null"), "/dev/null: not a file (allowed: a regular"),
        (("--tokenizer", "nowhere"), "nowhere: no tokenizer in it"),
        (("--tau", "1%"), "not two shares"),
        (("--tau", "2%,1%"), "tau1 must not be above tau2"),
        (("--tau", "1%,2%", "--budget", "1%"), "exclude each other"),
        (("--dtype", "int4"), "allowed: float32, bf16, fp16"),
        (("--scan", "both"), "allowed: single, cumulative"),
        (("-o", "/nowhere/s.json"), "cannot write it"),
    ],
)
def test_bad_input_is_one_line(isotune, command, extra, message):
    code, _, err = isotune(*command, *extra)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_a_model_without_a_tokenizer_and_a_text_too_short_are_one_line(
    isotune, command, folder, tmp_path
):
    bare = [part for part in command if part not in ("--tokenizer", tmp_path)]
    code, _, err = isotune(*bare)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{folder}: no tokenizer in it" in err
    (tmp_path / "text.txt").write_text("w5 w6 w7")
    code, _, err = isotune(*command)
    assert (code, err.count("\n")) == (2, 1)
    assert "3 tokens are shorter than the context of 24" in err
