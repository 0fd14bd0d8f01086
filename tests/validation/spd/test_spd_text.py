"""Text becomes windows of tokens, or one line says why not."""

import io
import json
import os
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from isotune.simulator.errors import InputError
from isotune.validation.spd.model import read_corpus, read_tokenizer

TEXT = "to be or not to be that is the question " * 20


@pytest.fixture
def words(tmp_path):
    """A folder with a tokenizer of words that opens every text."""
    names = ["<s>", *sorted(set(TEXT.split()))]
    vocab = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    folder = tmp_path / "words"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = '{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"}'
    (folder / "tokenizer_config.json").write_text(config)
    return folder


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def test_every_window_opens_with_the_tokenizers_first_token(words, file):
    tokenizer = read_tokenizer(words, None, 10)
    corpus = read_corpus([file, file], tokenizer)
    assert corpus.tokens == 2 * len(TEXT.split())
    windows = corpus.windows(9)
    assert windows.ids[:, 0].tolist() == [0] * len(windows)
    assert windows.ids[:, 1:].flatten().tolist() == torch.cat(corpus.files).tolist()
    assert windows.scored == 8


def test_every_token_after_the_first_window_is_scored_once_whatever_the_stride(file, tmp_path):
    corpus = read_corpus([file], read_tokenizer(tmp_path, "bytes", 256))
    windows = corpus.windows(32, stride=8)
    scored = windows.ids[:, -windows.scored :].flatten().tolist()
    assert bytes(scored) == TEXT.encode()[24 : 24 + len(scored)]


def test_the_held_back_text_is_the_end_of_every_file_and_in_no_other_window(file, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("x" * 100 + "y" * 100)
    corpus = read_corpus([file, other], read_tokenizer(tmp_path, "bytes", 256))
    first, last = corpus.split(0.25)
    assert [len(part) for part in last.files] == [200, 50]
    assert bytes(last.files[1].tolist()) == b"y" * 50
    assert first.tokens + last.tokens == corpus.tokens


def test_a_seed_draws_the_same_windows_and_another_seed_others(file, tmp_path):
    corpus = read_corpus([file], read_tokenizer(tmp_path, "bytes", 256))
    one, same, other = (corpus.windows(16, count=9, seed=seed).ids for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("answer", ["y", ""])
def test_code_that_comes_with_a_tokenizer_never_runs(tmp_path, monkeypatch, answer):
    folder, ran = tmp_path / "evil", tmp_path / "ran"
    folder.mkdir()
    code = f"from pathlib import Path\nPath({str(ran)!r}).touch()\nclass Evil: pass\n"
    (folder / "tokenization_evil.py").write_text(code)
    auto = {"AutoTokenizer": ["tokenization_evil.Evil", "tokenization_evil.Evil"]}
    config = {"tokenizer_class": "Evil", "auto_map": auto}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
    with pytest.raises(InputError, match="isotune runs no code of a model") as error:
        read_tokenizer(folder, None, 256)
    assert str(error.value).isprintable()
    assert not ran.exists()


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "huge"])
def test_a_text_is_a_regular_file_of_a_texts_size(tmp_path, kind):
    path = tmp_path / "text"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as sparse:
            sparse.truncate(2_000_000_000)
    with pytest.raises(InputError, match="larger than" if kind == "huge" else "not a file"):
        read_corpus([path], read_tokenizer(tmp_path, "bytes", 256))


def test_text_and_tokenizer_errors_are_one_line(words, file, tmp_path):
    with pytest.raises(InputError, match=r"no tokenizer in it \(allowed: --tokenizer FOLDER"):
        read_tokenizer(tmp_path, None, 256)
    with pytest.raises(InputError, match="the model knows 131 tokens, not 256"):
        read_tokenizer(tmp_path, "bytes", 131)
    with pytest.raises(
        InputError, match="the tokenizer goes up to token 8, the model knows 5 tokens"
    ):
        read_tokenizer(words, None, 5)
    (words / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="transformers cannot read its tokenizer"):
        read_tokenizer(words, None, 10)
    corpus = read_corpus([file], read_tokenizer(tmp_path, "bytes", 256))
    with pytest.raises(InputError, match="800 tokens are shorter than the context of 1000"):
        corpus.windows(1000)
    with pytest.raises(InputError, match="stride 40: no such windows"):
        corpus.windows(32, stride=40)
    with pytest.raises(InputError, match=r"nowhere\.txt: cannot read it"):
        read_corpus([tmp_path / "nowhere.txt"], read_tokenizer(tmp_path, "bytes", 256))
