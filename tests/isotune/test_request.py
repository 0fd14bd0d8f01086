"""Commands are made of requests: an option per field, and no field for what does not go with it."""

import inspect
from dataclasses import dataclass, fields
from typing import Annotated, ClassVar

import pytest
import typer

from isotune.commands.options import choice, command, counts, option, parameters
from isotune.commands.search import KINDS, kind_of

DEFAULTS = {p.name: p.default for p in parameters(*KINDS)}


@dataclass(frozen=True, kw_only=True)
class Shape:
    PANEL: ClassVar = "Shape"
    tp: Annotated[tuple[int, ...] | None, option("--tp", counts, "N", "Ranks.")] = None


@dataclass(frozen=True, kw_only=True)
class Told(Shape):
    """Tell the shape."""

    colour: Annotated[str, choice("--colour", ("red", "green"), "Colour")] = "red"
    told: ClassVar[list[object]] = []

    def run(self):
        self.told.append((self.tp, self.colour))


@pytest.fixture
def told():
    Told.told.clear()
    app = typer.Typer()
    app.command()(command(Told))

    def call(*arguments):
        app(list(arguments), standalone_mode=False)
        return Told.told.pop()

    return call


def test_a_field_is_an_option_with_its_reader_and_its_default(told):
    assert told() == (None, "red")
    assert told("--tp", "2,4", "--colour", "green") == ((2, 4), "green")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("--tp", "0"), "not a number above 0"), (("--colour", "blue"), "allowed: red, green")],
)
def test_a_reader_says_what_is_allowed(told, arguments, says):
    with pytest.raises(typer.BadParameter, match=says):
        told(*arguments)


def test_inherited_options_come_first_in_their_panel():
    (shape, colour) = parameters(Told)
    assert (shape.name, colour.name) == ("tp", "colour")
    assert shape.annotation.__metadata__[0].rich_help_panel == "Shape"
    assert shape.kind is inspect.Parameter.KEYWORD_ONLY


def test_an_option_of_two_requests_has_one_meaning():
    @dataclass(frozen=True, kw_only=True)
    class Other:
        tp: Annotated[int, option("--tp", int, "N", "Another.")] = 1

    with pytest.raises(TypeError, match="tp has two meanings"):
        parameters(Shape, Other)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "PlanSearch"),
        ({"tp": (2, 4)}, "DeploymentSearch"),
        ({"prompts": "lengths.csv"}, "PolicySearch"),
        ({"storage": "sqlite:///x"}, "SharedSearch"),
        ({"storage": "sqlite:///x", "measured": True}, "MeasuredSearch"),
        ({"storage": "sqlite:///x", "join": "study"}, "JoinedSearch"),
    ],
)
def test_the_options_tell_the_kind_of_search(options, kind):
    assert kind_of(DEFAULTS | options).__name__ == kind


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_kind_of_search_says_nothing_of_options_it_does_not_take(kind):
    mine = {field.name for field in fields(kind)}
    assert mine < set(DEFAULTS)
    assert ("output" in mine) == (kind.__name__ != "StepSearch")
    untried = ("PolicySearch", "JoinedSearch", "StepSearch")
    assert ("trials" in mine) == (kind.__name__ not in untried)
