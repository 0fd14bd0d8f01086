"""A command is a frozen dataclass: its fields are the options, `run` does the work.

Options that several commands take stand in dataclasses that they inherit. A class that names a
`PANEL` puts the options that it declares into that panel of the help.
"""

import inspect
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import MISSING, fields
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo, ParameterInfo

CONTEXT = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
"""The parameter by which Typer hands over what stands on the command line."""


class Request(Protocol):
    """What a command is asked, with the work that answers it."""

    def run(self) -> None:
        """Do it, and print the result."""
        ...


def command(request: type[Request]) -> Callable[..., None]:
    """A function for Typer that takes a request's fields as options, and runs the request."""

    def run(**options: Any) -> None:
        request(**options).run()

    return with_signature(run, parameters(request), request.__doc__)


def application(
    function: Callable[..., None], renamed: dict[str, str] | None = None
) -> typer.Typer:
    """A command by itself; it takes options by earlier names too, its help has the new ones."""
    names = renamed or {}
    app = typer.Typer(add_completion=False)
    app.command(context_settings={"token_normalize_func": lambda name: names.get(name, name)})(
        function
    )
    return app


def with_signature(
    function: Callable[..., None], signature: list[inspect.Parameter], doc: str | None
) -> Callable[..., None]:
    """The function with the parameters that Typer shall read."""
    function.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    function.__annotations__ = {item.name: item.annotation for item in signature}
    paragraphs = inspect.cleandoc(doc or "").split("\n\n")
    function.__doc__ = "\n\n".join(" ".join(text.split()) for text in paragraphs)
    return function


def parameters(*requests: type) -> list[inspect.Parameter]:
    """The options of one request or the union of several, each once, in the order of their panels.

    Raises:
        TypeError: two requests have an option of the same name that differs.
    """
    union: dict[str, inspect.Parameter] = {}
    for request in requests:
        for parameter in _parameters(request):
            known = union.setdefault(parameter.name, parameter)
            if _flags(known) != _flags(parameter) or known.default != parameter.default:
                raise TypeError(f"{parameter.name} has two meanings: {known}, {parameter}")
    return list(union.values())


def _flags(parameter: inspect.Parameter) -> tuple[Any, ...]:
    info = get_args(parameter.annotation)[-1]
    return info.default, info.param_decls


def _parameters(request: type) -> Iterator[inspect.Parameter]:
    """A request's options: those of each class that it inherits from, then its own."""
    hints = get_type_hints(request, include_extras=True)
    defaults = {field.name: field.default for field in fields(request)}
    for owner, name in dict.fromkeys(_declared(request)):
        if name in defaults:
            default = defaults.pop(name)
            yield inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if default is MISSING else default,
                annotation=_annotation(hints[name], vars(owner).get("PANEL")),
            )


def _declared(request: type) -> Iterator[tuple[type, str]]:
    for base in request.__bases__:
        yield from _declared(base)
    yield from ((request, name) for name in vars(request).get("__annotations__", {}))


def _annotation(hint: Any, panel: str | None) -> Any:
    """An option's type as Typer wants it: a text where a reader makes the value of it."""
    kind, info = get_args(hint)[0], get_args(hint)[-1]
    if get_origin(hint) is not Annotated or not isinstance(info, ParameterInfo):
        raise TypeError(f"{hint} is no option")
    if info.parser is not None:
        kind = _as_text(kind)
    info = copy(info)
    info.rich_help_panel = info.rich_help_panel or panel
    if isinstance(info, OptionInfo) and kind is bool:
        info.metavar = ""
    return Annotated[kind, info]


def _as_text(kind: Any) -> Any:
    """The type of an option before its reader: a text, a list of them, or None."""
    options = [one for one in get_args(kind) if one is not type(None)] or [kind]
    text = list[str] if get_origin(options[0]) is list else str
    return text | None if type(None) in get_args(kind) else text


def given(context: typer.Context) -> frozenset[str]:
    """The names of the options that stand on the command line."""
    names = (str(parameter.name) for parameter in context.command.params)
    sources = ((name, context.get_parameter_source(name)) for name in names)
    return frozenset(name for name, source in sources if source and source.name == "COMMANDLINE")
