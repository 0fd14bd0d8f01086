"""Texts in files stay texts, and broken files are one line, whatever the kind of file.

By hand, for longer: `python experiments/fuzz.py --seconds 600`.
"""

import csv
import json
from pathlib import Path

import fuzz
import pytest
import yaml

PLACES = 10
"""Texts of a file that are hostile, one at a time; spread over the file."""


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A sound file of each kind, and a working directory that has them."""
    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield fuzz.examples(folder)


def spread(items):
    return items[:: -(-len(items) // PLACES)]


def poisoned(data, hostile):
    """The data with one text, or one key, that is hostile."""
    texts = []
    for path in fuzz.leaves(data):
        value = data
        for key in path:
            value = value[key]
        if isinstance(value, str):
            texts.append(path)
    for path in spread(texts):
        yield fuzz.changed(data, path, hostile)
    if isinstance(data, dict):
        yield data | {hostile: 1}
        first = next(iter(data))
        yield {hostile if key == first else key: value for key, value in data.items()}
        yield fuzz.changed(data, (first,), hostile)


def written_plainly(folder):
    """Whatever a command wrote holds no formula, no markup and no second document."""
    for path in folder.glob("out*"):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".csv":
            cells = [cell for row in csv.reader(text.splitlines()) for cell in row]
            assert not [cell for cell in cells if cell.startswith(("=", "@"))]
            assert text.isprintable() or set(text) - {"\n"} == {c for c in text if c.isprintable()}
        elif path.suffix == ".html":
            assert "<img src=x" not in text
        elif path.suffix == ".yaml":
            yaml.safe_load(text)
            assert not any(line.startswith(fuzz.FORGED) for line in text.splitlines())
        elif path.suffix == ".json":
            json.loads(text)
        path.unlink()


@pytest.mark.parametrize("hostile", fuzz.HOSTILE, ids=["formula", "bidi"])
@pytest.mark.parametrize("name", [name for name in fuzz.KINDS if name not in fuzz.LOADED_ONLY])
def test_a_hostile_text_reaches_nothing(texts, name, hostile):
    kind, folder = fuzz.KINDS[name], Path.cwd() / "hostile"
    folder.mkdir(exist_ok=True)
    file = folder / kind.name
    for data in poisoned(kind.format.read(texts[name]), hostile):
        file.write_text(kind.format.write(data), encoding="utf-8")
        for command in kind.commands:
            found = fuzz.run(*(word.replace("{}", str(file)) for word in command))
            assert not fuzz.complaint(found), command
            if command[0] == "export":
                assert not any(line.startswith(("=", "@")) for line in found.out.splitlines())
        written_plainly(Path.cwd())


@pytest.mark.parametrize("hostile", fuzz.HOSTILE, ids=["formula", "bidi"])
def test_a_hostile_file_name_reaches_nothing(texts, hostile):
    name = hostile.replace("/", "").replace("\0", "")
    for kind in fuzz.KINDS.values():
        file = Path.cwd() / f"{name}{kind.name}"
        file.write_text(texts.get("plan", ""), encoding="utf-8")
        for command in kind.commands[:1]:
            found = fuzz.run(*(word.replace("{}", str(file)) for word in command))
            assert not fuzz.complaint(found), command
        file.unlink()
    written_plainly(Path.cwd())


def test_a_few_hundred_broken_files_are_answered_in_a_line_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    count, complaints = fuzz.campaign(seconds=60.0, seed=0, most=300)
    assert count == 300
    assert not complaints
