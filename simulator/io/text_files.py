"""Reading and writing the files a user touches: YAML in, one-line errors out."""

import gzip
import json
import math
import os
import re
import zlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from isotune.simulator.errors import InputError
from isotune.simulator.io.leftovers import remove_leftovers, temporary_file
from isotune.simulator.io.schema import explain, plain
from isotune.simulator.io.units import FROM_FILE

MAX_BYTES = 4_000_000
MAX_INTEGER = 2**63 - 1
"""What a whole number in a file may be at most, either side of zero."""
_HALF = re.compile(r"\\[uU](?:0000)?[dD][89a-fA-F]")
"""The escape of half a character, which with another half may make a whole one."""
Table = TypeVar("Table", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """Plain data only: no tags, no aliases, no key that is not plain or is given twice."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        refused = ""
        if isinstance(event, yaml.AliasEvent):
            refused = "aliases are not allowed"
        elif event.tag is not None:
            refused = f"tags are not allowed ({event.tag:.60})"
        if refused:
            raise yaml.composer.ComposerError(None, None, refused, event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be plain text", key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r:.60} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        return _integer(str(super().construct_yaml_int(node)))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _integer(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > MAX_INTEGER:
        raise ValueError(f"{text:.20}... is too large (allowed: up to {MAX_INTEGER})")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text:.20} is not a finite number")
    return value


def _check_characters(text: str, data: object) -> None:
    """Refuse data of a text with half a character in it, which no file and no terminal takes.

    Raises:
        ValueError: there is one.
    """
    if _HALF.search(text) and re.search(r"[\ud800-\udfff]", _texts(data)):
        raise ValueError("half a character (a lone surrogate such as \\ud800)")


def _texts(data: object) -> str:
    """The texts in plain data, keys included, one after the other."""
    if isinstance(data, dict):
        return "".join(_texts(key) + _texts(value) for key, value in data.items())
    if isinstance(data, list):
        return "".join(map(_texts, data))
    return data if isinstance(data, str) else ""


def read_bytes(path: Path, most: int) -> bytes:
    """The bytes of a file, unpacked where its name ends in `.gz`; `most` counts them unpacked.

    Raises:
        InputError: the file is missing, unreadable, damaged or too large.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: not a file")
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as file:
            data = file.read(most + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: damaged gzip data ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot read it ({error.strerror or error})") from error
    if len(data) > most:
        raise InputError(f"{path}: larger than {most} bytes, which no such file should be")
    return bytes(data)


def read_text(path: Path, most: int = MAX_BYTES) -> str:
    """The text of a UTF-8 file (`.gz` is unpacked) of at most `most` bytes.

    Raises:
        InputError: the file is missing, unreadable, too large or not UTF-8.
    """
    try:
        text = read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping, loaded safely.

    Raises:
        InputError: unreadable file, malformed YAML (with its line), or not a mapping.
    """
    text = read_text(path)
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader, narrowed further)
        _check_characters(text, data)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise InputError(f"{path}:{line} malformed YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: malformed YAML: {first:.200}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a mapping of fields, found {type(data).__name__}")
    return data


def read_json(path: Path, most: int = MAX_BYTES, *, infinities: bool = False) -> dict[str, Any]:
    """A JSON object in a file of at most `most` bytes.

    `infinities` allows the words Infinity and NaN, which JSON has not but transformers writes.

    Raises:
        InputError: unreadable file, malformed JSON (with its line), or not an object.
    """
    try:
        text = read_text(path, most)
        constant = float if infinities else _finite
        data = json.loads(text, parse_int=_integer, parse_float=_finite, parse_constant=constant)
        _check_characters(text, data)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: line {error.lineno}: malformed JSON: {error.msg}") from error
    except RecursionError as error:
        raise InputError(f"{path}: malformed JSON: nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{path}: malformed JSON: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data


def validate(table: type[Table], data: object, where: object) -> Table:
    """Data read from a file as a `table`; see `checked`. Quantities must carry their unit."""
    return checked(table, data, where, FROM_FILE)


def checked(
    table: type[Table], data: object, where: object, context: dict[str, bool] | None = None
) -> Table:
    """`data` as a `table`.

    Raises:
        InputError: one line with `where`, the field's path, and what is allowed.
    """
    try:
        # What was read from a file has Python's own numbers already.
        return table.model_validate(data if context else plain(data), context=context)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error)}") from error


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all (temporary name, then rename).

    A device or pipe (`/dev/null`, `/dev/stdout`) is written to, never replaced.

    Raises:
        InputError: the folder is missing or not writable, or the disk is full.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path}: cannot write it (it is a folder)")
        if _is_special(path):
            path.write_text(text, encoding="utf-8")
            return
        with temporary_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot write it ({error.strerror})") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: cannot write it (a text in it is not UTF-8)") from error


def check_writable(path: Path) -> None:
    """Refuse an output path before the work starts, not after it.

    Raises:
        InputError: the file cannot be written there.
    """
    if _is_special(path):
        return
    try:
        with temporary_file(path):
            remove_leftovers(path)
    except OSError as error:
        raise InputError(f"{path}: cannot write it ({error.strerror})") from error
    if path.is_dir():
        raise InputError(f"{path}: cannot write it (it is a folder)")


def _is_special(path: Path) -> bool:
    # os.path, unlike Path, answers for an overlong name instead of raising.
    there = os.path.exists(path)  # noqa: PTH110
    return there and not (os.path.isfile(path) or os.path.isdir(path))  # noqa: PTH112, PTH113
