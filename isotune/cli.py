"""The command line: one file per command in `isotune.commands`, no modelling anywhere in it."""

import io
import os
import sys
import time
from collections.abc import Iterable
from typing import Annotated, ClassVar, NoReturn

import typer
from pydantic import ValidationError

from isotune._version import __version__
from isotune.commands.options import (
    Entry,
    LazyGroup,
    StoppedError,
    hide_arguments,
    invoked,
    say,
)
from isotune.simulator.errors import InputError, IsotuneError
from isotune.simulator.io import explain, heard, keep_interrupts, secrets_in

_ENTRIES = (
    (
        "Plan",
        {
            "search": "Find the best plan for a machine, and what each technique would save by "
            "itself.",
            "compare": "Would another layout, engine or machine beat hiding the all-reduces?",
            "predict": "Predict one plan: latency, exposed communication, and where the time goes.",
            "sweep": "Predict every combination of hardware, model, tp, batch, length and "
            "strategy.",
        },
    ),
    (
        "Machine and model",
        {
            "hw": "Hardware profiles: list, show, compare, write.",
            "models": "Models that isotune knows.",
            "engines": "Serving engines: list, show, compare.",
            "measure": "Measure GEMMs, attention, norms, all-reduces and their contention into a "
            "table.",
            "calibrate": "Fit a profile to measurements, and print its errors and what the rows "
            "leave open.",
            "check": "Score a profile against measurements: how large are its errors on this GPU?",
            "import": "Read what other tools wrote.",
            "doctor": "What is here (GPUs, links, NCCL, extras), which profile fits, and what to "
            "do next.",
        },
    ),
    (
        "Real runs",
        {
            "validate": "Run a plan for real: does it compute what the model computes, in the time "
            "predicted?",
        },
    ),
    (
        "Accuracy of dropped all-reduces (SPD)",
        {
            "sensitivity": "Measure the perplexity that each dropped attention all-reduce of a "
            "checkpoint costs.",
            "recover": "Recover the accuracy of blocks whose all-reduces are dropped; writes a "
            "model folder.",
            "remeasure": "Measure the perplexity of a plan's drop set and correct the sensitivity "
            "table.",
        },
    ),
    (
        "Results",
        {
            "report": "Make one self-contained HTML page of saved results: no network, opens from "
            "disk.",
            "export": "Write a plan or a policy for a serving engine, and say what its format "
            "cannot express.",
        },
    ),
)

_MODULES = {
    "import": "measurements.imports",
    **{name: f"measurements.{name}" for name in ("measure", "calibrate", "check")},
    **{name: f"spd.{name}" for name in ("sensitivity", "recover", "remeasure")},
}
"""The module of a command in `isotune.commands`, where it is not named like the command."""


class CommandLine(LazyGroup):
    """The commands of isotune, each in a module of its own."""

    ENTRIES: ClassVar = {
        name: Entry(
            panel=panel,
            summary=summary,
            module=f"isotune.commands.{_MODULES.get(name, name)}",
        )
        for panel, commands in _ENTRIES
        for name, summary in commands.items()
    }


app = typer.Typer(
    name="isotune",
    help="What overlapping (ISO) or dropping (SPD) all-reduces saves on your hardware.",
    cls=CommandLine,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_INTERRUPTED = 130
_LONGEST = 480
"""Characters of a message on standard error."""
_FIRST_RANK_S = 30.0
"""How long the other ranks leave a complaint to the first one of their machine."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; bad input is one line on stderr and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    given = sys.argv[1:] if arguments is None else arguments
    invoked.set(tuple(given))
    try:
        keep_interrupts()  # within: from here on Ctrl-C is an exception
        hide_arguments(secret for argument in given for secret in secrets_in(argument))
        _check_text(given)
        code = app(args=given, prog_name="isotune", standalone_mode=False) or 0
        if code == _INTERRUPTED:  # what Typer makes of Ctrl-C
            heard()
            raise StoppedError("interrupted")
        sys.exit(code)
    except typer.BadParameter as error:
        _fail(_in_one_line(error))
    except typer.TyperException as error:
        _fail(" ".join(error.format_message().split()))
    except StoppedError as error:
        say(f"isotune: {error}")
        sys.exit(_INTERRUPTED)
    except IsotuneError as error:
        _fail(str(error))
    except ValidationError as error:  # a value that is sound by itself, and not with others
        _fail(explain(error))
    except (KeyboardInterrupt, typer.Abort):
        heard()
        say("isotune: interrupted")
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        _fail(f"cannot write the output ({error.strerror})")


def _check_text(arguments: Iterable[str]) -> None:
    """Refuse what no file that isotune writes can hold.

    Raises:
        InputError: an argument that is not UTF-8.
    """
    for argument in arguments:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise InputError(f"{argument!r:.80} is not UTF-8 text")


def _in_one_line(error: typer.BadParameter) -> str:
    """`--prompt: what is wrong with it`; what is missing says so itself."""
    if type(error) is not typer.BadParameter or error.param is None:
        return " ".join(error.format_message().split())
    flags = [flag for flag in error.param.opts if flag.startswith("--")]
    return f"{(flags or error.param.opts)[-1]}: {error.message}"


def _fail(message: str) -> NoReturn:
    _let_the_first_rank_say_it()
    say(f"isotune: {_cut(message)}")
    sys.exit(2)


def _cut(message: str) -> str:
    """A message that fits a screen; the longest lists what is allowed."""
    if len(message) <= _LONGEST:
        return message
    half = _LONGEST // 2 - 5
    return f"{message[:half]} [...] {message[-half:]}"


def _let_the_first_rank_say_it() -> None:
    """Under torchrun all ranks of a machine meet the same bad input, and one line is enough.

    The others wait for torchrun, which ends them when the first has ended. One that nobody ends
    is alone with its complaint, and makes it.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(_FIRST_RANK_S)


def _version(asked: bool) -> None:
    if asked:
        print(f"isotune {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "-V", "--version", callback=_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """What overlapping (ISO) or dropping (SPD) all-reduces saves on your hardware."""
