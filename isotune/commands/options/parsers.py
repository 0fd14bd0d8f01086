"""Texts of options as values: each reader says in one line what is allowed.

A reader takes a text and raises `InputError`; `option` hands it to Typer, which names the option.
"""

import datetime
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import typer

from isotune.simulator.errors import InputError
from isotune.simulator.schedule import STEPS, steps_of

Value = TypeVar("Value")
_MOST_SIZES = 1_000_000
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class TokenRange(NamedTuple):
    """Prompt lengths from `first` to `last`; one length where both are the same."""

    first: int
    last: int
    several: bool = False


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A reader of whole numbers from `least` to `most`."""
    allowed = f"{least} or more" if most is None else f"{least} to {most}"

    def read(text: str) -> int:
        number = int(text) if re.fullmatch(r"-?[0-9]{1,12}", text) else None
        if number is None or number < least or (most is not None and number > most):
            raise InputError(f"{text!r:.40} is not a whole number (allowed: {allowed})")
        return number

    return read


def real(least: float) -> Callable[[str], float]:
    """A reader of numbers from `least` on."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not least <= number < float("inf"):
            raise InputError(f"{text!r:.40} is not a number (allowed: {least:g} or more)")
        return number

    return read


def tokens(text: str) -> int:
    """`4096`, `4k` (k = 1024) or `1M` (M = 1024 k) as a number of tokens."""
    match = re.fullmatch(r"(-?[0-9]{1,12})([kKmM]?)", text)
    if match is None:
        raise InputError(f"{text!r:.60} is not a number of tokens such as 4096, 4k or 1M")
    return int(match[1]) * {"": 1, "k": 1024, "m": 1024**2}[match[2].lower()]


def token_range(text: str) -> TokenRange:
    """`4k` or `1k:128k` as one prompt length or a range of them."""
    first, colon, last = text.partition(":")
    return TokenRange(tokens(first), tokens(last if colon else first), several=bool(colon))


def least_and_most(text: str) -> TokenRange:
    """`4k` or `64:4k` as rows to measure, from 1 unless the fewest are given."""
    least, colon, most = text.rpartition(":")
    found = TokenRange(tokens(least) if colon else 1, tokens(most))
    if not 1 <= found.first <= found.last:
        raise InputError(f"{text!r} (allowed: 1 or more, as 4k or 64:4k)")
    return found


def fraction(text: str) -> float:
    """`1%` or `0.01` as a fraction."""
    number, scale = (text[:-1], 100.0) if text.endswith("%") else (text, 1.0)
    try:
        value = float(number) / scale
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise InputError(f"{text!r} is not a share between 0 and 1, such as 1% or 0.01")
    return value


def fraction_or_none(text: str) -> float | None:
    """A fraction, or None for `none`."""
    return None if text == "none" else fraction(text)


def proper_fraction(text: str) -> float:
    """A fraction above 0 and below 1."""
    value = fraction(text)
    if not 0.0 < value < 1.0:
        raise InputError(f"{text!r} leaves no text (allowed: between 0 and 1)")
    return value


def two_fractions(text: str) -> tuple[float, float]:
    """`0.1%,1%` as two fractions."""
    parts = text.split(",")
    if len(parts) != 2:
        raise InputError(f"{text!r:.40} is not two shares such as 0.1%,1%")
    return fraction(parts[0].strip()), fraction(parts[1].strip())


def sizes(text: str) -> tuple[int, ...]:
    """`2432,1664` as sizes."""
    return tuple(tokens(part) for part in _parts(text))


def sizes_or_range(text: str) -> tuple[int, ...]:
    """`1k,2k`, or `1k:8k:1k` (first, last and step), as sizes."""
    if ":" not in text:
        return sizes(text)
    ends = sizes(text.replace(":", ","))
    if len(ends) != 3 or ends[2] < 1 or ends[0] > ends[1]:
        raise InputError(f"{text!r} is not first:last:step such as 1k:8k:1k")
    found = range(ends[0], ends[1] + 1, ends[2])
    if len(found) > _MOST_SIZES:
        raise InputError(f"{text!r:.60} is {len(found)} sizes (allowed: up to {_MOST_SIZES})")
    return tuple(found)


def counts(text: str) -> tuple[int, ...]:
    """`2,4,8` as counts, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,5}", part) and int(part) for part in parts):
        raise InputError(f"{text!r:.60} is not a number above 0, or several such as 2,4,8")
    return tuple(dict.fromkeys(map(int, parts)))


def blocks(text: str) -> tuple[int, ...]:
    """`0-3,7` as block numbers, sorted; an empty text drops nothing."""
    numbers: set[int] = set()
    for part in _parts(text):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise InputError(f"{part!r:.60} is not a block or a range of blocks such as 0-3,7")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


def names(text: str) -> tuple[str, ...]:
    """`a,b` as names."""
    return _parts(text)


def treatment_names(text: str) -> tuple[str, ...]:
    """`bias,bias+distil` as treatments of a dropped block: recovery steps in their order."""
    treatments = _parts(text)
    for name in treatments:
        steps_of(name)
    return treatments


def steps(text: str) -> tuple[str, ...]:
    """`heads,distil` as recovery steps in their order; `none` as no step."""
    named = _parts(text)
    if named == ("none",):
        return ()
    unknown = [name for name in named if name not in STEPS]
    if unknown or not named:
        what = f"unknown step {unknown[0]!r:.40}" if unknown else "no step given"
        raise InputError(f"{what} (allowed: {', '.join(STEPS)}, or none)")
    return tuple(step for step in STEPS if step in named)


class BlockSteps(NamedTuple):
    """Recovery steps of some blocks."""

    blocks: tuple[int, ...]
    steps: tuple[str, ...]


def block_steps(text: str) -> BlockSteps:
    """`0,3=heads,distil` as recovery steps of blocks."""
    numbers, equals, named = text.partition("=")
    if not equals:
        raise InputError(f"{text!r:.60} is not blocks=steps: 0,3=heads,distil")
    return BlockSteps(blocks(numbers), steps(named))


def duration(text: str) -> float:
    """`600s`, `10min` or `1h` in seconds."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h|)\s*", text)
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if seconds <= 0:
        raise InputError(f"{text!r:.40} is not a time such as 600s, 10min or 1h")
    return seconds


def iso_date(text: str) -> str:
    """`2026-01-31`, checked."""
    try:
        return str(datetime.date.fromisoformat(text))
    except ValueError as error:
        raise InputError(f"{text!r} is not a date such as 2026-01-31") from error


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


class Choices:
    """A closed set of names: reads one or several, and offers them to the shell.

    An alias is read as its name, if that is allowed.
    """

    def __init__(
        self,
        allowed: Iterable[str],
        what: str = "value",
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.allowed = tuple(allowed)
        self._what = what
        self._aliases = aliases or {}

    def __str__(self) -> str:
        """`a, b or c`, for a help text."""
        *most, last = self.allowed
        return f"{', '.join(most)} or {last}" if most else last

    def one(self, text: str) -> str:
        """One of the names."""
        name = self._aliases.get(text, text)
        if name not in self.allowed:
            raise InputError(
                f"unknown {self._what} {text!r:.60} (allowed: {', '.join(self.allowed)})"
            )
        return name

    def several(self, text: str) -> tuple[str, ...]:
        """Several of the names, in the order given."""
        chosen = _parts(text)
        if not chosen:
            raise InputError(f"no {self._what} given (allowed: {', '.join(self.allowed)})")
        return tuple(map(self.one, chosen))

    def complete(self, incomplete: str) -> list[str]:
        """The names that a word can become, its last one where several stand in it."""
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in self.allowed if name.startswith(last)]


def reader(read: Callable[[str], Value]) -> Callable[[Any], Any]:
    """A reader as Typer wants it: its complaint names the option, a default passes as it is."""

    def parse(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        try:
            return read(text)
        except InputError as error:
            raise typer.BadParameter(str(error)) from error

    return parse


def option(flag: str, read: Callable[[str], Any], metavar: str, help: str, **more: Any) -> Any:
    """An option whose text `read` makes into a value."""
    return plain(flag, metavar, help, parser=reader(read), **more)


def plain(flag: str, metavar: str, help: str, **more: Any) -> Any:
    """An option that Typer reads by itself: a path or a name."""
    return typer.Option(flag, metavar=metavar, help=help, **more)


def output_option(help: str, metavar: str = "FILE", **more: Any) -> Any:
    """`-o`, `--output`."""
    return typer.Option("-o", "--output", metavar=metavar, help=help, **more)


def choice(
    flag: str,
    allowed: Sequence[str],
    help: str,
    *,
    aliases: Mapping[str, str] | None = None,
    **more: Any,
) -> Any:
    """An option that takes one of a closed set of names; help and completion list them."""
    names = Choices(allowed, aliases=aliases)
    return option(
        flag,
        names.one,
        "NAME",
        f"{help}: {names}.",
        autocompletion=names.complete,
        **more,
    )


def choices(flag: str, names: Choices, help: str, *, metavar: str = "NAMES", **more: Any) -> Any:
    """An option that takes several of a closed set, comma-separated."""
    return option(
        flag,
        names.several,
        metavar,
        f"{help}, comma-separated: {', '.join(names.allowed)}.",
        autocompletion=names.complete,
        **more,
    )
