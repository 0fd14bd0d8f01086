"""Files from a stranger are data: they cannot run code, and what is wrong is said in one line."""

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isotune.simulator.errors import InputError
from isotune.simulator.io import check_writable, read_text, read_yaml, write_text
from isotune.simulator.io.text_files import MAX_BYTES


def refusal(path: Path, content: str | bytes) -> str:
    """The one line with which a YAML file of that content is refused."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    assert "\n" not in message
    return message


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "input.yaml"


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch pwned']",
        "!!python/object/new:os.system ['touch pwned']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/tuple [1, 2]",
        "!custom {a: 1}",
        "! x",
        "!!int ''",
        "!!bool maybe",
        "!!timestamp nonsense",
        "!!set {a, b}",
    ],
)
def test_tags_are_refused_and_nothing_runs(
    file: Path, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    assert "line 2: malformed YAML: tags are not allowed" in refusal(file, f"b: 1\na: {value}\n")
    assert not Path("pwned").exists()


def test_a_tag_at_the_top_is_refused(file: Path) -> None:
    assert "line 1: malformed YAML: tags are" in refusal(file, "!!python/object:os.system {}\n")


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: &x 1\nb: *x\n", 2, "aliases are not allowed"),
        ("a: 1\nb: 2\na: 3\n", 3, "key 'a' is given twice"),
        ("a:\n  b: 1\n  b: 2\n", 3, "key 'b' is given twice"),
        ("a: 1\n? [1, 2]\n: 3\n", 2, "a key must be plain text"),
        ("a: 1\n? {b: 1}\n: 3\n", 2, "a key must be plain text"),
        ("a: 1\nb: [1, 2\nc: 3\n", 3, "expected ',' or ']'"),
        ("a: 1\n\tb: 2\n", 2, "cannot start any token"),
        ("a: 'open\n", 2, "unexpected end of stream"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
    ],
)
def test_malformed_yaml_names_the_line(file: Path, text: str, line: int, problem: str) -> None:
    message = refusal(file, text)
    assert f"{file}: line {line}: malformed YAML: " in message
    assert problem in message


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a: \xff\n", "not UTF-8 text (byte 3)"),
        ("a: \x01\n", "malformed YAML"),
        ("a: 2024-13-45\n", "malformed YAML"),
        ("[" * 5000, "malformed YAML"),
        ("{a: " * 3000, "malformed YAML"),
        ("", "expected a mapping of fields, found NoneType"),
        ("- 1\n- 2\n", "expected a mapping of fields, found list"),
        ("just text\n", "expected a mapping of fields, found str"),
        (b"a: " + b"x" * MAX_BYTES, f"larger than {MAX_BYTES} bytes"),
    ],
    ids=str.split("latin1 control date lists mappings empty list text large"),
)
def test_what_is_no_mapping_of_plain_data_is_refused(
    file: Path, content: str | bytes, problem: str
) -> None:
    assert problem in refusal(file, content)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=" \n:-[]{}?,!&*|>'\"%@`#ab01<=~.\t", max_size=30))
def test_no_text_whatever_escapes_as_another_error(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    try:
        assert isinstance(read_yaml(file), dict)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017  (either outcome is right, no third one)


@pytest.mark.parametrize("name", ["missing.yaml", "no/such/folder.yaml", "a" * 300, "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"cannot read it|not a file"):
        read_text(tmp_path / name)


def test_an_endless_device_is_refused() -> None:
    with pytest.raises(InputError, match="/dev/zero"):
        read_text(Path("/dev/zero"))


def test_writing_replaces_the_file_and_leaves_nothing_else(file: Path) -> None:
    file.write_text("old", encoding="utf-8")
    write_text(file, "new: é\n")
    assert file.read_text(encoding="utf-8") == "new: é\n"
    assert os.listdir(file.parent) == [file.name]  # noqa: PTH208


def test_a_written_file_has_the_permissions_of_any_new_file(file: Path) -> None:
    write_text(file, "x")
    other = file.with_name("other")
    other.touch()
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing_else(file: Path) -> None:
    file.write_text("old", encoding="utf-8")
    with pytest.raises(InputError, match="not UTF-8"):
        write_text(file, "begun, then \ud800")
    assert file.read_text(encoding="utf-8") == "old"
    assert os.listdir(file.parent) == [file.name]  # noqa: PTH208


@pytest.mark.parametrize("name", ["", "no/such/folder.yaml", "a" * 300])
@pytest.mark.parametrize("act", [lambda path: write_text(path, "x"), check_writable])
def test_an_unwritable_output_is_refused(tmp_path: Path, name: str, act) -> None:
    with pytest.raises(InputError, match="cannot write it"):
        act(tmp_path / name)
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_checking_that_an_output_is_writable_leaves_no_trace(file: Path) -> None:
    check_writable(file)
    assert os.listdir(file.parent) == []  # noqa: PTH208


def test_a_pipe_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_text(encoding="utf-8")))
    reader.start()
    check_writable(pipe)
    write_text(pipe, "through")
    reader.join(timeout=10)
    assert received == ["through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
